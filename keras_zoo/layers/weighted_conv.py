"""Convolutions whose kernel is weighted by a density of the distance to its centre."""

from keras_zoo._catalog import component
from keras_zoo.layers._weighted_conv import BaseWeightedConv


@component(paper="weighted-conv")
class WeightedConv1D(BaseWeightedConv):
    """Convolution along one axis whose kernel is weighted by the distance to its centre.

    As `WeightedConv2D`, which says it all, with

        Phi = alpha                                                (k,)

    and one more padding, `"causal"`, as `keras.layers.Conv1D` has it: output `t` then sees
    inputs up to `t` alone, so the *centre* of the density lies in the past.

    Args:
        filters: int. Number of output channels.
        kernel_size: odd int `k`, or a tuple of one.
        density: `r = (k - 1) / 2` numbers, outermost first. None: `()` for `k=1`, `(0.8,)` for
            3, `(0.2, 0.8)` for 5, `(0.25, 0.15, 0.55)` for 7, `linspace(0.2, 0.8, r)` beyond.
        density_trainable: bool. Whether the density is trained along with the kernel.
        density_lr_multiplier: positive float `s`; see `WeightedConv2D`.
        strides: int or a tuple of one.
        padding: `"valid"`, `"same"` or `"causal"`.
        data_format: `"channels_last"`, `"channels_first"` or None, Keras's own setting.
        dilation_rate: int or a tuple of one.
        groups: int. Groups of channels that are convolved apart.
        activation: applied last.
        use_bias: bool. False by default, as in the official code and unlike in Keras.
        kernel_initializer: None stands for He normal over the fan-out.
        bias_initializer: start of the bias.
        kernel_regularizer: of the raw kernel.
        bias_regularizer: of the bias.
        activity_regularizer: of the output.
        kernel_constraint: of the raw kernel.
        bias_constraint: of the bias.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Inputs: `(batch, steps, channels)`, or `(batch, channels, steps)`.
    Output: `(batch, new_steps, filters)`, or `(batch, filters, new_steps)`.

    Raises:
        ValueError: as `WeightedConv2D`.

    Example:
    >>> x = keras.random.normal((2, 16, 3))
    >>> keras_zoo.layers.WeightedConv1D(4, 5, padding="causal")(x).shape
    (2, 16, 4)

    Reference: arXiv:2505.24558. Differs from the official code: as `WeightedConv2D`.
    """

    rank = 1


@component(paper="weighted-conv")
class WeightedConv2D(BaseWeightedConv):
    """Convolution of images whose kernel is weighted by the distance to its centre.

    With `d = (d_0, .., d_{r-1})` the density, outermost ring first, and `r = (k - 1) / 2`:

        alpha = (d_0, .., d_{r-1}, 1, d_{r-1}, .., d_0)            (k,)
        Phi   = alpha alpha^T                                      (k, k)
        y     = conv(x, W * Phi) + b

    `Phi` is the same for all channels. It has no weights of its own to train, unless asked for,
    and costs nothing once it is folded into the kernel (`to_conv`, `fold_weighted_conv`). The
    centre always weighs 1, and a density of ones is the plain convolution, to the bit.

    What to expect: a density below 1 makes the start of the weighted kernel smaller, and its
    learning slower at the rim. Gains over a plain layer *in short training* are mostly gains of
    this initial scale: a plain layer whose start is scaled by the root mean square of `Phi` does
    almost or quite as well (`examples/weighted_conv.py` measures it). The authors report larger
    gains in long training, which nobody has repeated here.

    Args:
        filters: int. Number of output channels.
        kernel_size: odd int `k`, or a tuple of equal ones.
        density: `r` numbers, outermost first. None takes the authors' choice: `()` for `k=1`,
            `(0.8,)` for 3, `(0.2, 0.8)` for 5, `(0.25, 0.15, 0.55)` for 7; beyond these
            `linspace(0.2, 0.8, r)`.
        density_trainable: bool. Whether the density is trained along with the kernel. Nothing
            bounds it then: it may leave [0, 1]. A kernel of size 1 has none.
        density_lr_multiplier: positive float `s`. The layer stores `d / s`, so an optimizer of the
            Adam type moves a trained density `s` times as far per step as the other weights; plain
            SGD `s` squared times. The authors train it with 100. Without effect on a fixed one.
        strides: int or a tuple of two.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"`, `"channels_first"` or None, Keras's own setting.
        dilation_rate: int or a tuple of two. `Phi` is not dilated: it multiplies the taps.
        groups: int. Groups of channels that are convolved apart.
        activation: applied last.
        use_bias: bool. False by default, as in the official code and unlike in Keras.
        kernel_initializer: start of the raw kernel `W`. None stands for He normal over the
            fan-out: variance `2 / (filters * k^2)`, not truncated.
        bias_initializer: start of the bias.
        kernel_regularizer: of the raw kernel.
        bias_regularizer: of the bias.
        activity_regularizer: of the output.
        kernel_constraint: of the raw kernel.
        bias_constraint: of the bias.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Inputs: `(batch, height, width, channels)`, or `(batch, channels, height, width)`.
    Output: `(batch, new_height, new_width, filters)`, or with the channels first.

    Weights: `kernel` (raw, also in files), `bias`, `density` (`d / s`, trainable or not).
    `.density` and `.phi` give what acts now, as arrays; `.kernel` is the raw kernel. NaN in the
    input reaches every output that sees it.

    Raises:
        ValueError: a kernel that is even or unequal along its axes, a density of another length
            or not finite, strides together with dilation, `filters` or channels that `groups` does
            not divide, an input smaller than an unpadded kernel.

    Example:
    >>> x = keras.random.normal((2, 32, 32, 1))
    >>> layer = keras_zoo.layers.WeightedConv2D(16, 7, padding="same")
    >>> layer(x).shape, layer.density
    ((2, 32, 32, 16), array([0.25, 0.15, 0.55]))

    Reference: arXiv:2505.24558; github.com/cammarasana123/weightedConvolution2.0 (wConv.py,
    wConv_Trainable.py). Differs from the official code: Keras's paddings, where the code pads by 1
    whatever the kernel; `d / s` in place of an optimizer of its own for the density; a trained
    density for every size.
    """

    rank = 2


@component(paper="weighted-conv")
class WeightedConv3D(BaseWeightedConv):
    """Convolution of volumes whose kernel is weighted by the distance to its centre.

    As `WeightedConv2D`, which says it all, with

        Phi = alpha x alpha x alpha                                (k, k, k)

    Args:
        filters: int. Number of output channels.
        kernel_size: odd int `k`, or a tuple of equal ones.
        density: `r = (k - 1) / 2` numbers, outermost first. None: `()` for `k=1`, `(0.8,)` for
            3, `(0.2, 0.8)` for 5, `(0.25, 0.15, 0.55)` for 7, `linspace(0.2, 0.8, r)` beyond.
        density_trainable: bool. Whether the density is trained along with the kernel.
        density_lr_multiplier: positive float `s`; see `WeightedConv2D`.
        strides: int or a tuple of three.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"`, `"channels_first"` or None, Keras's own setting.
        dilation_rate: int or a tuple of three.
        groups: int. Groups of channels that are convolved apart.
        activation: applied last.
        use_bias: bool. False by default, as in the official code and unlike in Keras.
        kernel_initializer: None stands for He normal over the fan-out.
        bias_initializer: start of the bias.
        kernel_regularizer: of the raw kernel.
        bias_regularizer: of the bias.
        activity_regularizer: of the output.
        kernel_constraint: of the raw kernel.
        bias_constraint: of the bias.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Inputs: `(batch, depth, height, width, channels)`, or with the channels second.
    Output: `(batch, new_depth, new_height, new_width, filters)`, likewise.

    Raises:
        ValueError: as `WeightedConv2D`.

    Example:
    >>> x = keras.random.normal((1, 8, 8, 8, 2))
    >>> keras_zoo.layers.WeightedConv3D(4, 3, density=[0.8])(x).shape
    (1, 6, 6, 6, 4)

    Reference: arXiv:2505.24558. Differs from the official code: as `WeightedConv2D`.
    """

    rank = 3
