import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import MonotoneQuantiles, QuantileAggregation
from keras_zoo.losses import QuantileLoss
from tests.harness import assert_close, golden, gradient, to_numpy

RNG = np.random.default_rng(0)
Z, X = RNG.normal(size=(4, 3, 5)), RNG.normal(size=(4, 2))
Z32, X32 = Z.astype("float32"), X.astype("float32")
FORMS = [(r, local) for r in ("coarse", "medium", "fine") for local in (False, True)]
each_form = pytest.mark.parametrize(("resolution", "local"), FORMS)


def inputs_of(local, z=Z32, x=X32):
    return [z, x] if local else z


def built(resolution, local, **kwargs):
    """A small layer with weights that are not their start."""
    settings = {"hidden_units": 4, "num_layers": 2, **kwargs}
    layer = QuantileAggregation(resolution, local, **settings)
    layer(inputs_of(local))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def naive(layer, z, x):
    """The mixture of each example by plain loops in float64, without the monotone step."""
    weights = [to_numpy(w).astype("float64") for w in layer.weights]
    rows, (models, levels) = [], z.shape[1:]
    for n in range(len(z)):
        if layer.local:
            hidden = x[n]
            for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
                hidden = hidden @ kernel + bias
                hidden = np.where(hidden > 0, hidden, np.exp(hidden) - 1)
            logits = (hidden @ weights[-2] + weights[-1]).reshape(layer.weight_shape)
        else:
            logits = weights[0]
        w = logits
        if layer.normalize:
            w = np.exp(logits) / sum(np.exp(row) for row in logits)
        out = np.zeros(levels)
        for q in range(levels):
            for m in range(models):
                if layer.resolution == "fine":
                    out[q] += sum(w[m * levels + r, q] * z[n, m, r] for r in range(levels))
                else:
                    out[q] += w[m, q if layer.resolution == "medium" else 0] * z[n, m, q]
        rows.append(out)
    return np.array(rows)


@pytest.mark.parametrize("name", ["global_medium", "local_coarse", "local_fine"])
def test_matches_the_official_code(name):
    g = golden("quantile-aggregation", name)
    method = None if str(g["monotone"]) == "none" else str(g["monotone"])
    layer = QuantileAggregation(
        str(g["resolution"]),
        bool(g["local"]),
        bool(g["normalize"]),
        int(g["hidden_units"]),
        int(g["num_layers"]),
        activation=str(g["activation"]),
        monotone=method,
        monotone_strength=float(g["monotone_strength"]),
    )
    names = ["predictions", "features"] if layer.local else ["predictions"]
    arrays = [g[name].astype("float32") for name in names]

    def output(*arrays, training=True):
        return layer(list(arrays) if layer.local else arrays[0], training=training)

    output(*arrays)
    assert len(layer.weights) == int(g["num_weights"])
    layer.set_weights([g[f"w_{i:02d}"] for i in range(len(layer.weights))])
    assert_close(output(*arrays), g["output"])
    assert_close(output(*arrays, training=False), g["output_inference"])
    upstream = ops.convert_to_tensor(g["cotangent"], "float32")
    for i, name in enumerate(names):

        def product(x, i=i):
            return ops.sum(output(*arrays[:i], x, *arrays[i + 1 :]) * upstream)

        assert_close(gradient(product, arrays[i])[1], g[f"grad_{name}"], rtol=1e-4, atol=1e-5)


@each_form
@pytest.mark.parametrize("normalize", [True, False])
def test_matches_plain_loops(resolution, local, normalize):
    layer = built(resolution, local, normalize=normalize)
    out = layer(inputs_of(local))
    assert_close(out, naive(layer, Z, X), rtol=1e-4)
    weights = to_numpy(layer.aggregation_weights(inputs_of(local)))
    sizes = {"coarse": (3, 1), "medium": (3, 5), "fine": (15, 5)}
    assert weights.shape == (4 if local else 1, *sizes[resolution])
    if normalize:
        assert_close(weights.sum(axis=1), np.ones_like(weights[:, 0]))


@pytest.mark.parametrize("resolution", ["coarse", "medium", "fine"])
def test_starts_with_plain_averages(resolution):
    layer = QuantileAggregation(resolution)
    weights = to_numpy(layer.aggregation_weights(Z32))  # Which builds it.
    assert_close(weights, np.full(weights.shape, 1 / weights.shape[1]))
    mean = Z.mean(axis=1)
    if resolution == "fine":
        mean = np.repeat(mean.mean(axis=1, keepdims=True), 5, axis=1)
    assert_close(layer(Z32), mean)


def test_monotone_step_at_inference_and_in_training():
    plain = to_numpy(built("medium", False)(Z32))
    layer = built("medium", False, monotone="sort")
    assert_close(layer(Z32), np.sort(plain, axis=1))
    assert_close(layer(Z32, training=False), np.sort(plain, axis=1))
    assert_close(layer(Z32, training=True), plain)
    layer = built("medium", False, monotone="sort", monotone_in_training=True)
    assert_close(layer(Z32, training=True), np.sort(plain, axis=1))


def test_dropout_between_hidden_layers():
    layer = built("coarse", True, num_layers=3, dropout=0.5)
    kinds = [type(part).__name__ for part in layer._network]
    assert kinds == ["Dense", "Dropout", "Dense", "Dropout", "Dense", "Dense"]
    assert len(layer.get_weights()) == 8
    assert_close(layer([Z32, X32]), naive(layer, Z, X), rtol=1e-4)
    with_dropout = [to_numpy(layer([Z32, X32], training=True)) for _ in range(2)]
    assert np.any(with_dropout[0] != with_dropout[1])


def test_nan_and_extreme_logits():
    layer = built("fine", True)
    z, x = Z32.copy(), X32.copy()
    z[0, 1, 2], x[1, 0] = np.nan, np.nan
    out = to_numpy(layer([z, x]))
    assert np.isnan(out).all(axis=1).tolist() == [True, True, False, False]
    assert np.isfinite(out[2:]).all()
    layer = built("medium", False)
    layer.logits.assign(1e30 * layer.logits)
    value, grad = gradient(lambda z: ops.sum(layer(z)), Z32)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_learns_which_model_is_right_and_where():
    """One model is right for x < 0, another for x > 0: weights that know x find it, others not."""
    x = RNG.uniform(-1, 1, size=(256, 1))
    y = RNG.normal(size=256)
    right = y[:, None] + np.array([-0.1, 0.0, 0.1])
    noise = RNG.normal(size=(256, 3))
    z = np.stack([np.where(x < 0, right, noise), np.where(x < 0, noise, right)], axis=1)
    losses = {}
    for local in (False, True):
        keras.utils.set_random_seed(0)
        inputs = [keras.Input((2, 3)), keras.Input((1,))]
        layer = QuantileAggregation("medium", local, hidden_units=8, num_layers=1)
        model = keras.Model(inputs, layer(inputs if local else inputs[0]))
        model.compile(keras.optimizers.Adam(0.1), QuantileLoss([0.1, 0.5, 0.9]))
        history = model.fit([z, x], y, batch_size=64, epochs=8, verbose=0).history["loss"]
        assert history[-1] < history[0]
        losses[local] = history[-1]
    assert losses[True] < 0.7 * losses[False]


@pytest.mark.slow
def test_quantized_and_reloaded(tmp_path):
    inputs = [keras.Input((3, 5)), keras.Input((2,))]
    layer = QuantileAggregation("medium", True, hidden_units=4, num_layers=1, name="aggregation")
    model = keras.Model(inputs, layer(inputs))
    plain = model.predict([Z32, X32], verbose=0)
    model.quantize("int8")
    expected = model.predict([Z32, X32], verbose=0)
    assert_close(expected, plain, rtol=0.05, atol=0.05)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict([Z32, X32], verbose=0), expected)


def test_monotone_layer():
    layer = MonotoneQuantiles()
    assert_close(layer(Z32), np.sort(Z32, axis=-1))
    assert layer.compute_output_shape((None, 3, 5)) == (None, 3, 5)
    assert "float16" in str(MonotoneQuantiles(dtype="mixed_float16")(Z32).dtype)
    for kwargs in ({"method": "soft"}, {"strength": -1.0}):
        name = next(iter(kwargs))
        with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
            MonotoneQuantiles(**kwargs)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"resolution": "rough"},
        {"local": 1},
        {"normalize": None},
        {"hidden_units": 0},
        {"num_layers": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"monotone": "soft"},
        {"monotone_in_training": "yes"},
        {"monotone_strength": 0.0},
    ],
)
def test_bad_arguments(kwargs):
    name = next(iter(kwargs))
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        QuantileAggregation(**kwargs)


@pytest.mark.parametrize(
    ("local", "inputs"),
    [
        (False, [Z32, X32]),
        (False, X32),
        (True, Z32),
        (True, [Z32]),
        (True, [X32, Z32]),
        (True, [Z32, Z32]),
        (False, keras.Input((3, None))),
    ],
)
def test_bad_inputs(local, inputs):
    with pytest.raises(ValueError, match=r"`inputs` must be .*Received: shape"):
        QuantileAggregation(local=local)(inputs)
