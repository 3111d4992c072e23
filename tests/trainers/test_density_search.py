import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_zoo.trainers import DensitySearch


def bowl(centre):
    return lambda d: sum((x - c) ** 2 for x, c in zip(d, centre, strict=True))


@pytest.mark.parametrize(
    ("kernel_size", "centre"), [(3, (0.8,)), (5, (0.2, 0.8)), (7, (0.25, 0.4, 0.55))]
)
def test_finds_the_minimum(kernel_size, centre):
    search = DensitySearch(bowl(centre), kernel_size, max_evaluations=150)
    assert search.fit() is search
    np.testing.assert_allclose(search.best_density_, centre, atol=0.02)
    assert isinstance(search.best_density_, list)
    assert search.best_value_ == bowl(centre)(search.best_density_)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    rings=st.integers(1, 3),
    evaluations=st.integers(1, 60),
    lows=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
)
def test_never_evaluates_too_often_nor_outside(rings, evaluations, lows):
    calls = []

    def objective(density):
        calls.append(density)
        return math.sin(7 * sum(density))

    bounds = [(low, low + 1.0) for low in lows[:rings]]
    search = DensitySearch(objective, 2 * rings + 1, bounds, evaluations).fit()
    assert 1 <= len(calls) <= evaluations
    assert [density for density, _ in search.history_] == calls
    assert search.best_value_ == min(value for _, value in search.history_)
    assert (tuple(search.best_density_), search.best_value_) in search.history_
    for density in calls:
        assert isinstance(density, tuple)
        assert all(low <= d <= high for d, (low, high) in zip(density, bounds, strict=True))


def test_spends_all_evaluations_but_the_last_division():
    calls = []
    DensitySearch(lambda d: calls.append(d) or d[0], 3, max_evaluations=30).fit()
    assert len(calls) == 30


def test_non_finite_values_are_infinitely_bad():
    for bad in (float("nan"), float("inf"), -float("inf")):
        search = DensitySearch(lambda d, bad=bad: bad if d[0] > 0.9 else d[0], 3).fit()
        assert search.best_value_ <= 0.6
        assert all(value == math.inf for (d, *_), value in search.history_ if d > 0.9)
        hopeless = DensitySearch(lambda d, bad=bad: bad, 5, max_evaluations=8).fit()
        assert hopeless.best_value_ == math.inf
        assert tuple(hopeless.best_density_) == hopeless.history_[0][0]


def test_bounds_of_the_authors():
    assert DensitySearch(min, 3).bounds == ((0.5, 1.5),)
    assert DensitySearch(min, 5).bounds == ((0.05, 1.0), (0.5, 1.5))
    assert DensitySearch(min, 7).bounds == ((0.05, 0.5), (0.15, 1.0), (0.25, 1.5))


def test_fit_again_starts_anew():
    search = DensitySearch(bowl((0.8,)), 3, max_evaluations=9)
    first = list(search.fit().history_)
    assert search.fit().history_ == first


def test_errors_of_the_objective_come_through():
    def objective(density):
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        DensitySearch(objective).fit()


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"objective": 3}, "objective"),
        ({"kernel_size": 1}, "kernel_size"),
        ({"kernel_size": 4}, "kernel_size"),
        ({"kernel_size": 3.0}, "kernel_size"),
        ({"kernel_size": 9}, "bounds"),
        ({"bounds": [(0, 1), (0, 1)]}, "bounds"),
        ({"bounds": [(1, 0)]}, "bounds"),
        ({"bounds": [(0, float("inf"))]}, "bounds"),
        ({"bounds": 3}, "bounds"),
        ({"max_evaluations": 0}, "max_evaluations"),
        ({"max_evaluations": 2.5}, "max_evaluations"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}`.*Received: "):
        DensitySearch(**{"objective": min, **kwargs})


def test_tunes_a_layer():
    keras = pytest.importorskip("keras")
    from keras_zoo.layers import WeightedConv1D

    x = np.random.default_rng(0).standard_normal((8, 9, 1)).astype("float32")
    truth = WeightedConv1D(1, 3, density=[0.7], kernel_initializer="ones")
    y = keras.ops.convert_to_numpy(truth(x))

    def objective(density):
        layer = WeightedConv1D(1, 3, density=density, kernel_initializer="ones")
        return np.mean((keras.ops.convert_to_numpy(layer(x)) - y) ** 2)

    search = DensitySearch(objective, 3, max_evaluations=12).fit()
    assert search.best_density_[0] == pytest.approx(0.7, abs=0.05)
