"""The capsule network of texts, and one for each domain."""

import keras
import numpy as np
import pytest

from keras_zoo.layers import DomainBelongingDegree
from keras_zoo.losses import MarginLoss
from keras_zoo.models import CapsuleTextClassifier, WeightedCapsuleEnsemble
from tests.harness import assert_close, to_numpy

IDS = np.array([[1, 2, 0, 0], [3, 1, 2, 2], [4, 3, 5, 0], [5, 5, 6, 1]])
Y, DOMAINS = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])


def classifier(**kwargs):
    sizes = {"embedding_dim": 4, "num_channels": 2, "primary_dim": 3, "capsule_dim": 3}
    model = CapsuleTextClassifier(7, 2, **{**sizes, "dropout": 0.0, **kwargs})
    model.compile(keras.optimizers.SGD(0.1), MarginLoss())
    return model


def ensemble(**kwargs):
    belonging = DomainBelongingDegree(2, 7, sharpness=3.0)
    return WeightedCapsuleEnsemble([classifier(**kwargs) for _ in range(2)], belonging)


def test_padding_changes_nothing():
    model = classifier()
    # Capsules start so short that nothing but 0 is seen of them.
    model.set_weights([10 * weight for weight in model.get_weights()])
    longer = np.concatenate([IDS, np.zeros((4, 3), "int64")], axis=1)
    assert_close(model(longer), model(IDS))
    nothing = to_numpy(model(np.zeros((1, 4), "int64")))
    assert_close(nothing, np.full((1, 2), 1e-7**0.5, "float32"))
    changed = IDS.copy()
    changed[0, 1] = 3
    assert np.abs(to_numpy(model(changed)) - to_numpy(model(IDS)))[0].max() > 1e-4


def test_parameters_and_scores():
    model = CapsuleTextClassifier(50, 3)
    sizes = {tuple(w.shape) for w in model.trainable_weights}
    assert sizes == {(50, 32), (3, 32, 32), (32,), (3, 8, 16)}
    scores = to_numpy(model(IDS))
    assert scores.shape == (4, 3)
    assert ((scores > 0) & (scores < 1)).all()


def test_weighs_members_by_domain():
    model = ensemble()
    model.belonging.adapt(IDS, DOMAINS)
    scores = np.stack([to_numpy(member(IDS)) for member in model.members])
    weights = model.domain_weights(IDS)
    assert_close(model(IDS), np.einsum("bd,dbc->bc", weights, scores))
    assert model.predict_domain(IDS).tolist() == weights.argmax(1).tolist()
    assert model.predict_domain(IDS[[0, 2]]).tolist() == [0, 1]


def test_fits_each_member_to_its_domain():
    model = ensemble()
    alone = classifier()
    alone.set_weights(model.members[1].get_weights())
    run = {"epochs": 2, "batch_size": 2, "shuffle": False, "verbose": 0}
    weight = np.array([1.0, 2.0, 3.0, 0.5])
    histories = model.fit_members(IDS, Y, DOMAINS, sample_weight=weight, **run)
    kept = alone.fit(IDS[2:], Y[2:], sample_weight=weight[2:], **run).history
    assert len(histories) == 2
    np.testing.assert_allclose(histories[1]["loss"], kept["loss"], rtol=1e-5)
    for mine, other in zip(model.members[1].weights, alone.weights, strict=True):
        assert_close(mine, to_numpy(other))
    assert to_numpy(model.belonging.table).any()


def test_saved_whole(tmp_path):
    model = ensemble()
    model.belonging.adapt(IDS, DOMAINS)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(again(IDS), to_numpy(model(IDS)))
    assert again.members[0].compiled
    np.testing.assert_array_equal(again.predict_domain(IDS), model.predict_domain(IDS))


def test_refusals_change_nothing():
    model = ensemble()
    before = [to_numpy(w) for w in model.weights]
    uncompiled = CapsuleTextClassifier(7, 2)
    mixed = WeightedCapsuleEnsemble([model.members[0], uncompiled], model.belonging)
    for fit, arguments, name in (
        (model.fit_members, (IDS, Y, np.array([0, 0, 1, 2])), "domains"),
        (model.fit_members, (IDS, Y, np.zeros(4, int)), "domains"),
        (model.fit_members, (IDS, Y[:3], DOMAINS), "x"),
        (mixed.fit_members, (IDS, Y, DOMAINS), "members"),
    ):
        with pytest.raises(ValueError, match=rf"`{name}`.*Received"):
            fit(*arguments, verbose=0)
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(a, to_numpy(b))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: CapsuleTextClassifier(0, 2), "vocabulary_size"),
        (lambda: CapsuleTextClassifier(5, 1), "num_classes"),
        (lambda: CapsuleTextClassifier(5, 2, dropout=1.0), "dropout"),
        (lambda: CapsuleTextClassifier(5, 2)(np.ones((2, 3, 4), int)), "inputs"),
        (lambda: WeightedCapsuleEnsemble([], None), "belonging"),
        (lambda: WeightedCapsuleEnsemble([], DomainBelongingDegree(2, 5)), "members"),
        (lambda: WeightedCapsuleEnsemble([1, 2], DomainBelongingDegree(2, 5)), "members"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=rf"(?s){name}.*Received: "):
        make()
