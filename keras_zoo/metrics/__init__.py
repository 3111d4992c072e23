"""Metrics: figures to report (on numpy) and figures to watch in training (streaming)."""

from keras_zoo.metrics.concordance_index import ConcordanceIndex, concordance_index
from keras_zoo.metrics.cosine_accuracy import CosineAccuracy
from keras_zoo.metrics.cumulative_dynamic_auc import cumulative_dynamic_auc
from keras_zoo.metrics.equal_error_rate import EqualErrorRate
from keras_zoo.metrics.focal_position_error import FocalPositionError
from keras_zoo.metrics.hamming_loss import HammingLoss
from keras_zoo.metrics.jaccard_accuracy import JaccardAccuracy
from keras_zoo.metrics.kaplan_meier import kaplan_meier
from keras_zoo.metrics.logrank_test import logrank_test
from keras_zoo.metrics.max_pressure_error import MaxPressureError
from keras_zoo.metrics.mrr_at_k import mrr_at_k
from keras_zoo.metrics.ndcg_at_k import ndcg_at_k
from keras_zoo.metrics.prototypical_accuracy import PrototypicalAccuracy
from keras_zoo.metrics.quantile_calibration_error import QuantileCalibrationError
from keras_zoo.metrics.recall_at_k import RecallAtK, recall_at_k
from keras_zoo.metrics.relative_l2_error import RelativeL2Error
from keras_zoo.metrics.roc_auc import roc_auc
from keras_zoo.metrics.tar_at_far import tar_at_far
from keras_zoo.metrics.utilization import utilization
from keras_zoo.metrics.weighted_interval_score import WeightedIntervalScore
from keras_zoo.metrics.zero_shot_accuracy import zero_shot_accuracy

__all__ = [
    "ConcordanceIndex",
    "CosineAccuracy",
    "EqualErrorRate",
    "FocalPositionError",
    "HammingLoss",
    "JaccardAccuracy",
    "MaxPressureError",
    "PrototypicalAccuracy",
    "QuantileCalibrationError",
    "RecallAtK",
    "RelativeL2Error",
    "WeightedIntervalScore",
    "concordance_index",
    "cumulative_dynamic_auc",
    "kaplan_meier",
    "logrank_test",
    "mrr_at_k",
    "ndcg_at_k",
    "recall_at_k",
    "roc_auc",
    "tar_at_far",
    "utilization",
    "zero_shot_accuracy",
]
