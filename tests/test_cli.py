"""The command: tables, pages, refusals and their exit codes."""

import subprocess
import sys

import pytest

from keras_zoo import _demo, cli
from tests.harness import BACKEND

PRESET = "dncnn_weighted_small_photos"


def run(capsys, *arguments):
    code = cli.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(capsys, "list")
    assert code == 0
    for name in ("MultiSimilarityLoss", "WeightedConv2D", PRESET, "image denoising"):
        assert name in out
    code, out, _ = run(capsys, "list", "*conv*")
    assert code == 0
    assert "WeightedConv2D" in out
    assert "TripletLoss" not in out


def test_show_component(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = run(capsys, "show", "multisimilarityloss")
    assert code == 0
    for part in ("epsilon=0.1", "Args:", "Example", "1904.06627", "examples/multi_similarity.py"):
        assert part in out


def test_show_preset(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = run(capsys, "show", PRESET)
    assert code == 0
    assert "licence" in out
    assert "model.weights.h5" in out


def test_check(capsys):
    code, out, _ = run(capsys, "check", PRESET)
    assert code == 0
    assert "as it should be" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "COMMAND"),
        (("dance",), "invalid choice"),
        (("show",), "NAME"),
        (("show", "MultiSimilarityLos"), "MultiSimilarityLoss"),
        (("list", "nothing-like-it"), "nothing matches"),
        (("demo", "--backend", "theano"), "invalid choice"),
        (("check", "../elsewhere"), "without `..`"),
        (("check", "dncnn_weighted"), PRESET),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(capsys, arguments, words):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("keras-zoo: ")
    assert err.count("\n") == 1
    assert words in err


def test_missing_extra_is_named(capsys, monkeypatch):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    code, _, err = run(capsys, "demo")
    assert code == 2
    assert "pip install 'keras-zoo[demo]'" in err


@pytest.mark.slow
def test_module_runs_as_a_program():
    command = [sys.executable, "-m", "keras_zoo.cli", "list", "TripletLoss"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "TripletLoss" in result.stdout


@pytest.mark.slow
def test_demo(capsys, tmp_path, monkeypatch):
    """The whole demonstration on this backend, compared with no other."""
    monkeypatch.setattr(_demo, "BACKENDS", (BACKEND,))
    code, out, err = run(capsys, "demo", "--out", str(tmp_path))
    assert code == 0, out + err
    for words in ("PSNR", "as it should be", "Recall@1", "done in"):
        assert words in out
    assert (tmp_path / "denoised.png").stat().st_size > 10_000
