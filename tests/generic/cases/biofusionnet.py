"""The Cox loss, survival metrics, and the parts of BioFusionNet."""

import numpy as np

from keras_zoo import metrics
from keras_zoo.layers import CoDualCrossAttention, SelfAttentionPooling
from keras_zoo.losses import WeightedCoxLoss
from tests.generic._cases import LayerCase, LossCase, MetricCase, ModelCase, PlainCase

PAPER = "biofusionnet"
RNG = np.random.default_rng(0)
N = 10
TIMES = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], "float32")
EVENTS = np.array([1, 1, 0, 1, 1, 0, 1, 0, 1, 1], "float32")
Y = np.stack([TIMES, EVENTS], axis=1)
RISKS = RNG.normal(size=(N, 1)).astype("float32")
BAGS = RNG.normal(size=(6, 3, 4)).astype("float32")
PAIR = [RNG.normal(size=(6, dim)).astype("float32") for dim in (4, 5)]

CASES = [
    LossCase(
        WeightedCoxLoss,
        {"event_weight": 3.0, "censored_weight": 0.5, "ties": "efron"},
        Y,
        RISKS,
        PAPER,
    ),
    LayerCase(SelfAttentionPooling, {"units": 4, "scaled": True}, BAGS, PAPER),
    LayerCase(
        CoDualCrossAttention,
        # Its encoder is in the backbone below: on torch, tracing a layer takes seconds.
        {"units": 4, "num_heads": 2, "ff_dim": 6, "num_layers": 0, "dropout": 0.0},
        PAIR,
        PAPER,
    ),
    MetricCase(metrics.ConcordanceIndex, {"tie_tolerance": 0.01}, Y, RISKS, PAPER, one_graph=False),
    *(
        PlainCase(fn, PAPER, "a function on numpy arrays")
        for fn in (
            metrics.concordance_index,
            metrics.cumulative_dynamic_auc,
            metrics.kaplan_meier,
            metrics.logrank_test,
        )
    ),
]

try:
    from keras_zoo.models import BioFusionNetBackbone, BioFusionNetRiskPredictor, FusionVAE
except ImportError:  # The extra `models` is not installed.
    pass
else:
    X = {
        "image_features": RNG.normal(size=(6, 3, 4)).astype("float32"),
        "image_mask": np.arange(3) < np.array([[3], [1], [2], [0], [3], [2]]),
        "gene_expression": RNG.normal(size=(6, 5)).astype("float32"),
        "clinical": RNG.normal(size=(6, 2)).astype("float32"),
    }

    def backbone(dtype):
        return BioFusionNetBackbone(
            image_dim=4,
            num_genes=5,
            num_clinical=2,
            units=4,
            num_heads=2,
            ff_dim=6,
            num_layers=1,
            hidden_dims=(6,),
            clinical_units=4,
            dropout=0.0,
            dtype=dtype,
        )

    def predictor(dtype):
        return BioFusionNetRiskPredictor(backbone(dtype))

    def vae(dtype):
        return FusionVAE(4, 5, 2, beta=0.5, seed=3, dtype=dtype)

    CASES += [
        ModelCase(BioFusionNetBackbone, backbone, X, None, PAPER),
        # Its training is Keras's own, on layers and a loss that are trained by themselves.
        ModelCase(BioFusionNetRiskPredictor, predictor, X, None, PAPER),
        ModelCase(FusionVAE, vae, BAGS[:, 0], None, PAPER, compile=dict, random=True),
    ]
