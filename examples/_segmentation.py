"""What the examples of segmentation share."""

import keras
import numpy as np


def intersection_over_union(masks, predictions, num_classes):
    """Mean over classes, that of each class, and the confusion matrix.

    Args:
        masks: class of each pixel, ints of any shape.
        predictions: likewise.
        num_classes: int.
    """
    metric = keras.metrics.MeanIoU(num_classes)
    metric.update_state(masks, predictions)
    matrix = keras.ops.convert_to_numpy(metric.total_cm)
    inside = np.diag(matrix)
    # A class that is nowhere has 0.
    each = inside / np.maximum(matrix.sum(0) + matrix.sum(1) - inside, 1)
    return float(metric.result()), each, matrix
