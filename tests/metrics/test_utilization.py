import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_zoo.metrics import utilization


def naive(queries, references, normalize):
    def unit(x):
        norm = np.sqrt(sum(v * v for v in x))
        return [v / norm if normalize and norm > 0 else v for v in x]

    total = 0.0
    for q in map(unit, queries):
        total += min(
            sum((a - b) ** 2 for a, b in zip(q, r, strict=True)) for r in map(unit, references)
        )
    return total / len(queries)


@pytest.mark.parametrize("normalize", [True, False])
def test_matches_plain_loops(normalize):
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(7, 3)), 2 * rng.normal(size=(5, 3))
    queries[0] = 0
    found = utilization(queries, references, normalize)
    assert isinstance(found, float)
    assert found == pytest.approx(naive(queries, references, normalize), rel=1e-12)


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    queries, references = rng.normal(size=(11, 4)), rng.normal(size=(6, 4))
    whole = utilization(queries, references)
    module = importlib.import_module("keras_zoo.metrics.utilization")
    for block in (1, 13, 30):
        monkeypatch.setattr(module, "BLOCK", block)
        assert utilization(queries, references) == pytest.approx(whole, rel=1e-14)


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_properties(seed):
    rng = np.random.default_rng(seed)
    queries, references = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    found = utilization(queries, references)
    assert 0 <= found <= 4
    scale = rng.uniform(0.1, 10, (4, 1))
    assert utilization(scale * queries, references) == pytest.approx(found)
    assert utilization(queries[::-1], references[::-1]) == pytest.approx(found)
    # more references are never farther; the queries themselves are at distance 0
    assert utilization(queries, np.concatenate([references, -references])) <= found + 1e-12
    both = np.concatenate([references, queries])
    assert utilization(queries, both) == pytest.approx(0, abs=1e-12)


def test_nan_in_nan_out():
    bad = [[np.nan, 1.0], [0.0, 1.0]]
    assert np.isnan(utilization(bad, [[1.0, 0.0]]))
    assert np.isnan(utilization([[1.0, 0.0]], bad))


def test_float32_and_half_precision():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 3)).astype("float16")
    assert utilization(x, x) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"queries": np.zeros((0, 2))}, "queries"),
        ({"queries": np.zeros(2)}, "queries"),
        ({"references": np.zeros((0, 2))}, "references"),
        ({"references": np.zeros((2, 2, 2))}, "references"),
        ({"references": np.zeros((2, 3))}, "references"),
        ({"normalize": "yes"}, "normalize"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=f"`{name}` must .*Received: "):
        utilization(**{"queries": np.eye(2), "references": np.eye(2), **kwargs})
