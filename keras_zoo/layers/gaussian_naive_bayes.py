"""Gaussian naive Bayes as a classification head (Zheng et al., 2023)."""

import math

import keras
import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag, check_labels, check_number
from keras_zoo.layers._class_statistics import ClassStatistics

# Log-prior of a class that no row was of, once there were rows of another.
UNSEEN = -1e9
# Bound of the greatest output of a row: what is left of the digits are eight bits after the point.
LEAST = {"float32": -(2.0**16), "float64": -(2.0**45)}


@component(paper="discriminative-vs-generative")
class GaussianNaiveBayes(keras.layers.Layer):
    """Classification head that is computed from features and labels, not trained.

    With features `x` `(n,)`, and of each class `k` of `K` the count `N_k`, the mean `mu_k` `(n,)`
    and the variance `v_k` `(n,)` (divided by `N_k`) of its features:

        pi_k    = N_k / sum_l N_l                                                       (K,)
        sigma^2 = sum_k pi_k v_k + epsilon                                              (n,)
        joint_k = log pi_k - 1/2 sum_j (x_j - mu_kj)^2 / sigma_j^2                      (N, K)

    and, with a variance for each class, `sigma_k^2 = v_k + epsilon` `(K, n)`,

        joint_k = log pi_k - 1/2 sum_j [ (x_j - mu_kj)^2 / sigma_kj^2 + log sigma_kj^2 ]

    `softmax(joint)` is the posterior: the output are logits. With the shared variance they are
    linear in `x`, but for a term that is the same for all classes: the head stands to logistic
    regression as a generative classifier does to its discriminative twin. It takes one pass over
    the features, and is near its own best error after fewer examples; that of logistic regression
    is lower where features are not independent and Gaussian.

    Args:
        num_classes: int > 1, `K`.
        shared_variance: bool. Whether all classes have one variance. Without, each call takes
            memory for `N K n` numbers, unless the backend fuses them away.
        epsilon: float > 0, added to each variance. With few examples, features that happen to vary
            little outweigh all others: for pixels in [0, 1] take 1e-2.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. State, computation and
            output are in float32 under every policy, or in float64 under that one: half precision
            has no digits for log-likelihoods in the thousands.

    Inputs: `(N, n)`. Output: `(N, K)`. NaN in a feature gives NaN for its row.

    Weights, none of them trainable: `count` `(K,)`, `mean` `(K, n)`, `variance` `(K, n)`, without
    epsilon. The layer keeps them in float64 beside that, in its files too, so that `update` loses
    nothing on the way; what is assigned to the weights by other means counts from then on.

    A class without examples has the log-prior -1e9, and for the rest what the most frequent class
    has, so that it is never predicted. Before any data, all classes are alike. A class with one
    example has the variance 0.

    Where even the likeliest class has a `joint` below -2**16, the row is lifted to that. Float32
    would lose the differences between classes otherwise, on which alone the posterior depends, and
    a feature that was constant in training need move by no more than 0.012 for that.

    Raises:
        ValueError: an argument is out of its range, or does not fit the others; features hold NaN
            or infinity; `to_dense` without data or without the shared variance. Nothing has been
            changed by then.

    Example:
    >>> features = [[0.0, 1.0], [2.0, 1.0], [4.0, 3.0], [6.0, 3.0]]
    >>> head = keras_zoo.layers.GaussianNaiveBayes(2, epsilon=1e-2)
    >>> head = head.adapt(features, [0, 0, 1, 1])
    >>> [int(k) for k in keras.ops.argmax(head(np.array([[2.0, 2.5], [1.0, 1.5]])), axis=-1)]
    [1, 0]

    On a frozen network, at once or batch by batch:

    >>> head.adapt(backbone.predict(x), y)
    >>> for x, y in batches: head.update(backbone.predict_on_batch(x), y)
    >>> classifier = keras.Sequential([backbone, head])

    Reference: arXiv:2302.02334, section 2; github.com/ML-GSAI/Revisiting-Dis-vs-Gen-Classifiers.
    Differs from the official code, which is in float64: a batch may lack classes, rows may have
    weights, epsilon is added where variances are used, and `joint` is bounded as said above.
    """

    def __init__(self, num_classes, shared_variance=True, epsilon=1e-9, **kwargs):
        # Keras would cast the features to the half precision of a mixed policy.
        super().__init__(autocast=False, **kwargs)
        self.num_classes = check_count("num_classes", num_classes)
        if self.num_classes < 2:
            raise ValueError(f"`num_classes` must be at least 2. Received: {num_classes=}")
        self.shared_variance = check_flag("shared_variance", shared_variance)
        self.epsilon = check_number("epsilon", epsilon, positive=True)
        self.input_spec = keras.InputSpec(ndim=2)
        self._state_dtype = "float64" if self.compute_dtype == "float64" else "float32"
        self._exact = None

    def build(self, input_shape):
        """Makes the weights."""
        if len(input_shape) != 2 or input_shape[1] is None:
            raise ValueError(f"`inputs` must be `(N, n)`. Received: shape {tuple(input_shape)}")
        shape = (self.num_classes, input_shape[1])
        self.count = self._weight("count", shape[:1])
        self.mean = self._weight("mean", shape)
        self.variance = self._weight("variance", shape)
        self.input_spec = keras.InputSpec(ndim=2, axes={-1: shape[1]})

    def _weight(self, name, shape):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer="zeros",
            dtype=self._state_dtype,
            trainable=False,
            autocast=False,
        )

    def adapt(self, features, labels, sample_weight=None):
        """Forgets what was there, and computes the weights from features and labels.

        Args:
            features: `(N, n)`, finite; an array of any backend, or what numpy makes one of.
            labels: `(N,)` or `(N, 1)`, class ids in `[0, K)`.
            sample_weight: `(N,)` or `(N, 1)`, not negative: 2 counts as the row twice.

        Returns:
            The layer itself, built if it was not.
        """
        features, labels, weights = self._checked(features, labels, sample_weight)
        if not weights.any():
            raise ValueError(
                "`features` must hold a row, with a weight above 0. "
                f"Received: features of shape {features.shape}"
            )
        nothing = ClassStatistics.empty(self.num_classes, features.shape[1])
        return self._assign(nothing.with_rows(features, labels, weights))

    def update(self, features, labels, sample_weight=None):
        """Folds in another batch: after all of them, the weights are those of one `adapt`.

        Arguments and result are those of `adapt`; the batch may be empty, and lack classes.
        """
        features, labels, weights = self._checked(features, labels, sample_weight)
        if self.built:
            known = self._statistics()
        else:
            known = ClassStatistics.empty(self.num_classes, features.shape[1])
        return self._assign(known.with_rows(features, labels, weights))

    def _checked(self, features, labels, sample_weight):
        """The arguments as numpy arrays that fit together."""
        features, labels = _array(features), check_labels("labels", _array(labels))
        numbers = features.dtype.kind in "biuf" or features.dtype.name == "bfloat16"
        if features.ndim != 2 or not numbers:
            raise ValueError(
                "`features` must be numbers `(N, n)`. "
                f"Received: {features.dtype} of shape {features.shape}"
            )
        if self.built and features.shape[1] != self.mean.shape[1]:
            raise ValueError(
                f"`features` must have {self.mean.shape[1]} columns, as when the layer was built. "
                f"Received: features of shape {features.shape}"
            )
        if len(labels) != len(features):
            raise ValueError(
                "`labels` must hold one label for each row of features. "
                f"Received: {len(labels)} labels, features of shape {features.shape}"
            )
        strange = (labels < 0) | (labels >= self.num_classes)
        if strange.any():
            raise ValueError(
                f"`labels` must be in [0, {self.num_classes}). Received: {labels[strange][:5]}"
            )
        return features, labels, _weights(sample_weight, labels)

    def _assign(self, statistics):
        with np.errstate(over="ignore"):
            rounded = [part.astype(self._state_dtype) for part in statistics.parts]
        if not all(np.isfinite(part).all() for part in rounded):
            raise ValueError(
                f"`features` must have a variance within {self._state_dtype}. "
                f"Received: a variance of {statistics.variance.max():g}"
            )
        if not self.built:
            self.build((None, statistics.mean.shape[1]))
        for weight, part in zip((self.count, self.mean, self.variance), rounded, strict=True):
            weight.assign(part)
        self._exact = statistics
        return self

    def _statistics(self):
        """The weights in float64: unrounded, unless they were assigned since by other means."""
        stored = [ops.convert_to_numpy(w) for w in (self.count, self.mean, self.variance)]
        if self._exact is not None:
            pairs = zip(self._exact.parts, stored, strict=True)
            if all(np.array_equal(exact.astype(s.dtype), s) for exact, s in pairs):
                return self._exact
        return ClassStatistics(*(part.astype("float64") for part in stored))

    def call(self, inputs):
        """Logarithm of the joint density of features and class, `(N, K)`."""
        x = ops.cast(inputs, self._state_dtype)
        compare = self._compare_linearly if self.shared_variance else self._compare_each
        own, greatest = compare(x, *self._class_parameters())
        differences = own - _greatest(own)[:, None]
        return differences + ops.maximum(greatest, LEAST[self._state_dtype])[:, None]

    def _compare_linearly(self, x, log_prior, mean, variance):
        """`joint` but for a term that classes share, `(N, K)`, and the greatest `joint` `(N,)`."""
        centre = self._centre(mean)
        kernel, bias = _linear(log_prior, mean - centre, variance)
        # An einsum, since matmul knows no float64 on torch.
        own = ops.einsum("nj,kj->nk", x - centre, kernel) + bias
        best = ops.argmax(own, axis=-1)
        squares = ops.square(x - ops.take(mean, best, axis=0)) / variance
        return own, ops.take(log_prior, best) - 0.5 * ops.sum(squares, axis=-1)

    def _compare_each(self, x, log_prior, mean, variance):
        """The same where each class has a variance, `(K, n)`."""
        # Not multiplied out: a variance of epsilon would leave nothing of the digits.
        terms = ops.square(x[:, None, :] - mean) / variance + ops.log(variance)
        least = -_greatest(-terms, axis=1)
        own = log_prior - 0.5 * ops.sum(terms - least[:, None, :], axis=-1)
        return own, _greatest(own) - 0.5 * ops.sum(least, axis=-1)

    def _class_parameters(self):
        """`log pi` `(K,)`, `mu` `(K, n)` and `sigma^2` `(n,)` or `(K, n)`."""
        count, mean, variance = map(ops.convert_to_tensor, (self.count, self.mean, self.variance))
        total, seen = ops.sum(count), count > 0
        prior = ops.divide_no_nan(count, total)
        unseen = ops.where(total > 0, UNSEEN, -math.log(self.num_classes))
        log_prior = ops.where(seen, ops.log(ops.where(seen, prior, 1.0)), unseen)

        def filled(x):
            return ops.where(seen[:, None], x, ops.take(x, ops.argmax(count), axis=0))

        if self.shared_variance:
            variance = ops.sum(prior[:, None] * variance, axis=0)
        else:
            variance = filled(variance)
        return log_prior, filled(mean), variance + self.epsilon

    def _centre(self, mean):
        """A point amid the classes, `(n,)`, which is exact in features that are constant."""
        pivot = mean[0]
        return pivot + ops.mean(mean - pivot, axis=0)

    def to_dense(self, centered=False):
        """A `Dense` layer of the same posterior: its logits are `joint` less what classes share.

            kernel_jk = mu_kj / sigma_j^2,     bias_k = log pi_k - 1/2 sum_j mu_kj^2 / sigma_j^2

        Args:
            centered: bool. Whether the mean of the class means is taken out of the kernel, which
                the posterior does not see. That keeps the digits of features with large offsets,
                and of those that are constant.

        Returns:
            A built `keras.layers.Dense(K)` without activation, in the precision of this layer. It
            can be trained: naive Bayes is a start for logistic regression.
        """
        centered = check_flag("centered", centered)
        if not self.shared_variance:
            raise ValueError(
                "`shared_variance` must be True, or the logits are not linear. "
                "Received: shared_variance=False"
            )
        if not self.built or not ops.convert_to_numpy(self.count).any():
            raise ValueError(
                "`to_dense` needs a layer that knows its classes: call `adapt`. "
                "Received: a layer that has seen no data"
            )
        log_prior, mean, variance = self._class_parameters()
        kernel, bias = _linear(log_prior, mean, variance)
        if centered:
            centre = self._centre(mean)
            kernel, bias = _linear(log_prior, mean - centre, variance)
            bias = bias - ops.sum(kernel * centre, axis=-1)
        dense = keras.layers.Dense(self.num_classes, dtype=self._state_dtype)
        dense.build((None, self.mean.shape[1]))
        dense.kernel.assign(ops.transpose(kernel))
        dense.bias.assign(bias)
        return dense

    def save_own_variables(self, store):
        """Writes the weights in float64."""
        for i, part in enumerate(self._statistics().parts if self.built else ()):
            store[str(i)] = part

    def load_own_variables(self, store):
        """Reads the weights in whatever precision they were written."""
        super().load_own_variables(store)
        if self.built:
            self._exact = ClassStatistics(*(np.asarray(store[str(i)], "float64") for i in range(3)))

    def compute_output_shape(self, input_shape):
        """`(N, K)`."""
        return (input_shape[0], self.num_classes)

    def compute_output_spec(self, inputs):
        """The shape, and the dtype, which is not that of the policy."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self._state_dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "shared_variance": self.shared_variance,
            "epsilon": self.epsilon,
        }


def _greatest(x, axis=-1):
    """The greatest along an axis, whose gradient goes to one place.

    That of `ops.amax` looks for what equals it, of which there is nothing where a compiler has
    computed `x` twice and rounded it otherwise.
    """
    place = ops.expand_dims(ops.argmax(x, axis=axis), axis)
    return ops.squeeze(ops.take_along_axis(x, place, axis=axis), axis)


def _linear(log_prior, mean, variance):
    """Kernel `(K, n)` and bias `(K,)` of the logits, for means relative to any point."""
    kernel = mean / variance
    return kernel, log_prior - 0.5 * ops.sum(mean * kernel, axis=-1)


def _array(x):
    return ops.convert_to_numpy(x) if ops.is_tensor(x) else np.asarray(x)


def _weights(sample_weight, labels):
    """One number for each label, 1 where none is given, in float64."""
    if sample_weight is None:
        return np.ones(len(labels))
    weights = _array(sample_weight).astype("float64")
    weights = weights[:, 0] if weights.shape[1:] == (1,) else weights
    if weights.shape != labels.shape or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            "`sample_weight` must hold one finite number, not negative, for each label. "
            f"Received: {weights} for labels of shape {labels.shape}"
        )
    return weights
