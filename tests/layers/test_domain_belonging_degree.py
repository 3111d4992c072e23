"""How much texts belong to domains."""

import keras
import numpy as np
import pytest

from keras_zoo.layers import DomainBelongingDegree
from tests.harness import assert_close, golden, to_numpy


@pytest.mark.parametrize("name", ["domain_belonging_degree", "domain_belonging_degree_plain"])
def test_matches_the_fixture(name):
    f = golden("weighted-capsnet", name)
    layer = DomainBelongingDegree(
        int(f["num_domains"]),
        int(f["vocabulary_size"]),
        sublinear_tf=bool(f["sublinear_tf"]),
        smooth_idf=bool(f["smooth_idf"]),
        tf_scale=float(f["tf_scale"]),
        sharpness=float(f["sharpness"]),
    )
    layer.adapt(f["token_ids"], f["domains"])
    assert_close(layer.table, f["table"].astype("float32"), rtol=1e-4)
    assert_close(layer(f["test_ids"]), f["output"].astype("float32"), rtol=1e-4)


def test_by_hand():
    """Word 1 in both domains, word 2 in the first alone; ids of padding do not count."""
    layer = DomainBelongingDegree(2, 4, sublinear_tf=False, smooth_idf=False, pad_id=3)
    layer.adapt(np.array([[1, 2, 2, 3], [1, 3, 3, 3]]), np.array([[0], [1]]))
    table = np.zeros((4, 2), "float32")
    table[2, 0] = 2 / 3 * np.log(2)
    assert_close(layer.table, table)
    assert_close(
        layer(np.array([[2, 1], [1, 3], [0, 0]])),
        np.array([[1, 0], [0.5, 0.5], [0.5, 0.5]], "float32"),
    )


def test_a_domain_without_texts_and_a_great_sharpness():
    layer = DomainBelongingDegree(3, 5, sharpness=400.0)
    layer.adapt(np.array([[1, 2], [1, 3]]), np.array([0, 1]))
    assert not to_numpy(layer.table)[:, 2].any()
    degrees = to_numpy(layer(np.array([[1, 2], [1, 1]])))
    assert_close(degrees, np.array([[1, 0, 0], [0.5, 0.5, 0]], "float32"))


def test_adapts_anew_and_is_saved(tmp_path):
    layer = DomainBelongingDegree(2, 5)
    layer.adapt(np.array([[4, 4]]), np.array([1]))
    layer.adapt(np.array([[1, 2], [1, 3]]), np.array([0, 1]))
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    ids = np.array([[1, 2, 0], [3, 3, 0]])
    assert_close(again(ids), layer(ids))
    assert not to_numpy(layer.table)[4].any()


@pytest.mark.parametrize(
    ("ids", "domains", "name"),
    [
        ([[5]], [0], "token_ids"),
        ([[-1]], [0], "token_ids"),
        ([[1.0]], [0], "token_ids"),
        ([[1]], [0, 1], "token_ids"),
        ([[1]], [2], "domains"),
        ([[1]], [0.5], "domains"),
    ],
)
def test_bad_texts_change_nothing(ids, domains, name):
    layer = DomainBelongingDegree(2, 5)
    with pytest.raises(ValueError, match=rf"`{name}`.*Received"):
        layer.adapt(np.array(ids), np.array(domains))
    assert not to_numpy(layer.table).any()


@pytest.mark.parametrize(
    "kwargs",
    [
        {"num_domains": 0},
        {"vocabulary_size": 0},
        {"sublinear_tf": 1},
        {"smooth_idf": None},
        {"tf_scale": 0.0},
        {"sharpness": 0.0},
        {"pad_id": -1},
    ],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match=rf"`{next(iter(kwargs))}`.*Received"):
        DomainBelongingDegree(**{"num_domains": 2, "vocabulary_size": 5, **kwargs})
