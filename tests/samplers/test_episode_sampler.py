import numpy as np
import pytest

from keras_zoo.samplers import EpisodeSampler

Y = np.repeat([10, -3, 4, 7], [6, 6, 9, 3])
X = np.arange(len(Y))


def test_supports_then_queries_of_different_rows():
    sampler = EpisodeSampler(X, Y, ways=3, shots=2, queries=4, episodes=50, seed=0)
    assert len(sampler) == 50
    drawn = set()
    for index in range(50):
        x, y = sampler[index]
        assert x.shape == y.shape == (18,)
        np.testing.assert_array_equal(y, Y[x])
        assert len(set(x.tolist())) == 18
        # Class-major, the same classes in the same order in both parts; too small a one never.
        ways = y[:6:2]
        np.testing.assert_array_equal(y[:6], np.repeat(ways, 2))
        np.testing.assert_array_equal(y[6:], np.repeat(ways, 4))
        assert set(ways.tolist()) == {10, -3, 4}
        drawn.update(x[:2].tolist())
    assert len(drawn) > 15


def test_the_order_is_what_the_losses_take_for_support():
    from keras import ops

    from keras_zoo.ops.episodes import episode
    from tests.harness import to_numpy

    _, y = EpisodeSampler(X, Y, ways=2, shots=2, queries=3, seed=0)[0]
    rows = episode(ops.convert_to_tensor(y), ops.ones((10, 1)), 2)
    np.testing.assert_array_equal(to_numpy(rows.queries), np.arange(10) >= 4)


def test_is_fixed_by_seed_epoch_and_index():
    def make():
        return EpisodeSampler(X, Y, 2, 1, 2, episodes=4, seed=5)

    one, other = make(), make()
    np.testing.assert_array_equal(one[3][0], other[3][0])
    assert any((one[0][0] != one[i][0]).any() for i in (1, 2, 3))
    first = one[0][0]
    one.epoch = other.epoch = 1
    assert (one[0][0] != first).any()
    np.testing.assert_array_equal(one[2][0], other[2][0])
    with pytest.raises(IndexError):
        one[4]


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"ways": 0}, "ways"),
        ({"ways": 4}, "ways"),
        ({"shots": 0}, "shots"),
        ({"queries": 1.5}, "queries"),
        ({"episodes": 0}, "episodes"),
        ({"seed": -1}, "seed"),
        ({"y": Y[:-1]}, "y"),
        ({"y": Y + 0.5}, "y"),
    ],
)
def test_bad_arguments(kwargs, name):
    arguments = {"x": X, "y": Y, "ways": 2, "shots": 2, "queries": 4} | kwargs
    with pytest.raises(ValueError, match=rf"`{name}`.*Received: "):
        EpisodeSampler(**arguments)
