"""Margin loss."""

import keras
import numpy as np
import pytest

from keras_zoo.losses import MarginLoss
from tests.harness import assert_close, golden, gradient, to_numpy


@pytest.mark.parametrize("name", ["margin_loss", "margin_loss_costs"])
def test_matches_the_fixture(name):
    f = golden("weighted-capsnet", name)
    costs = f["class_costs"].tolist() or None
    settings = {key: float(f[key]) for key in ("m_plus", "m_minus", "down_weight")}
    loss = MarginLoss(**settings, class_costs=costs)
    p = f["y_pred"].astype("float32")
    for y in (f["labels"], f["labels"][:, None], f["y_onehot"]):
        assert_close(loss(y, p), f["loss"], rtol=1e-4)
        assert_close(loss.call(y, p), f["per_example"], rtol=1e-4)
        value, grad = gradient(lambda p, y=y: loss(y, p), p)
        assert_close(value, f["loss"], rtol=1e-4)
        assert_close(grad, f["grad"], rtol=2e-3)


def test_several_classes_at_once():
    y, p = np.array([[1.0, 1.0, 0.0]]), np.array([[0.5, 0.95, 0.3]])
    assert_close(MarginLoss()(y, p), np.float32(0.4**2 + 0.5 * 0.2**2))


def test_what_is_no_class_is_not_a_number():
    p = np.full((4, 3), 0.5, "float32")
    losses = to_numpy(MarginLoss(reduction=None)(np.array([0.0, 3.0, -1.0, np.nan]), p))
    assert np.isnan(losses).tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"m_plus": 0.1}, "m_minus"),
        ({"m_plus": None}, "m_plus"),
        ({"down_weight": -1}, "down_weight"),
        ({"class_costs": [1.0, -1.0]}, "class_costs"),
        ({"class_costs": 2.0}, "class_costs"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}`.*Received"):
        MarginLoss(**kwargs)


@pytest.mark.parametrize(
    ("y", "p", "costs"),
    [
        (np.zeros(3), np.zeros((2, 2)), None),
        (np.zeros(2), np.zeros((2, 1)), None),
        (np.zeros((2, 3)), np.zeros((2, 2)), None),
        (np.zeros(2), np.zeros((2, 2, 2)), None),
        (np.zeros(2), np.zeros((2, 3)), [1.0, 1.0]),
    ],
)
def test_bad_inputs(y, p, costs):
    with pytest.raises(ValueError, match=r"Received: "):
        MarginLoss(class_costs=costs).call(
            keras.ops.convert_to_tensor(y), keras.ops.convert_to_tensor(p)
        )
