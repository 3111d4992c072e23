import numpy as np
import pytest
from keras import ops

from keras_zoo.ops import monotone_quantiles
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

METHODS = ["sort", "isotonic", "center_out", "soft_sort"]
X = np.random.default_rng(0).normal(size=(9, 6))
STRENGTH = 0.7
each_method = pytest.mark.parametrize("method", METHODS)


def nearest_ascending(x):
    """Isotonic regression of a row: neighbours that are out of order are pooled, one by one."""
    blocks = [[value] for value in x]
    while True:
        means = [sum(block) / len(block) for block in blocks]
        wrong = [i for i in range(len(blocks) - 1) if means[i] > means[i + 1]]
        if not wrong:
            return [m for m, block in zip(means, blocks, strict=True) for _ in block]
        i = wrong[0]
        blocks[i : i + 2] = [blocks[i] + blocks[i + 1]]


def naive(x, method):
    """Rows of `(N, Q)` one by one, in float64."""
    rows, size = [], x.shape[1]
    for row in x.tolist():
        if method == "sort":
            out = sorted(row)
        elif method == "isotonic":
            out = nearest_ascending(row)
        elif method == "center_out":
            c = size // 2
            left = [min(row[i : c + 1]) for i in range(c)]
            out = left + [max(row[c : i + 1]) for i in range(c, size)]
        else:
            w = [(size - i) / STRENGTH for i in range(size)]
            u = [a + b for a, b in zip(sorted(row), w, strict=True)]
            v = [-value for value in nearest_ascending([-value for value in u])]
            out = [a - b for a, b in zip(v, w, strict=True)]
        rows.append(out)
    return np.array(rows)


def product(x, upstream):
    return ops.sum(x * ops.convert_to_tensor(upstream, "float32"))


@each_method
def test_matches_the_official_code(method):
    g = golden("quantile-aggregation", "monotone")
    x, strength = g["x"].astype("float32"), float(g["strength"])
    assert_close(monotone_quantiles(x, method, strength), g[method])
    if method != "sort":
        upstream = g[f"{method}_cotangent"]
        _, grad = gradient(lambda x: product(monotone_quantiles(x, method, strength), upstream), x)
        assert_close(grad, g[f"{method}_grad"], rtol=1e-4, atol=1e-5)


@each_method
def test_matches_plain_loops(method):
    for x in (X, 4 * X, X[:, :1]):
        got = to_numpy(monotone_quantiles(x.astype("float32"), method, STRENGTH))
        assert_close(got, naive(x, method))
        assert (np.diff(got, axis=1) >= 0).all()
    upstream = np.arange(6.0) ** 2
    expected = numeric_gradient(lambda x: (naive(x, method) * upstream).sum(), X)
    _, grad = gradient(
        lambda x: product(monotone_quantiles(x, method, STRENGTH), upstream), X.astype("float32")
    )
    assert_close(grad, expected, rtol=1e-4, atol=1e-4)


@each_method
def test_ascending_rows_come_back_unchanged(method):
    """To the bit, ties included, whatever their size."""
    x = X.astype("float32")
    x[:4, 1:4], x[3:8, 4:] = x[:4, 1:2], x[3:8, 4:5]
    for rows in (x, 1e6 + x, 1e-20 * x):
        rows = np.sort(rows, axis=1)
        np.testing.assert_array_equal(to_numpy(monotone_quantiles(rows, method)), rows)


@each_method
def test_many_large_entries(method):
    """Far from zero: ascending to the bit, and right to float32's last digits."""
    x = np.random.default_rng(2).normal(size=(9, 99 if method == "isotonic" else 6))
    x = (1e5 + x).astype("float32")
    got = to_numpy(monotone_quantiles(x, method, STRENGTH))
    assert (np.diff(got, axis=1) >= 0).all()
    assert_close(got, naive(x.astype("float64"), method), rtol=1e-7, atol=0.01)
    if method in ("isotonic", "soft_sort"):
        assert_close(got.astype("float64").mean(1), x.astype("float64").mean(1), rtol=1e-7)


def test_equal_neighbours_share_their_gradient():
    upstream = np.arange(6.0) ** 2
    x = np.array([[0, 1, 1, 2, 3, 3]] * 9, "float32")
    _, grad = gradient(lambda x: product(monotone_quantiles(x, "isotonic"), upstream), x)
    assert_close(grad, [[0, 2.5, 2.5, 9, 20.5, 20.5]] * 9)


def test_strengths_of_the_soft_sort():
    x = X.astype("float32")
    for strength in (1e-8, 1e-3):  # The weights are 6e8, the result is the sort to the bit.
        np.testing.assert_array_equal(
            to_numpy(monotone_quantiles(x, "soft_sort", strength)), np.sort(x, axis=1)
        )
    soft = to_numpy(monotone_quantiles(x, "soft_sort", 1e4))
    assert_close(soft, np.repeat(x.mean(axis=1, keepdims=True), 6, axis=1), atol=1e-3)
    gaps = np.diff(to_numpy(monotone_quantiles(10 * x, "soft_sort", 0.5)), axis=1)
    assert gaps.max() == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("method", ["sort", "isotonic"])
def test_never_raises_the_pinball_loss(method):
    y, tau = np.linspace(-2, 2, 400)[:, None, None], np.arange(1, 7) / 7

    def losses(p):
        return np.maximum(tau * (y - p), (tau - 1) * (y - p)).mean(axis=-1)

    ordered = to_numpy(monotone_quantiles(X.astype("float32"), method))
    assert (losses(ordered) <= losses(X) + 1e-6).all()


@each_method
def test_ranks_dtypes_and_nan(method):
    x = X.astype("float32")
    flat = to_numpy(monotone_quantiles(x, method))
    assert_close(monotone_quantiles(x.reshape(3, 3, 6), method), flat.reshape(3, 3, 6))
    half = monotone_quantiles(ops.cast(x, "float16"), method)
    assert "float16" in str(half.dtype)
    assert_close(ops.cast(half, "float32"), flat, rtol=1e-2, atol=1e-2)
    x[1, 4] = np.nan
    assert np.isnan(to_numpy(monotone_quantiles(x, method))).all(axis=1).tolist() == [
        i == 1 for i in range(9)
    ]
    _, grad = gradient(lambda x: ops.sum(monotone_quantiles(x, method)), 0 * X.astype("float32"))
    assert np.isfinite(grad).all()


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 here")
@each_method
def test_float64(method):
    expected = naive(X, method)
    assert_close(monotone_quantiles(X, method, STRENGTH), expected, rtol=1e-13, atol=1e-13)


def test_integers_and_vectors():
    got = monotone_quantiles([3, 1, 2])
    assert "float32" in str(got.dtype)
    assert_close(got, np.float32([1, 2, 3]))


def test_bad_arguments():
    for kwargs in ({"method": "mono"}, {"method": None}, {"strength": 0}, {"strength": None}):
        name = next(iter(kwargs))
        with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
            monotone_quantiles(X, **kwargs)
    with pytest.raises(ValueError, match=r"`x` must be .*Received: x of shape"):
        monotone_quantiles(1.0)
