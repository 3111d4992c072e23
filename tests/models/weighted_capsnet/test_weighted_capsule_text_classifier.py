"""The task that takes texts, its preprocessor and its preset."""

import keras
import numpy as np
import pytest

from keras_zoo import list_presets
from keras_zoo.layers import DomainBelongingDegree
from keras_zoo.losses import MarginLoss
from keras_zoo.models import (
    CapsuleTextClassifier,
    WeightedCapsuleEnsemble,
    WeightedCapsuleTextClassifier,
    WeightedCapsuleTextClassifierPreprocessor,
)
from tests.harness import assert_close, to_numpy

PRESET = "weighted_capsules_tiny_reviews"
TEXTS = ["good phone", "bad phone :(", "good film", "bad film"]
Y, DOMAINS = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
VOCABULARY = ["bad", "film", "good", "phone", ":("]


def preprocessor(**kwargs):
    settings = {"vocabulary": VOCABULARY, "sequence_length": 4, **kwargs}
    return WeightedCapsuleTextClassifierPreprocessor(**settings)


def classifier(preprocessor=None):
    keras.utils.set_random_seed(0)
    sizes = {"embedding_dim": 4, "num_channels": 2, "primary_dim": 3, "capsule_dim": 3}
    members = [CapsuleTextClassifier(6, 2, dropout=0.0, **sizes) for _ in range(2)]
    belonging = DomainBelongingDegree(2, 6)
    ensemble = WeightedCapsuleEnsemble(members, belonging)
    return WeightedCapsuleTextClassifier(ensemble, preprocessor=preprocessor)


def assert_same(one, other):
    assert one.keys() == other.keys() == {"polarity", "scores", "domain", "domain_weights"}
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


def test_ids_of_texts():
    prepare = preprocessor()
    wanted = [[3, 4, 0, 0], [1, 4, 5, 0], [0, 0, 0, 0], [3, 3, 3, 3]]
    texts = ["Good unknown PHONE", "bad phone :(", "", "good " * 6]
    ids = prepare(texts)
    assert ids.dtype == "int32"
    np.testing.assert_array_equal(ids, wanted)
    np.testing.assert_array_equal(prepare(np.array(texts)), wanted)
    np.testing.assert_array_equal(prepare("bad phone :("), wanted[1:2])
    x, y, weight = prepare(texts[:2], Y[:2], [0.5, 2.0])
    np.testing.assert_array_equal(x, wanted[:2])
    assert (list(y), weight) == ([1, 0], [0.5, 2.0])
    assert prepare.vocabulary_size == 6


def test_vocabulary_is_found_and_kept():
    prepare = preprocessor(vocabulary=None, script="persian", lowercase=False)
    prepare.adapt(["ب الف", "ب كي", "الف کی ب"], vocabulary_size=4)
    assert prepare.vocabulary == ["ب", "الف", "کی"]
    prepare.adapt(["ب الف", "ب كي", "الف کی ب"], vocabulary_size=2)
    assert prepare.vocabulary == ["ب"]
    again = WeightedCapsuleTextClassifierPreprocessor.from_config(prepare.get_config())
    assert again.get_config() == prepare.get_config()
    np.testing.assert_array_equal(again("ب"), [[1, 0, 0, 0]])


def test_from_texts_to_polarity_and_domain(tmp_path):
    model = classifier(preprocessor())
    model.fit_members(TEXTS, Y, DOMAINS, epochs=30, shuffle=False, verbose=0)
    found = model.predict(["a good phone", "bad bad film"], verbose=0)
    assert found["domain"].tolist() == [0, 1]
    assert_close(found["domain_weights"].sum(1), np.ones(2))
    ids = model.preprocessor(["a good phone", "bad bad film"])
    assert_close(found["scores"], to_numpy(model.backbone(ids)))
    np.testing.assert_array_equal(found["polarity"], found["scores"].argmax(1))
    assert_close(found["domain_weights"], model.backbone.domain_weights(ids))

    model.save_to_preset(tmp_path / "preset")
    again = WeightedCapsuleTextClassifier.from_preset(tmp_path / "preset")
    assert_same(again.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0))


def test_trains_further_on_the_scores(tmp_path):
    model = classifier(preprocessor())
    model.fit_members(TEXTS, Y, DOMAINS, verbose=0)
    loss = MarginLoss()(Y, model.predict(TEXTS, verbose=0)["scores"])
    result = model.evaluate(TEXTS, Y, verbose=0, return_dict=True)
    assert_close(result["loss"], to_numpy(loss))
    right = np.mean(model.predict(TEXTS, verbose=0)["polarity"] == Y)
    assert_close(result["accuracy"], right)
    losses = model.fit(TEXTS, Y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(again.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0))


def test_works_on_ids():
    ids = preprocessor()(TEXTS)
    model = classifier()
    model.fit_members(ids, Y, DOMAINS, verbose=0)
    with_texts = WeightedCapsuleTextClassifier(model.backbone, preprocessor())
    assert_same(model.predict(ids, verbose=0), with_texts.predict(TEXTS, verbose=0))


def test_a_refusal_changes_nothing():
    model = classifier(preprocessor())
    with pytest.raises(ValueError, match=r"`domains` .*Received: "):
        model.fit_members(TEXTS, Y, np.zeros(len(TEXTS), int))
    assert not any(member.compiled for member in model.backbone.members)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: preprocessor(vocabulary=[]), "vocabulary"),
        (lambda: preprocessor(vocabulary=["a", "a"]), "vocabulary"),
        (lambda: preprocessor(vocabulary=["a", 1]), "vocabulary"),
        (lambda: preprocessor(vocabulary="words"), "vocabulary"),
        (lambda: preprocessor(vocabulary=None)("good"), "vocabulary"),
        (lambda: preprocessor(sequence_length=0), "sequence_length"),
        (lambda: preprocessor(lowercase=1), "lowercase"),
        (lambda: preprocessor(script="latin"), "script"),
        (lambda: preprocessor().adapt([" "]), "x"),
        (lambda: preprocessor().adapt(["a"], vocabulary_size=1), "vocabulary_size"),
        (lambda: preprocessor()([1, 2]), "x"),
        (lambda: WeightedCapsuleTextClassifier(None), "backbone"),
        (lambda: classifier(preprocessor(vocabulary=list("abcdef"))), "preprocessor"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=rf"(?s)`{name}`.*Received: "):
        make()


def test_preset():
    model = WeightedCapsuleTextClassifier.from_preset(PRESET)
    about = list_presets(PRESET)[PRESET]
    texts = [
        "A moving and well acted film, the director is at his best",
        "The battery died after two days, do not buy this camera",
    ]
    found = model.predict(texts, verbose=0)
    assert [about["labels"][i] for i in found["polarity"]] == ["positive", "negative"]
    assert [about["domains"][i] for i in found["domain"]] == ["movies", "amazon"]
    assert found["domain_weights"].shape == (2, len(about["domains"]))
