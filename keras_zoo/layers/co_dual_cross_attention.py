"""Co-dual cross-attention of two modalities (Mondol et al., 2024)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_rate
from keras_zoo.layers._attention import attend
from keras_zoo.layers._composite import CompositeLayer

EPSILON = 1e-5


@component(paper="biofusionnet")
class CoDualCrossAttention(CompositeLayer):
    """Lets two modalities look at each other, twice, and mixes what they saw.

    With tokens `i` `(T, Di)` and `g` `(T, Dg)`, `U = units`, `att(q, k, v) = softmax(q k^T) v`, and
    blocks `S_n(x, y)`, which are `att` of three dense layers with biases, of `x` for the query and
    of `y` for key and value, with `q k^T / sqrt(U)`:

        ci = att(Qi i, Kg g, Vg g),   cg = att(Qg g, Ki i, Vi i)      (T, U)
        ai = S_1(ci, cg),             ag = S_2(cg, ci)
        ri = S_3(ai, i),              rg = S_4(ag, G g + b)
        x  = [ri, rg]                                                 (T, 2 U)

    then `num_layers` times, as in a transformer's encoder with norms after the sums:

        x = norm(x + attention(x)),   x = norm(x + W2 relu(W1 x + b1) + b2)

    Args:
        units: int `U`.
        num_heads: int, heads of the encoder, a divisor of `2 * units`.
        ff_dim: int, width of `W1`.
        num_layers: int >= 0.
        dropout: float in [0, 1), of the encoder's attention weights, of what is added to `x`, and
            within the feed-forward part.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. Attention weights of the
            blocks are computed in float32 at least.

    Inputs: list of `i` `(B, T, Di)` and `g` `(B, T, Dg)`, or of `(B, Di)` and `(B, Dg)`, which are
    one token each.
    Output: `(B, T, 2 U)`, or `(B, 2 U)`. One patient never looks at another.

    With one token a softmax is 1, so that all but the values' weights have no effect and no
    gradient.

    Weights: kernels `Qi, Ki, Vi, Qg, Kg, Vg`; of `S_1` to `S_4` kernel and bias of query, key and
    value; of `G`; of each encoder layer those of `keras.layers.MultiHeadAttention`, the first norm,
    `W1`, `W2`, the second norm.

    Raises:
        ValueError: an argument is out of its range; the inputs are not such a list.

    Example:
    >>> layer = keras_zoo.layers.CoDualCrossAttention(units=32, num_layers=1)
    >>> image, genes = keras.random.normal((4, 256)), keras.random.normal((4, 138))
    >>> tuple(layer([image, genes]).shape)
    (4, 64)

    Reference: arXiv:2402.10717; github.com/raktim-mondol/BioFusionNet,
    `co_dual_cross_attention.py`. Differs from the official code, where the patients of a batch
    would look at one another.
    """

    def __init__(self, units=256, num_heads=8, ff_dim=512, num_layers=3, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        self.units = check_count("units", units)
        self.num_heads = check_count("num_heads", num_heads)
        self.ff_dim = check_count("ff_dim", ff_dim)
        self.num_layers = check_count("num_layers", num_layers, least=0)
        self.dropout = check_rate("dropout", dropout)
        if 2 * units % num_heads:
            raise ValueError(
                "`num_heads` must divide `2 * units`. "
                f"Received: num_heads={num_heads}, units={units}"
            )

    def build(self, input_shape):
        """Makes the projections, the blocks and the encoder."""
        _check_modalities(input_shape)
        image, gene = (shape[-1] for shape in input_shape)
        units = self.units
        self._co = [
            self._dense(f"{name}_{part}", dim, use_bias=False)
            for name, dim in (("image", image), ("gene", gene))
            for part in ("query", "key", "value")
        ]
        # Of each block, the widths of what the query and of what key and value are made from.
        widths = [(units, units), (units, units), (units, image), (units, units)]
        self._blocks = [
            [
                self._dense(f"block_{n}_{part}", dim)
                for part, dim in (("query", query), ("key", source), ("value", source))
            ]
            for n, (query, source) in enumerate(widths, 1)
        ]
        self._gene = self._dense("gene_projection", gene)
        self._encoder = [self._encoder_layer(n) for n in range(self.num_layers)]

    def _dense(self, name, dim, units=None, **kwargs):
        layer = keras.layers.Dense(
            units or self.units, name=name, dtype=self.sublayer_dtype, **kwargs
        )
        layer.build((None, None, dim))
        return layer

    def _encoder_layer(self, n):
        width, policy = 2 * self.units, {"dtype": self.sublayer_dtype}
        attention = keras.layers.MultiHeadAttention(
            self.num_heads,
            width // self.num_heads,
            dropout=self.dropout,
            name=f"encoder_{n}_attention",
            **policy,
        )
        attention.build((None, None, width), (None, None, width))
        norms = [
            keras.layers.LayerNormalization(epsilon=EPSILON, name=f"encoder_{n}_norm_{k}", **policy)
            for k in (1, 2)
        ]
        for norm in norms:
            norm.build((None, None, width))
        hidden = self._dense(f"encoder_{n}_hidden", width, self.ff_dim, activation="relu")
        output = self._dense(f"encoder_{n}_output", self.ff_dim, width)
        dropouts = [
            keras.layers.Dropout(self.dropout, name=f"encoder_{n}_dropout_{k}", **policy)
            for k in (1, 2, 3)
        ]
        return [attention, norms[0], hidden, output, norms[1], *dropouts]

    def call(self, inputs, training=None):
        """The mixed tokens."""
        is_flat = len(inputs[0].shape) == 2
        image, gene = [ops.expand_dims(x, 1) for x in inputs] if is_flat else inputs
        image_query, image_key, image_value = [layer(image) for layer in self._co[:3]]
        gene_query, gene_key, gene_value = [layer(gene) for layer in self._co[3:]]
        image_saw = attend(image_query, gene_key, gene_value)
        gene_saw = attend(gene_query, image_key, image_value)
        image_asks = self._block(0, image_saw, gene_saw)
        gene_asks = self._block(1, gene_saw, image_saw)
        image_out = self._block(2, image_asks, image)
        gene_out = self._block(3, gene_asks, self._gene(gene))
        x = ops.concatenate([image_out, gene_out], axis=-1)
        for layers in self._encoder:
            x = _encode(x, layers, training)
        return ops.squeeze(x, 1) if is_flat else x

    def _block(self, n, x, y):
        query, key, value = self._blocks[n]
        return attend(query(x), key(y), value(y), self.units**-0.5)

    def compute_output_shape(self, input_shape):
        """The first input's shape, `2 * units` wide."""
        return (*input_shape[0][:-1], 2 * self.units)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "units": self.units,
            "num_heads": self.num_heads,
            "ff_dim": self.ff_dim,
            "num_layers": self.num_layers,
            "dropout": self.dropout,
        }
        return {**super().get_config(), **own}


def _encode(x, layers, training):
    """One layer of the encoder."""
    attention, norm_1, hidden, output, norm_2, drop_1, drop_2, drop_3 = layers
    # Asked for its scores, it does not turn to kernels that JAX lacks for float16 on CPUs.
    attended, _ = attention(x, x, return_attention_scores=True, training=training)
    x = norm_1(x + drop_1(attended, training=training))
    fed = output(drop_2(hidden(x), training=training))
    return norm_2(x + drop_3(fed, training=training))


def _check_modalities(shapes):
    is_list = isinstance(shapes, (list, tuple)) and len(shapes) == 2
    ranks = [len(shape) if isinstance(shape, (list, tuple)) else 0 for shape in shapes]
    fits = is_list and ranks[0] == ranks[1] and ranks[0] in (2, 3)
    fits = fits and None not in (shapes[0][-1], shapes[1][-1])
    if fits and ranks[0] == 3:
        tokens = shapes[0][1], shapes[1][1]
        fits = None in tokens or tokens[0] == tokens[1]
    if not fits:
        raise ValueError(
            "The inputs must be a list of two, `(B, T, Di)` and `(B, T, Dg)`, or `(B, Di)` and "
            f"`(B, Dg)`. Received: shapes {shapes}"
        )
