import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_zoo.metrics import tar_at_far


def naive(similarity, is_same, far):
    best = 0.0
    for threshold in [-np.inf, *similarity, np.inf]:
        true = [s > threshold for s, same in zip(similarity, is_same, strict=True) if same]
        false = [s > threshold for s, same in zip(similarity, is_same, strict=True) if not same]
        if sum(false) / len(false) <= far:
            best = max(best, sum(true) / len(true))
    return best


PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({same for _, same in pairs}) == 2
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(PAIRS, st.sampled_from([0.0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.7, 1.0]))
def test_matches_plain_loops_with_ties(pairs, far):
    similarity, same = map(list, zip(*pairs, strict=True))
    found = tar_at_far(np.array(similarity, "float32"), same, far)
    assert isinstance(found, float)
    assert found == naive(similarity, same, far)


def test_by_hand():
    similarity, same = [0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0]
    assert tar_at_far(similarity, same) == 0.5
    found = tar_at_far(np.reshape(similarity, (2, 2)), np.reshape(same, (2, 2)), [[0.0, 0.5, 1.0]])
    np.testing.assert_array_equal(found, [[0.5, 1.0, 1.0]])


def test_rates_that_floats_do_not_hold():
    # 3 of 10 false pairs may pass at 0.3, though 0.3 * 10 < 3 in floats.
    similarity = np.concatenate([np.arange(10.0), [6.5]])
    assert tar_at_far(similarity, [0] * 10 + [1], 0.3) == 1.0
    assert tar_at_far(similarity, [0] * 10 + [1], 0.29) == 0.0


def test_agrees_with_the_roc_curve():
    from sklearn.metrics import roc_curve

    rng = np.random.default_rng(0)
    same = rng.random(500) < 0.3
    similarity = rng.normal(size=500) + same
    fpr, tpr, _ = roc_curve(same, similarity, drop_intermediate=False)
    for far in (1e-3, 0.01, 0.1, 0.5):
        assert tar_at_far(similarity, same, far) == pytest.approx(tpr[fpr <= far].max())


def test_nan_gives_nan():
    assert np.isnan(tar_at_far([np.nan, 1.0], [1, 0]))
    assert np.isnan(tar_at_far([np.nan, 1.0], [1, 0], [0.1, 0.2])).all()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([0.1, 0.2], [1]), "similarity"),
        ((["a", "b"], [1, 0]), "similarity"),
        (([0.1, 0.2], [1, 2]), "is_same"),
        (([0.1, 0.2], [1, 1]), "is_same"),
        (([0.1, 0.2], [0, 0]), "is_same"),
        (([0.1, 0.2], [0, 1], 1.5), "far"),
        (([0.1, 0.2], [0, 1], [0.1, np.nan]), "far"),
    ],
)
def test_bad_input(arguments, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        tar_at_far(*arguments)
