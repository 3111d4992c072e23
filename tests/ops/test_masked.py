import numpy as np
import pytest
from keras import ops

from keras_zoo.ops import masked_logsumexp
from tests.harness import assert_close, gradient

X = np.array([[1000.0, 3.0, -1e4], [0.5, -0.5, 2.0], [7.0, 8.0, 9.0]], "float32")
MASK = np.array([[True, False, True], [True, True, True], [False, False, False]])


@pytest.mark.parametrize("floor", [None, 0.0, 1001.0])
def test_matches_numpy(floor):
    terms = [
        [x for x, m in zip(row, mask, strict=True) if m] for row, mask in zip(X, MASK, strict=True)
    ]
    terms = [np.array(row + [floor] * (floor is not None), "float64") for row in terms]
    expected = [np.logaddexp.reduce(row) if len(row) else -1e30 for row in terms]
    assert_close(masked_logsumexp(X, MASK, floor=floor), np.array(expected, "float32"), atol=1e-4)


@pytest.mark.parametrize("floor", [None, 0.0])
def test_gradient_is_softmax_and_zero_outside(floor):
    _, grad = gradient(lambda x: ops.sum(masked_logsumexp(x, MASK, floor=floor)), X)
    assert np.isfinite(grad).all()
    assert (grad[~MASK] == 0).all()
    assert_close(grad[0], [1.0, 0.0, 0.0])
    e = np.exp(X[1])
    assert_close(grad[1], e / (e.sum() + (floor is not None)))


def test_nan_counts_only_where_it_is_selected():
    x, mask = np.array([[np.nan, 1.0]], "float32"), np.array([[False, True]])
    value, grad = gradient(lambda x: ops.sum(masked_logsumexp(x, mask)), x)
    assert_close(value, 1.0)
    assert_close(grad, [[0.0, 1.0]])
    assert np.isnan(ops.convert_to_numpy(masked_logsumexp(x, ~mask))).all()


def test_another_axis():
    assert_close(masked_logsumexp(X.T, MASK.T, axis=0), masked_logsumexp(X, MASK))
