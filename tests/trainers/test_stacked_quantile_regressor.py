import random

import keras
import numpy as np
import pytest
from sklearn.base import BaseEstimator

from keras_zoo.losses import QuantileLoss
from keras_zoo.trainers import StackedQuantileRegressor
from tests.harness import assert_close, to_numpy

LEVELS = [0.1, 0.5, 0.9]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(43, 2))
Y = X[:, 0] + 0.3 * RNG.normal(size=43)
SMALL = {"n_splits": 3, "epochs": 2, "batch_size": 16}


class Empirical:
    """Quantiles of the targets it has seen, plus `slope` times the first feature."""

    def __init__(self, slope=0.0):
        self.slope = slope
        self.fits = 0

    def fit(self, X, y):
        self.fits += 1
        self.seen_ = set(y.tolist())
        self.levels_ = np.quantile(y - self.slope * X[:, 0], LEVELS)

    def predict(self, X):
        return self.slope * X[:, :1] + self.levels_


class SklearnEmpirical(BaseEstimator):
    """A scikit-learn estimator, which `clone` leaves without what it has learnt."""

    def __init__(self, slope=1.0):
        self.slope = slope

    def fit(self, X, y):
        assert not hasattr(self, "inner_")
        self.inner_ = Empirical(self.slope)
        self.inner_.fit(X, y)
        return self

    def predict(self, X):
        return self.inner_.predict(X)


def network():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", QuantileLoss(LEVELS))
    return model


@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_are_predicted_by_models_that_have_not_seen_them(shuffle):
    models = [Empirical(), SklearnEmpirical()]
    stack = StackedQuantileRegressor(models, LEVELS, shuffle=shuffle, **SMALL)
    assert stack.fit(X, Y[:, None]) is stack
    assert models[0].fits == 0
    assert not hasattr(models[1], "inner_")
    assert [model.seen_ for model in stack.fitted_models_[:1]] == [set(Y.tolist())]
    folds = stack._folds(43, np.random.default_rng(0))
    assert [len(fold) for fold in folds] == [15, 14, 14]
    if not shuffle:
        assert np.concatenate(folds).tolist() == list(range(43))
    assert sorted(np.concatenate(folds).tolist()) == list(range(43))
    assert np.any(folds[0] != stack._folds(43, np.random.default_rng(1))[0]) == shuffle
    expected = np.empty((43, 2, 3))
    for fold in folds:
        rest = [i for i in range(43) if i not in fold]
        for m, slope in enumerate((0.0, 1.0)):
            levels = np.quantile(Y[rest] - slope * X[rest, 0], LEVELS)
            expected[fold, m] = slope * X[fold, :1] + levels
    assert_close(stack.oof_predictions_, expected)


def test_keras_and_scikit_learn_models_together():
    """Local weights on three kinds of models: copies, order, seeds, and what is left alone."""
    x, y = X[:42], Y[:42]  # Of folds of one size, which compile once.
    given = network()
    start = given.get_weights()
    models = [Empirical(), SklearnEmpirical(), given]
    settings = {"local": True, "n_splits": 2, "epochs": 1, "batch_size": 64}
    settings["aggregation_kwargs"] = {"hidden_units": 4, "num_layers": 1}

    def predictions(seed):
        stack = StackedQuantileRegressor(models, LEVELS, "fine", seed=seed, **settings)
        return stack.fit(x, y), stack.predict(x)

    before = random.getstate()
    stack, got = predictions(3)
    # Python's generator seeds layers; it is where it was.
    assert random.getstate() == before
    assert int(given.optimizer.iterations) == 0
    for a, b in zip(given.get_weights(), start, strict=True):
        np.testing.assert_array_equal(a, b)
    assert got.shape == (42, 3)
    assert (np.diff(got, axis=1) >= 0).all()
    z = np.stack(
        [m.predict(x) for m in stack.fitted_models_[:2]]
        + [stack.fitted_models_[2].predict(x, verbose=0)],
        axis=1,
    )
    assert_close(stack.model_.predict([z, x], verbose=0), got, rtol=1e-4)
    trained = stack.fitted_models_[2].get_weights()
    assert any(np.any(a != b) for a, b in zip(trained, start, strict=True))
    np.testing.assert_array_equal(predictions(3)[1], got)


def test_learns_which_model_is_the_better_one():
    stack = StackedQuantileRegressor(
        [Empirical(), Empirical(1.0)], LEVELS, "coarse", n_splits=3, epochs=20, learning_rate=0.1
    ).fit(X, Y)
    weights = to_numpy(stack.model_.layers[-1].aggregation_weights(stack.oof_predictions_))
    assert weights[0, 1, 0] > 0.8
    loss = QuantileLoss(LEVELS)
    assert float(loss(Y, stack.predict(X))) < float(loss(Y, stack.oof_predictions_.mean(axis=1)))


def test_options_reach_what_they_are_for():
    loss = QuantileLoss([0.1, 0.5, 0.9], huber_delta=0.1)
    stack = StackedQuantileRegressor(
        [Empirical()],
        LEVELS,
        crossing_weight=2.0,
        crossing_margin=[0.1, 0.2, 0.3],
        aggregation_kwargs={"normalize": False, "monotone": "isotonic"},
        seed=None,
        **SMALL,
    )
    assert stack._loss.crossing_weight == 2.0
    assert stack._loss.crossing_margin == (0.1, 0.2, 0.3)
    layer = stack._aggregator(X).layers[-1]
    assert (layer.normalize, layer.monotone, layer.resolution) == (False, "isotonic", "medium")
    assert StackedQuantileRegressor([Empirical()], LEVELS, loss=loss)._loss is loss
    optimizer = StackedQuantileRegressor([Empirical()], LEVELS)._aggregator(X).optimizer
    assert optimizer.amsgrad
    assert float(optimizer.learning_rate) == pytest.approx(1e-2)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"base_models": []},
        {"base_models": Empirical()},
        {"base_models": [Empirical(), 3]},
        {"base_models": [keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])]},
        {"quantiles": [0.5, 0.1]},
        {"resolution": "rough"},
        {"local": 1},
        {"n_splits": 1},
        {"n_splits": 2.5},
        {"shuffle": None},
        {"seed": -1},
        {"seed": True},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"crossing_weight": -1},
        {"crossing_margin": [0.1]},
        {"aggregation_kwargs": [("monotone", "sort")]},
        {"monotone": "soft"},
        {"crossing_weight": 1.0, "loss": "mse"},
    ],
)
def test_bad_arguments(kwargs):
    name = next(iter(kwargs))
    if name == "monotone":
        kwargs = {"aggregation_kwargs": kwargs}
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
        StackedQuantileRegressor(**{"base_models": [Empirical()], "quantiles": LEVELS, **kwargs})


def test_a_trained_keras_model_is_refused():
    model = network()
    model.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match=r"`base_models` must hold Keras models .*not yet trained"):
        StackedQuantileRegressor([model], LEVELS)


def test_bad_arrays():
    stack = StackedQuantileRegressor([Empirical()], LEVELS, local=True, **SMALL)
    with pytest.raises(ValueError, match=r"`predict` must come after `fit`.*Received: "):
        stack.predict(X)
    for y in (Y[:-1], np.full(43, np.nan), np.ones((43, 2))):
        with pytest.raises(ValueError, match=r"`y` must hold .*Received: X of shape"):
            stack.fit(X, y)
    for x, y in ((X[:, 0], Y), (X[:2], Y[:2]), (np.full_like(X, np.nan), Y), (X.astype(str), Y)):
        with pytest.raises(ValueError, match=r"`X` must .*Received: X of shape"):
            stack.fit(x, y)
    wrong = Empirical()
    wrong.predict = lambda X: X
    stack = StackedQuantileRegressor([wrong], LEVELS, **SMALL)
    with pytest.raises(ValueError, match=r"`base_models` must predict .*Received: predictions of"):
        stack.fit(X, Y)
