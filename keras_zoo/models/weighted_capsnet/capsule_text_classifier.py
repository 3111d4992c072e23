"""A capsule network over words."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_rate
from keras_zoo.layers import Capsule, CapsuleLength, PrimaryCapsule

PAD = 0


@component(paper="weighted-capsnet")
class CapsuleTextClassifier(keras.Model):
    """Classes of texts by capsules; the usual member of a `WeightedCapsuleEnsemble`.

        x = embedding(ids), 0 at padding, after a dropout of whole channels
        u = primary capsules of a convolution over x, "same"      (T num_channels, primary_dim)
        v = capsules of weights that all positions share          (num_classes, capsule_dim)
        score_k = |v_k|, from 0 to 1

    Capsules at padding are left out, so that more padding changes nothing.

    Args:
        vocabulary_size: int. Ids of words are below it; 0 is padding.
        num_classes: int of at least 2.
        embedding_dim: int.
        num_channels: int; see `PrimaryCapsule`.
        primary_dim: int, components of a primary capsule.
        kernel_size: int, words that the convolution sees.
        capsule_dim: int, components of a class's capsule.
        routings: int; see `Capsule`.
        dropout: float in [0, 1).
        **kwargs: `name`, `dtype` of `keras.Model`.

    Inputs: int ids `(B, T)`, any T.
    Output: scores `(B, num_classes)`, for `keras_zoo.losses.MarginLoss`, float32.

    Raises:
        ValueError: an argument is out of its range; the inputs are not `(B, T)`.

    Example:
    >>> model = keras_zoo.models.CapsuleTextClassifier(100, num_classes=2)
    >>> model.compile("adam", keras_zoo.losses.MarginLoss())
    >>> ids, y = np.random.randint(0, 100, (8, 12)), np.random.randint(0, 2, 8)
    >>> history = model.fit(ids, y, verbose=0)
    >>> model.predict(ids, verbose=0).shape
    (8, 2)

    Reference: arXiv:2306.17068; sizes and dropout, which could not be read, are ours.
    """

    def __init__(
        self,
        vocabulary_size,
        num_classes,
        embedding_dim=32,
        num_channels=4,
        primary_dim=8,
        kernel_size=3,
        capsule_dim=16,
        routings=3,
        dropout=0.3,
        **kwargs,
    ):
        sizes = {
            "vocabulary_size": check_count("vocabulary_size", vocabulary_size),
            "num_classes": check_count("num_classes", num_classes, least=2),
            "embedding_dim": check_count("embedding_dim", embedding_dim),
            "num_channels": check_count("num_channels", num_channels),
            "primary_dim": check_count("primary_dim", primary_dim),
            "kernel_size": check_count("kernel_size", kernel_size),
            "capsule_dim": check_count("capsule_dim", capsule_dim),
            "routings": check_count("routings", routings),
        }
        check_rate("dropout", dropout)
        super().__init__(**kwargs)
        for name, size in sizes.items():
            setattr(self, name, size)
        self.dropout = dropout
        policy = {"dtype": self.dtype_policy}
        self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim, **policy)
        self.channel_dropout = keras.layers.SpatialDropout1D(dropout, **policy)
        self.primary_capsules = PrimaryCapsule(
            num_channels,
            primary_dim,
            kernel_size,
            padding="same",
            data_format="channels_last",
            **policy,
        )
        self.class_capsules = Capsule(
            num_classes, capsule_dim, routings, share_weights=True, **policy
        )
        self.length = CapsuleLength(dtype="float64" if self.dtype == "float64" else "float32")
        self.embedding.build((None, None))
        self.primary_capsules.build((None, None, embedding_dim))
        self.class_capsules.build((None, None, primary_dim))
        self.built = True

    def call(self, token_ids, training=None):
        """Scores of the classes."""
        if len(token_ids.shape) != 2:
            raise ValueError(
                "The inputs must be ids of words `(B, T)`. "
                f"Received: shape {tuple(token_ids.shape)}"
            )
        words = ops.not_equal(token_ids, PAD)
        x = self.channel_dropout(self.embedding(token_ids), training=training)
        # What the convolution sees beyond a text's end is what it sees beyond the padding's.
        x = x * ops.cast(words, x.dtype)[..., None]
        capsules = self.primary_capsules(x)
        mask = ops.repeat(words, self.num_channels, axis=1)
        return self.length(self.class_capsules(capsules, mask=mask))

    def compute_output_shape(self, input_shape):
        """`(B, num_classes)`."""
        return (input_shape[0], self.num_classes)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "vocabulary_size": self.vocabulary_size,
            "num_classes": self.num_classes,
            "embedding_dim": self.embedding_dim,
            "num_channels": self.num_channels,
            "primary_dim": self.primary_dim,
            "kernel_size": self.kernel_size,
            "capsule_dim": self.capsule_dim,
            "routings": self.routings,
            "dropout": self.dropout,
        }
        return {**super().get_config(), **own}
