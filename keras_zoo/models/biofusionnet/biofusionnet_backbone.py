"""The network of BioFusionNet: from three kinds of data to features of a patient."""

import keras
from keras_hub.models import Backbone

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_rate
from keras_zoo.layers import CoDualCrossAttention, SelfAttentionPooling
from keras_zoo.models._presets import PresetMixin

EPSILON = 1e-5


@component(paper="biofusionnet")
class BioFusionNetBackbone(PresetMixin, Backbone):
    """Fuses a bag of image features, gene expression and clinical data of each patient.

        p = SelfAttentionPooling(bag)                          (units,)
        f = CoDualCrossAttention([p, genes])                   (2 units,)
        f = dropout(relu(norm(dense(f))))                      for each of `hidden_dims`
        f = dropout(relu(norm(dense([f, clinical]))))          (clinical_units,)

    Args:
        image_dim: int, length of an image feature.
        num_genes: int.
        num_clinical: int, numbers such as age, grade, nodal status and size.
        units: int, of pooling and attention.
        num_heads: int; as in `keras_zoo.layers.CoDualCrossAttention`, like the two that follow.
        ff_dim: int.
        num_layers: int >= 0.
        hidden_dims: positive ints.
        clinical_units: int.
        dropout: float in [0, 1), in the attention and after each hidden layer; a tenth of it after
            the last of them and after that of the clinical data.
        dtype: dtype or policy.
        **kwargs: `name`, `trainable` of `keras.Model`.

    Inputs: dict of `image_features` `(B, P, image_dim)`, with `image_mask` bool `(B, P)` for what
    is there; `gene_expression` `(B, num_genes)`; `clinical` `(B, num_clinical)`. Standardised. A
    patient without images has a mask of False, and counts as a bag whose pooled features are 0.
    Output: `(B, clinical_units)`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> backbone = keras_zoo.models.BioFusionNetBackbone(
    ...     image_dim=8, num_genes=20, units=16, num_layers=1, hidden_dims=(32, 16)
    ... )
    >>> patients = {
    ...     "image_features": np.zeros((2, 5, 8)),
    ...     "image_mask": np.ones((2, 5), bool),
    ...     "gene_expression": np.zeros((2, 20)),
    ...     "clinical": np.zeros((2, 4)),
    ... }
    >>> tuple(backbone(patients).shape)
    (2, 32)

    Reference: arXiv:2402.10717; github.com/raktim-mondol/BioFusionNet, `multimodal_model.py`.
    Differs from the official code, which takes one patient at a time.
    """

    def __init__(
        self,
        image_dim=256,
        num_genes=138,
        num_clinical=4,
        units=256,
        num_heads=8,
        ff_dim=512,
        num_layers=3,
        hidden_dims=(512, 256, 128),
        clinical_units=32,
        dropout=0.1,
        dtype=None,
        **kwargs,
    ):
        sizes = {"image_dim": image_dim, "num_genes": num_genes, "num_clinical": num_clinical}
        for name, value in {**sizes, "clinical_units": clinical_units}.items():
            check_count(name, value)
        if not isinstance(hidden_dims, (list, tuple)) or not hidden_dims:
            raise ValueError(
                "`hidden_dims` must be positive integers, one at least. "
                f"Received: hidden_dims={hidden_dims!r}"
            )
        hidden_dims = tuple(check_count("hidden_dims", dim) for dim in hidden_dims)
        check_rate("dropout", dropout)

        # === Layers ===
        pool = SelfAttentionPooling(units, dtype=dtype, name="pool")
        fuse = CoDualCrossAttention(
            units, num_heads, ff_dim, num_layers, dropout, dtype=dtype, name="fusion"
        )
        join = keras.layers.Concatenate(dtype=dtype, name="join")

        # === Functional model ===
        inputs = {
            "image_features": keras.Input((None, image_dim), name="image_features"),
            "image_mask": keras.Input((None,), dtype="bool", name="image_mask"),
            "gene_expression": keras.Input((num_genes,), name="gene_expression"),
            "clinical": keras.Input((num_clinical,), name="clinical"),
        }
        pooled = pool(inputs["image_features"], mask=inputs["image_mask"])
        x = fuse([pooled, inputs["gene_expression"]])
        for k, dim in enumerate(hidden_dims, 1):
            rate = dropout / 10 if k == len(hidden_dims) else dropout
            x = _block(x, dim, rate, f"hidden_{k}", dtype)
        x = _block(join([x, inputs["clinical"]]), clinical_units, dropout / 10, "clinical", dtype)
        super().__init__(inputs, x, dtype=dtype, **kwargs)

        # === Config ===
        self.image_dim = image_dim
        self.num_genes = num_genes
        self.num_clinical = num_clinical
        self.units = units
        self.num_heads = num_heads
        self.ff_dim = ff_dim
        self.num_layers = num_layers
        self.hidden_dims = hidden_dims
        self.clinical_units = clinical_units
        self.dropout = dropout

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "image_dim": self.image_dim,
            "num_genes": self.num_genes,
            "num_clinical": self.num_clinical,
            "units": self.units,
            "num_heads": self.num_heads,
            "ff_dim": self.ff_dim,
            "num_layers": self.num_layers,
            "hidden_dims": list(self.hidden_dims),
            "clinical_units": self.clinical_units,
            "dropout": self.dropout,
        }


def _block(x, units, rate, name, dtype):
    """Dense layer, norm, ReLU, dropout."""
    x = keras.layers.Dense(units, dtype=dtype, name=f"{name}_dense")(x)
    x = keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype, name=f"{name}_norm")(x)
    x = keras.layers.ReLU(dtype=dtype, name=f"{name}_relu")(x)
    return keras.layers.Dropout(rate, dtype=dtype, name=f"{name}_dropout")(x)
