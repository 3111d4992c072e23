import math

import numpy as np
import pytest
from keras import ops

from keras_zoo.ops import ens_loss_derivatives
from tests.harness import BACKEND, assert_close, golden, gradient, to_numpy

LAMBDAS = [-1.0, -0.4, -1e-4, -1e-7, 0.0, 1e-7, 1e-5, 0.3, 1.0]
FIXTURES = ["lambda_0", "lambda_neg", "lambda_pos"]
each_lambda = pytest.mark.parametrize("lam", LAMBDAS)


def inverse_box_cox(z, lam):
    if lam == 0:
        return math.exp(z)
    base = max(1 + lam * z, 0.0)
    if base == 0:
        return 0.0 if lam > 0 else math.inf
    return base ** (1 / lam)


def naive(margins, noise, lam=0.0):
    """The slopes from their definition, in plain loops."""
    slopes = sorted(max(-inverse_box_cox(z, lam), -1.0) for z in noise)
    result = []
    for i, s in enumerate(margins):
        rank = sum(t < s or (t == s and j < i) for j, t in enumerate(margins))
        slope = slopes[rank]
        result.append((slope / s if s > 1 else slope) - 1e-6)
    return np.array(result)


def batch(n=9, seed=0):
    rng = np.random.default_rng(seed)
    return (2 * rng.normal(size=n)).astype("float32"), rng.normal(size=n).astype("float32")


@pytest.mark.parametrize("name", FIXTURES)
def test_matches_official_code(name):
    g = golden("ensloss", name)
    lam = float(g["box_cox_lambda"])
    signs = 2 * g["y_true"] - 1
    found = ens_loss_derivatives(g["margins"].astype("float32"), g["noise"].astype("float32"), lam)
    assert_close(found, g["derivatives"].astype("float32"))
    assert_close(naive(g["margins"], g["noise"], lam), g["derivatives"], rtol=1e-12, atol=1e-12)

    def loss(logits):
        margins = logits * ops.convert_to_tensor(signs.astype("float32"))
        noise = ops.convert_to_tensor(g["noise"].astype("float32"))
        return ops.mean(ens_loss_derivatives(margins, noise, lam) * margins)

    value, grad = gradient(loss, g["logits"].astype("float32"))
    assert_close(value, g["loss"].astype("float32"))
    assert_close(grad, g["grad_logits"].astype("float32"))


def test_by_hand():
    margins = np.array([0.5, -1.0, 2.0], "float32")
    found = to_numpy(ens_loss_derivatives(margins, [-1.0, 0.3, -0.2]))
    assert_close(found, np.array([-0.818732, -1.000001, -0.183941], "float32"), atol=1e-6)
    assert np.mean(found * margins) == pytest.approx(0.074251, abs=1e-6)


@each_lambda
@pytest.mark.parametrize("n", [1, 2, 9])
def test_matches_plain_loops(lam, n):
    for seed in range(3):
        margins, noise = batch(n, seed)
        expected = naive(margins.astype("float64"), noise.astype("float64"), lam)
        assert_close(ens_loss_derivatives(margins, noise, lam), expected.astype("float32"))
        tensor = ops.convert_to_tensor(lam, "float32")
        assert_close(ens_loss_derivatives(margins, noise, tensor), expected.astype("float32"))


def test_the_whole_range_of_lambda_near_zero():
    """Where a power of a power would round: against float64, to float32's own digits."""
    margins, noise = np.zeros(200, "float32"), np.linspace(-6, 6, 200, dtype="float32")
    for lam in 10.0 ** np.arange(-9, 0):
        for sign in (-1, 1):
            found = np.sort(to_numpy(ens_loss_derivatives(margins, noise, sign * lam)))
            expected = np.sort(naive(margins, noise.astype("float64"), sign * lam))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


@each_lambda
def test_convex_and_calibrated(lam):
    """Slopes do not decrease with the margin, and are negative and bounded."""
    margins, noise = batch(200)
    slopes = to_numpy(ens_loss_derivatives(margins, noise, lam))
    assert (slopes < 0).all()
    assert (slopes >= -1 - 2e-6).all()
    order = np.argsort(margins)
    assert (np.diff(slopes[order]) >= 0).all()


@each_lambda
def test_extremes(lam):
    noise = np.array([-1e30, 1e30, 200.0, -200.0, 0.0], "float32")
    margins = np.array([1e30, -1e30, 3.0, 1.0, -1e-30], "float32")
    assert_close(
        ens_loss_derivatives(margins, noise, lam),
        naive(margins.astype("float64"), np.clip(noise.astype("float64"), -600, 600), lam).astype(
            "float32"
        ),
    )
    slopes = ens_loss_derivatives(np.array([np.inf, -np.inf], "float32"), noise[:2], lam)
    assert to_numpy(slopes)[0] == np.float32(-1e-6)
    assert np.isfinite(to_numpy(slopes)).all()


def test_no_nan_from_what_the_transformation_leaves_out():
    """`1 + lambda z <= 0`: a slope of -1 below 0, of 0 above."""
    z = np.array([3.0, 2.0, 2.5], "float32")
    assert_close(ens_loss_derivatives(-z, z, -0.5), np.full(3, -1.000001, "float32"), atol=1e-7)
    assert_close(ens_loss_derivatives(-z, -z, 0.5), np.full(3, -1e-6, "float32"), atol=1e-12)


def test_equal_margins_share_the_slopes():
    _, noise = batch()
    found = to_numpy(ens_loss_derivatives(np.zeros(9, "float32"), noise))
    assert_close(np.sort(found), np.sort(naive(np.zeros(9), noise)).astype("float32"))


@pytest.mark.parametrize("place", [0, 1])
def test_nan_gives_nan(place):
    arguments = batch()
    arguments[place][3] = np.nan
    assert np.isnan(to_numpy(ens_loss_derivatives(*arguments))).all()
    assert np.isnan(to_numpy(ens_loss_derivatives(*batch(), ops.convert_to_tensor(np.nan)))).all()


def test_is_a_constant():
    margins, noise = batch()
    noise = ops.convert_to_tensor(noise)
    _, grad = gradient(lambda s: ops.sum(ens_loss_derivatives(s, noise) * s), margins)
    assert_close(grad, ens_loss_derivatives(margins, noise), rtol=0, atol=0)


def test_dtypes():
    margins, noise = batch()
    for dtype in ("float16", "bfloat16", "int32"):
        low = ops.cast(margins, dtype)
        full = ens_loss_derivatives(ops.cast(low, "float32"), noise)
        assert_close(ens_loss_derivatives(low, noise), full, rtol=0, atol=0)
    if BACKEND == "tensorflow":  # the others have float64 where they are told to
        found = ens_loss_derivatives(margins.astype("float64"), noise.astype("float64"), 0.4)
        expected = naive(margins.astype("float64"), noise.astype("float64"), 0.4)
        assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("margins", "noise", "lam", "name"),
    [
        (np.ones(3), np.ones(4), 0.0, "margins"),
        (np.ones((3, 1)), np.ones((3, 1)), 0.0, "margins"),
        (np.ones(3), np.ones(()), 0.0, "margins"),
        (np.ones(3), np.ones(3), math.nan, "box_cox_lambda"),
        (np.ones(3), np.ones(3), math.inf, "box_cox_lambda"),
        (np.ones(3), np.ones(3), np.ones(3), "box_cox_lambda"),
    ],
)
def test_bad_arguments(margins, noise, lam, name):
    with pytest.raises(ValueError, match=rf"`{name}`.* must be .*Received: "):
        ens_loss_derivatives(margins, noise, lam)
