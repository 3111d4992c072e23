"""Every paper has an example; each runs to its end on this backend, in seconds."""

import pathlib
import runpy
import sys

import keras
import pytest

from keras_zoo._catalog import PAPERS
from tests.harness import BACKEND

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[!_]*.py"))


def test_every_paper_has_an_example_and_its_results():
    assert {path.stem.replace("_", "-") for path in EXAMPLES} == set(PAPERS)
    for slug in PAPERS:
        for suffix in (".csv", ".png", ".txt"):
            path = ROOT / "examples" / "results" / f"{slug}{suffix}"
            assert path.is_file()
            assert path.stat().st_size < 200_000


@pytest.fixture
def untraced(monkeypatch):
    """TensorFlow takes longer to trace so short a run than to go through it step by step."""
    if BACKEND == "tensorflow":
        always = property(lambda model: True, lambda model, value: None)
        monkeypatch.setattr(keras.Model, "run_eagerly", always)


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_smoke(path, tmp_path, monkeypatch, capsys, untraced):
    """`--smoke` writes its table, plot and verdict where it is told to, and says the verdict."""
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setattr(sys, "argv", [str(path), "--smoke", "--out", str(tmp_path)])
    runpy.run_path(str(path), run_name="__main__")
    assert "Verdict" in capsys.readouterr().out
    slug = path.stem.replace("_", "-")
    assert {p.name for p in tmp_path.iterdir()} == {f"{slug}.csv", f"{slug}.png", f"{slug}.txt"}
