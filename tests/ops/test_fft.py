import cmath
import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.ops import fftn, ifftn
from keras_zoo.ops.fft import from_half_spectrum, half_spectrum
from tests.harness import BACKEND, assert_close, gradient, to_numpy

RNG = np.random.default_rng(0)
SHAPES = [(6,), (5,), (4, 3), (3, 4), (3, 2, 4), (2, 5, 3)]
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def draw(shape):
    return tuple(RNG.normal(size=(2, *shape)).astype("float32"))


def naive(pair, sign):
    """The sum of the definition, by plain loops."""
    re, im = (part.astype("float64") for part in pair)
    places = list(itertools.product(*map(range, re.shape)))
    result = np.zeros(re.shape, complex)
    for k in places:
        for j in places:
            turns = sum(a * b / n for a, b, n in zip(k, j, re.shape, strict=True))
            result[k] += complex(re[j], im[j]) * cmath.exp(sign * 2j * cmath.pi * turns)
    return result if sign < 0 else result / len(places)


@by_shape
def test_matches_plain_loops(shape):
    pair = draw(shape)
    for fn, sign in ((fftn, -1), (ifftn, 1)):
        re, im = fn(pair)
        expected = naive(pair, sign)
        assert_close(re, expected.real.astype("float32"), 1e-5, 1e-5)
        assert_close(im, expected.imag.astype("float32"), 1e-5, 1e-5)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_last_axes_of_a_batch(num_axes):
    pair = draw((2, 3, 4, 6, 5))
    axes = tuple(range(-num_axes, 0))
    for fn, reference in ((fftn, np.fft.fftn), (ifftn, np.fft.ifftn)):
        expected = reference(pair[0] + 1j * pair[1], axes=axes)
        re, im = fn(pair, num_axes)
        assert_close(re, expected.real.astype("float32"), 1e-5, 1e-4)
        assert_close(im, expected.imag.astype("float32"), 1e-5, 1e-4)


@by_shape
def test_there_and_back(shape):
    pair = draw(shape)
    for a, b in zip(ifftn(fftn(pair)), pair, strict=True):
        assert_close(a, b)


@by_shape
def test_half_a_spectrum(shape):
    """It is the cut axis of the whole one, first; and the way back is exact."""
    x = draw(shape)[0]
    whole = np.fft.fftn(x)[..., : shape[-1] // 2 + 1]
    re, im = half_spectrum(ops.convert_to_tensor(x))
    assert_close(re, np.moveaxis(whole.real, -1, 0).astype("float32"))
    assert_close(im, np.moveaxis(whole.imag, -1, 0).astype("float32"))
    assert_close(from_half_spectrum((re, im), shape[-1]), x)


def test_large_grid_is_accurate():
    pair = draw((36, 20, 48))
    expected = np.fft.fftn(pair[0].astype("float64") + 1j * pair[1])
    re, im = map(to_numpy, fftn(pair))
    assert np.abs(re + 1j * im - expected).max() < 1e-6 * np.abs(expected).max()


def test_gradient():
    """Parseval: the power of the spectrum is N times that of the signal."""
    x, im = draw((3, 4, 2))
    _, grad = gradient(lambda x: sum(ops.sum(ops.square(p)) for p in fftn((x, im))), x)
    assert_close(grad, 2 * x.size * x, 1e-4, 1e-4)


def test_nan_spreads():
    re, im = draw((3, 4, 2))
    re[1, 1, 1] = np.nan
    assert np.isnan(sum(map(to_numpy, fftn((re, im))))).all()


def test_dtypes():
    for dtype in ("int32", "float16", "bfloat16", "float32"):
        x = ops.cast(ops.ones((2, 3)), dtype)
        assert keras.backend.standardize_dtype(fftn((x, x))[0].dtype) == "float32"
    if BACKEND != "jax":  # which has no float64, unless told to
        x = RNG.normal(size=(3, 4, 5))
        expected = np.fft.fftn(x)
        re, im = fftn((ops.convert_to_tensor(x, "float64"), ops.zeros(x.shape)))
        assert_close(re, expected.real, 1e-12, 1e-12)
        assert_close(im, expected.imag, 1e-12, 1e-12)


def test_symbolic():
    x = keras.Input((4, 6, 8))
    re, im = fftn((x, x), 3)
    assert re.shape == im.shape == (None, 4, 6, 8)
    model = keras.Model(x, [re, im])
    assert_close(model.predict(np.ones((2, 4, 6, 8)), verbose=0)[0][0, 0, 0, 0], 192.0)


@pytest.mark.parametrize("fn", [fftn, ifftn])
def test_bad_input(fn):
    x = np.ones((2, 3, 4, 5), "float32")
    with pytest.raises(ValueError, match=r"`x` must be a pair .*Received: ndarray"):
        fn(x)
    with pytest.raises(ValueError, match=r"of one shape. Received: shapes \(2, 3, 4, 5\) and"):
        fn((x, x[0]))
    for bad in (None, 0, 4, True, 1.5, "2"):
        with pytest.raises(ValueError, match=r"`num_axes` must be 1, 2 or 3.*Received: num_axes="):
            fn((x, x), bad)
    with pytest.raises(ValueError, match=r"`num_axes` must be.*so many axes. Received: num_axes=2"):
        fn((x[0, 0, 0], x[0, 0, 0]), 2)
    with pytest.raises(ValueError, match=r"known lengths above 0. Received: x of shape \(2, 0\)"):
        fn((x[0, 0, :2, :0], x[0, 0, :2, :0]))
