import math

import keras
import numpy as np
import pytest

from keras_zoo.layers import LogitScale
from tests.harness import assert_close, to_numpy


def test_starts_at_one_over_the_temperature():
    layer = LogitScale()
    assert layer.scale == pytest.approx(1 / 0.07)
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    assert_close(layer(x), x / 0.07, rtol=1e-6)
    assert layer.compute_output_shape(x.shape) == x.shape
    assert [tuple(w.shape) for w in layer.trainable_weights] == [()]
    assert_close(layer.log_scale, -math.log(0.07))
    assert layer.scale == pytest.approx(1 / 0.07, rel=1e-6)


def test_is_capped():
    layer = LogitScale(initial_temperature=1e-3, max_scale=50.0)
    assert_close(layer(np.ones(2, "float32")), [50.0, 50.0])
    assert layer.scale == pytest.approx(50.0)
    # exp() of what is far above must not overflow into NaN.
    layer.log_scale.assign(1000.0)
    assert_close(layer(np.ones(1, "float32")), [50.0])


@pytest.mark.parametrize("upwards", [True, False])
def test_learns_within_its_bounds(upwards):
    model = keras.Sequential([keras.Input((1,)), LogitScale(0.5, max_scale=3.0)])
    model.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
    x = np.ones((4, 1), "float32")
    model.fit(x, x * (10.0 if upwards else 1.0), batch_size=4, epochs=30, verbose=0)
    scale = model.layers[0].scale
    assert scale == pytest.approx(3.0 if upwards else 1.0, rel=1e-2)
    # Its gradient has not died at the bound.
    model.fit(x, x, batch_size=4, epochs=30, verbose=0)
    assert model.layers[0].scale == pytest.approx(1.0, rel=1e-2)


def test_half_precision_keeps_the_scale_exact():
    layer = LogitScale(0.01, dtype="mixed_float16")
    out = layer(np.array([0.5, np.nan], "float16"))
    assert keras.backend.standardize_dtype(out.dtype) == "float16"
    assert to_numpy(out)[0] == pytest.approx(50.0, rel=1e-3)
    assert np.isnan(to_numpy(out)[1])


@pytest.mark.parametrize("name", ["initial_temperature", "max_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), "1"])
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        LogitScale(**{name: value})
