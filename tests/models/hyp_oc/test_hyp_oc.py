import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub")

import keras_hub

from keras_zoo.models import HypOCAnomalyDetector, HypOCBackbone
from keras_zoo.trainers import HypOC
from tests.harness import assert_close, to_numpy

X = np.random.default_rng(0).random((8, 5, 5)).astype("float32")
Y = np.array([0, 1, 0, 1, 1, 0, 0, 1])


def encoder():
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(6, trainable=False, name="features")
    return keras.Sequential([keras.Input((5, 5)), keras.layers.Flatten(), dense], name="encoder")


def trainer(**kwargs):
    model = HypOC(encoder(), seed=0, **{"hidden_units": (8, 4), "curvature": 0.4, **kwargs})
    model(X)
    model.to_ball.origin.assign(np.array([0.1, -0.2, 0.3, 0.2]))
    return model


def test_backbone_is_the_trainers_network():
    model = trainer()
    detector = HypOCAnomalyDetector.from_trainer(model)
    points = model(X, training=True)["points"]
    assert_close(detector.backbone(X), to_numpy(points))
    assert (np.linalg.norm(to_numpy(points), axis=1) < 0.4**-0.5).all()
    assert_close(detector(X), to_numpy(model(X)))
    assert_close(detector.predict_score(X), model.predict_score(X))
    assert len(detector.trainable_weights) == len(model.trainable_weights)
    # What it learns from now on is its own.
    model.classifier.set_weights([0 * w for w in model.classifier.get_weights()])
    assert np.ptp(to_numpy(detector(X))) > 0


def test_a_given_embedding_is_shared():
    embedding = keras.layers.Dense(4)
    model = trainer(hidden_units=(8192, 1000, 512, 128), embedding=embedding, clip_radius=None)
    detector = HypOCAnomalyDetector.from_trainer(model)
    assert detector.backbone.embedding is embedding
    assert_close(detector(X), to_numpy(model(X)))
    again = HypOCBackbone.from_config(detector.backbone.get_config())
    assert again.get_config() == detector.backbone.get_config()
    assert again.clip_radius is None


def test_preset_round_trip(tmp_path):
    detector = HypOCAnomalyDetector.from_trainer(trainer())
    detector.save_to_preset(tmp_path / "preset")
    expected = to_numpy(detector(X))
    loaded = HypOCAnomalyDetector.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(to_numpy(loaded(X)), expected)
    assert len(loaded.trainable_weights) == len(detector.trainable_weights)
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    assert type(backbone) is HypOCBackbone
    assert_close(backbone(X), to_numpy(detector.backbone(X)))
    fresh = HypOCAnomalyDetector.from_preset(tmp_path / "preset", load_weights=False)
    assert np.any(to_numpy(fresh(X)) != expected)


def test_learns_from_both_kinds_and_resumes(tmp_path):
    detector = HypOCAnomalyDetector.from_trainer(trainer())
    detector.compile(keras.optimizers.Adam(0.05))
    losses = detector.fit(X, Y, batch_size=8, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    detector.save(tmp_path / "detector.keras")
    again = keras.saving.load_model(tmp_path / "detector.keras")
    assert float(again.train_on_batch(X, Y)) == float(detector.train_on_batch(X, Y))
    for one, other in zip(again.get_weights(), detector.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_low_precision():
    detector = HypOCAnomalyDetector(HypOCBackbone(encoder(), hidden_units=(4,), dtype="float16"))
    logits = detector(X)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(to_numpy(logits)).all()


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"encoder": keras.layers.Dense(3)}, "encoder"),
        ({"encoder": keras.Sequential([keras.layers.Dense(3)])}, "encoder"),
        ({"embedding": "dense"}, "embedding"),
        ({"hidden_units": ()}, "hidden_units"),
        ({"curvature": 0}, "curvature"),
        ({"clip_radius": -1.0}, "clip_radius"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: "):
        HypOCBackbone(**{"encoder": encoder(), **kwargs})


def test_detector_needs_its_parts():
    with pytest.raises(ValueError, match=r"`backbone` must be.*Received: "):
        HypOCAnomalyDetector(encoder())
    for bad in (encoder(), HypOC(encoder())):
        with pytest.raises(ValueError, match=r"`trainer` must be.*Received: "):
            HypOCAnomalyDetector.from_trainer(bad)
