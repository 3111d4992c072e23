"""Every paper has an example; each runs to its end on this backend, in a minute's fraction."""

import os
import pathlib
import subprocess
import sys

import pytest

from keras_zoo._catalog import PAPERS

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[!_]*.py"))


def test_every_paper_has_an_example_and_its_results():
    assert {path.stem.replace("_", "-") for path in EXAMPLES} == set(PAPERS)
    for slug in PAPERS:
        for suffix in (".csv", ".png", ".txt"):
            path = ROOT / "examples" / "results" / f"{slug}{suffix}"
            assert path.is_file()
            assert path.stat().st_size < 200_000


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_smoke(path, tmp_path):
    """`--smoke` writes its table, plot and verdict where it is told to, and says the verdict."""
    result = subprocess.run(
        [sys.executable, str(path), "--smoke", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Verdict" in result.stdout
    slug = path.stem.replace("_", "-")
    assert {p.name for p in tmp_path.iterdir()} == {f"{slug}.csv", f"{slug}.png", f"{slug}.txt"}
