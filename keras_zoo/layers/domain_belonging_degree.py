"""How much a text belongs to each domain, by its words (Kobari et al., 2023)."""

import keras
import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag, check_labels, check_number


@component(paper="weighted-capsnet")
class DomainBelongingDegree(keras.layers.Layer):
    """Shares of a text in several domains, from TF-IDF in which each domain is one document.

    `adapt` counts `n_wd`, how often word `w` is in the texts of domain `d` of `D`:

        tf_wd    = n_wd / sum_w n_wd;   with sublinear_tf  log(1 + tf_scale tf_wd)
        df_w     = how many domains have w
        idf_w    = log((1 + D) / (1 + df_w)) + 1;   without smooth_idf  log(D / df_w), 0 if df_w = 0
        table_wd = tf_wd idf_w

    A text's degrees, over its words but the padding:

        s_d = sum_w table_wd,   degree_d = s_d^sharpness / sum_d' s_d'^sharpness

    and `1 / D` each where all `s_d` are 0: for an empty text, or one of unknown words.

    Args:
        num_domains: int `D`.
        vocabulary_size: int. Ids of words are below it.
        sublinear_tf: bool. Without it frequent words decide, which belong to no domain.
        smooth_idf: bool.
        tf_scale: float > 0.
        sharpness: float > 0. At 1 degrees stay near `1 / D`; the greater, the more the leading
            domain has.
        pad_id: int, the id that stands for no word.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`. Degrees are worked out in float32.

    Inputs: int ids `(B, T)` in `[0, vocabulary_size)`.
    Output: `(B, D)`, which sum to 1.

    Weights: `table` `(vocabulary_size, D)`, float32, not trainable, 0 before `adapt`.

    Raises:
        ValueError: an argument is out of its range; `adapt` is given ids or domains that are out
            of range or of another shape.

    Example:
    >>> layer = keras_zoo.layers.DomainBelongingDegree(2, vocabulary_size=5)
    >>> layer.adapt(np.array([[1, 2, 0], [3, 4, 4]]), domains=np.array([0, 1]))
    >>> keras.ops.convert_to_numpy(layer(np.array([[1, 0, 0], [1, 3, 0], [0, 0, 0]]))).round(2)
    array([[1. , 0. ],
           [0.52, 0.48],
           [0.5 , 0.5 ]], dtype=float32)

    Reference: arXiv:2306.17068, whose formula could not be read: this one, made of TF and IDF as
    the abstract says, is ours.
    """

    def __init__(
        self,
        num_domains,
        vocabulary_size,
        sublinear_tf=True,
        smooth_idf=True,
        tf_scale=1e4,
        sharpness=1.0,
        pad_id=0,
        **kwargs,
    ):
        num_domains = check_count("num_domains", num_domains)
        vocabulary_size = check_count("vocabulary_size", vocabulary_size)
        check_flag("sublinear_tf", sublinear_tf)
        check_flag("smooth_idf", smooth_idf)
        check_number("tf_scale", tf_scale, positive=True)
        check_number("sharpness", sharpness, positive=True)
        pad_id = check_count("pad_id", pad_id, least=0)
        super().__init__(autocast=False, **kwargs)
        self.num_domains = num_domains
        self.vocabulary_size = vocabulary_size
        self.sublinear_tf = sublinear_tf
        self.smooth_idf = smooth_idf
        self.tf_scale = tf_scale
        self.sharpness = sharpness
        self.pad_id = pad_id
        self.table = self.add_weight(
            (vocabulary_size, num_domains),
            "zeros",
            dtype="float32",
            trainable=False,
            autocast=False,
            name="table",
        )
        self.built = True

    def adapt(self, token_ids, domains):
        """Makes the table anew from texts.

        Args:
            token_ids: int `(N, T)`.
            domains: int `(N,)` or `(N, 1)`, in `[0, num_domains)`.
        """
        ids = np.asarray(ops.convert_to_numpy(token_ids))
        domains = check_labels("domains", ops.convert_to_numpy(domains))
        if ids.ndim != 2 or len(ids) != len(domains) or ids.dtype.kind not in "iu":
            raise ValueError(
                "`token_ids` must be ints `(N, T)`, with one of `domains` `(N,)` for each text. "
                f"Received: token_ids of shape {ids.shape} and dtype {ids.dtype}, domains of shape "
                f"{domains.shape}"
            )
        for name, values, limit in (
            ("token_ids", ids, self.vocabulary_size),
            ("domains", domains, self.num_domains),
        ):
            if values.size and not (values.min() >= 0 and values.max() < limit):
                raise ValueError(
                    f"`{name}` must be in [0, {limit}). "
                    f"Received: {name} from {values.min()} to {values.max()}"
                )
        counts = np.zeros((self.vocabulary_size, self.num_domains))
        words = ids != self.pad_id
        np.add.at(counts, (ids[words], np.broadcast_to(domains[:, None], ids.shape)[words]), 1)
        self.table.assign(self._tf(counts) * self._idf(counts)[:, None])

    def _tf(self, counts):
        tf = counts / np.maximum(counts.sum(axis=0), 1)
        return np.log1p(self.tf_scale * tf) if self.sublinear_tf else tf

    def _idf(self, counts):
        df = (counts > 0).sum(axis=1)
        if self.smooth_idf:
            return np.log((1 + self.num_domains) / (1 + df)) + 1
        return np.where(df > 0, np.log(self.num_domains / np.maximum(df, 1)), 0)

    def call(self, token_ids):
        """The degrees."""
        ids = ops.cast(token_ids, "int32")
        # The row of `pad_id` is 0.
        s = ops.sum(ops.take(self.table, ids, axis=0), axis=1)
        top = ops.amax(s, axis=1, keepdims=True)
        known = top > 0
        powers = ops.power(s / ops.where(known, top, 1.0), self.sharpness)
        powers = ops.where(known, powers, 1.0)
        degrees = powers / ops.sum(powers, axis=1, keepdims=True)
        return ops.cast(degrees, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """`(B, D)`."""
        return (input_shape[0], self.num_domains)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "num_domains": self.num_domains,
            "vocabulary_size": self.vocabulary_size,
            "sublinear_tf": self.sublinear_tf,
            "smooth_idf": self.smooth_idf,
            "tf_scale": self.tf_scale,
            "sharpness": self.sharpness,
            "pad_id": self.pad_id,
        }
        return {**super().get_config(), **own}
