import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_zoo.samplers import ClassBalancedSampler

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 6, 60) * 10
X = np.arange(60)


@given(st.integers(0, 10**6))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_batches_are_balanced(seed):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(5), rng.integers(1, 9, 5)))
    x = np.arange(len(y))
    classes, samples = rng.integers(1, 6, 2)
    sampler = ClassBalancedSampler(x, y, int(classes), int(samples), steps_per_epoch=2, seed=seed)
    for rows, labels in (sampler[0], sampler[1]):
        assert (y[rows] == labels).all()
        groups = labels.reshape(classes, samples)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0])) == classes
        for group, label in zip(rows.reshape(classes, samples), groups[:, 0], strict=True):
            if (y == label).sum() >= samples:
                assert len(set(group)) == samples


def test_batches_depend_on_seed_epoch_and_index_alone():
    a, b = (ClassBalancedSampler(X, Y, 3, 4, steps_per_epoch=4, seed=7) for _ in range(2))
    forward = [a[i][0] for i in range(4)]
    backward = [b[i][0] for i in reversed(range(4))][::-1]
    np.testing.assert_array_equal(forward, backward)
    a.on_epoch_end()  # as when Keras has looked at shapes only
    assert a.epoch == 0
    a.on_epoch_begin()
    for i in range(4):
        a[i]
    a.on_epoch_end()
    assert a.epoch == 1
    fresh = [a[i][0] for i in range(4)]
    assert not np.array_equal(forward, fresh)
    resumed = ClassBalancedSampler(X, Y, 3, 4, steps_per_epoch=4, seed=7)
    resumed.epoch = 1
    np.testing.assert_array_equal(fresh, [resumed[i][0] for i in range(4)])
    other = ClassBalancedSampler(X, Y, 3, 4, steps_per_epoch=4, seed=8)
    assert not np.array_equal(forward, [other[i][0] for i in range(4)])


def test_no_seed_is_a_new_one_each_time():
    a, b = (ClassBalancedSampler(X, Y, 3, 4, steps_per_epoch=4) for _ in range(2))
    assert not np.array_equal([a[i][0] for i in range(4)], [b[i][0] for i in range(4)])
    np.testing.assert_array_equal(a[1][0], a[1][0])


def test_default_steps():
    assert len(ClassBalancedSampler(X, Y, 3, 4)) == 5
    assert len(ClassBalancedSampler(X[:7], Y[:7], 3, 4)) == 1


def test_arrays_pass_through():
    x = RNG.normal(size=(60, 2, 3)).astype("float16")
    rows, labels = ClassBalancedSampler(x, Y[:, None].astype("int8"), 2, 3, seed=0)[0]
    assert rows.shape == (6, 2, 3)
    assert rows.dtype == "float16"
    assert labels.shape == (6, 1)
    assert labels.dtype == "int8"


class Watched(ClassBalancedSampler):
    """Keeps what it gave."""

    seen = ()

    def __getitem__(self, index):
        rows, labels = super().__getitem__(index)
        self.seen = (*self.seen, (self.epoch, index, tuple(rows[:, 0])))
        return rows, labels


@pytest.mark.parametrize("workers", [1, 2])
def test_fit_draws_anew_each_epoch_and_resumes(workers):
    x = X[:, None].astype("float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    first = Watched(x, Y, 3, 4, steps_per_epoch=4, seed=1, workers=workers)
    model.fit(first, epochs=3, verbose=0)
    if workers == 1:
        assert first.epoch == 3
        resumed = Watched(x, Y, 3, 4, steps_per_epoch=4, seed=1)
        resumed.epoch = 2
        model.fit(resumed, initial_epoch=2, epochs=3, verbose=0)
        assert resumed.epoch == 3
        assert {s for s in first.seen if s[0] == 2} == {s for s in resumed.seen if s[0] == 2}
    assert len({epoch for epoch, _, _ in first.seen}) >= 3
    again = ClassBalancedSampler(x, Y, 3, 4, steps_per_epoch=4, seed=1)
    for epoch, index, rows in first.seen:
        again.epoch = epoch
        assert rows == tuple(again[index][0][:, 0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"y": Y[:5]}, "`x` and `y`"),
        ({"y": Y + 0.5}, "`y` must hold integer"),
        ({"classes_per_batch": 7}, "`classes_per_batch` must be at most"),
        ({"classes_per_batch": 0}, "`classes_per_batch` must"),
        ({"samples_per_class": 1.5}, "`samples_per_class` must"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must"),
        ({"seed": -1}, "`seed` must"),
        ({"seed": 0.5}, "`seed` must"),
    ],
)
def test_bad_arguments(kwargs, message):
    arguments = {"x": X, "y": Y, "classes_per_batch": 3, "samples_per_class": 2}
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        ClassBalancedSampler(**{**arguments, **kwargs})


def test_no_such_batch():
    with pytest.raises(IndexError, match="Received: index=5"):
        ClassBalancedSampler(X, Y, 3, 4)[5]
