import keras
import numpy as np
import pytest

from keras_zoo.losses import (
    CombinedLoss,
    ICNNLoss,
    InfoNCELoss,
    ProtoTripletLoss,
    PrototypicalLoss,
)
from tests.harness import assert_close, golden, gradient, to_numpy


def test_average_of_the_fixtures():
    g = golden("susana-distancia", "episode_5w1s")
    shots, m = int(g["shots"]), int(g["num_neighbors"])
    loss = CombinedLoss(
        [PrototypicalLoss(shots), ProtoTripletLoss(shots), ICNNLoss(num_neighbors=m)]
    )
    value, grad = gradient(lambda x: loss(g["labels"], x), g["embeddings"])
    assert_close(value, sum(float(g[f"{part}_loss"]) for part in ("ce", "pt", "icnn")) / 3)
    expected = sum(g[f"{part}_grad"] for part in ("ce", "pt", "icnn")) / 3
    assert_close(grad, expected, rtol=1e-4, atol=1e-5)


def test_weighs_example_by_example():
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(2, 5, 3)).astype("float32")
    parts = [keras.losses.MeanSquaredError(), keras.losses.MeanAbsoluteError()]
    loss = CombinedLoss(parts, [2.0, -0.5])
    rows = 2 * ((y - x) ** 2).mean(axis=1) - 0.5 * np.abs(y - x).mean(axis=1)
    assert_close(loss.call(y, x), rows)
    weight = rng.random(5).astype("float32")
    assert_close(loss(y, x, sample_weight=weight), (rows * weight).mean())
    assert_close(CombinedLoss(parts, [2.0, -0.5], reduction="sum")(y, x), rows.sum())


def test_config_holds_the_parts():
    loss = CombinedLoss([PrototypicalLoss(2, 3.0), keras.losses.MeanSquaredError()], [1.0, 0.5])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert [type(part) for part in again.losses] == [type(part) for part in loss.losses]
    assert again.losses[0].get_config() == loss.losses[0].get_config()
    assert again.weights == [1.0, 0.5]


def test_nan_in_one_part_shows():
    x = np.array([[1.0, np.nan]], "float32")
    parts = [keras.losses.MeanSquaredError(), keras.losses.MeanAbsoluteError()]
    assert np.isnan(to_numpy(CombinedLoss(parts, [0.0, 1.0])(np.zeros((1, 2)), x)))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([],), "losses"),
        ((["mse"],), "losses"),
        ((keras.losses.MeanSquaredError(),), "losses"),
        (([keras.losses.MeanSquaredError(reduction="sum")],), "losses"),
        (([keras.losses.MeanSquaredError()], [1.0, 2.0]), "weights"),
        (([keras.losses.MeanSquaredError()], [float("inf")]), "weights"),
        (([keras.losses.MeanSquaredError()], 1.0), "weights"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=rf"(?s)`{name}.*Received: "):
        CombinedLoss(*arguments)


def test_parts_of_different_shapes_are_refused():
    loss = CombinedLoss([InfoNCELoss(), keras.losses.MeanSquaredError()])
    with pytest.raises(ValueError, match="Received: "):
        loss.call(np.zeros((4, 2, 3), "float32"), np.ones((4, 2, 3), "float32"))
