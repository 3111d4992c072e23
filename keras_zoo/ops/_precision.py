"""In which precision formulas are worked out."""

from typing import Any

import keras
from keras import ops

Tensor = Any


def full_precision(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is: half precisions lose what the formulas live by."""
    x = ops.convert_to_tensor(x)
    is_full = keras.backend.standardize_dtype(x.dtype) in ("float32", "float64")
    return x if is_full else ops.cast(x, "float32")
