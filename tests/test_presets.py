"""Presets: found, listed, verified, loaded by every road, and refused with one clear error."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from keras_zoo import _presets, list_presets
from tests.harness import BACKEND, to_numpy

keras_hub = pytest.importorskip("keras_hub")
from keras_zoo import models  # noqa: E402

PRESET = "dncnn_weighted_small_photos"
ROOT = pathlib.Path(__file__).parent.parent
SAVED = ROOT / "saved_models"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the preset in a folder that the environment variable names."""
    shutil.copytree(SAVED / PRESET, tmp_path / "root" / PRESET)
    monkeypatch.setenv("KERAS_ZOO_PRESETS", str(tmp_path / "root"))
    return tmp_path / "root" / PRESET


def load():
    return models.DnCNNDenoiser.from_preset(PRESET)


def test_metadata():
    data = list_presets("dncnn*")[PRESET]
    wanted = (
        "task task_class backbone parameters input data metrics seeds licence paper command files"
    )
    assert set(wanted.split()) <= set(data)
    assert list_presets("*denoising*").keys() == {PRESET}
    assert list_presets("no such") == {}


@pytest.mark.parametrize("name", [p.name for p in sorted(SAVED.iterdir()) if p.is_dir()])
def test_every_saved_model(name):
    """Sound files, a card, a golden output, small enough; the golden output on this backend."""
    folder = SAVED / name
    data = _presets.verify(folder)
    assert {_presets.CARD, _presets.GOLDEN, "config.json", "task.json"} <= set(data["files"])
    assert sum(f.stat().st_size for f in folder.iterdir()) < 5 * 2**20
    model = getattr(models, data["task_class"]).from_preset(name)
    assert model.count_params() == data["parameters"]
    assert models.golden_difference(model, folder) <= 1e-5


def test_all_saved_models_together_are_small():
    assert sum(f.stat().st_size for f in SAVED.rglob("*") if f.is_file()) < 40 * 2**20


def test_every_road_leads_to_the_same_model(copy):
    x = np.random.default_rng(0).uniform(size=(1, 12, 12, 1)).astype("float32")
    task = load()
    residual = to_numpy(task.backbone(x))
    for backbone in (
        models.DnCNNBackbone.from_preset(PRESET),
        models.DnCNNBackbone.from_preset(copy),
        models.DnCNNDenoiser.from_preset(str(copy)).backbone,
        keras_hub.models.Backbone.from_preset(PRESET),
        keras_hub.models.Backbone.from_preset(str(copy)),
    ):
        np.testing.assert_array_equal(to_numpy(backbone(x)), residual)
    assert PRESET in models.DnCNNBackbone.presets
    assert PRESET in models.DnCNNDenoiser.presets


def test_options_of_from_preset():
    fresh = models.DnCNNDenoiser.from_preset(PRESET, load_weights=False)
    assert any(
        np.any(to_numpy(a) != to_numpy(b))
        for a, b in zip(fresh.weights, load().weights, strict=True)
    )
    half = models.DnCNNDenoiser.from_preset(PRESET, dtype="bfloat16")
    assert half.backbone.compute_dtype == "bfloat16"


def test_save_to_preset_round_trip(tmp_path):
    model = load()
    model.backbone.weights[0].assign(model.backbone.weights[0] * 0.5)
    model.save_to_preset(tmp_path / "mine")
    again = models.DnCNNDenoiser.from_preset(tmp_path / "mine")
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    # What was said of the old weights is not said of the new ones.
    assert "metrics" not in _presets.read_manifest(tmp_path / "mine")


def test_order_of_the_roots(copy):
    assert _presets.locate(PRESET) == str(copy)
    manifest = json.loads((copy / "metrics.json").read_text())
    _presets.write_manifest(copy, **{**manifest, "title": "another"})
    assert list_presets()[PRESET]["title"] == "another"


# Refusals. Each names what is wrong, ends with what was received, and loads nothing.


def refused(words, road=load):
    with pytest.raises(_presets.PresetError, match=words) as error:
        road()
    assert "Received: " in str(error.value).splitlines()[-1]


every_road = pytest.mark.parametrize(
    "road",
    [
        load,
        lambda: models.DnCNNBackbone.from_preset(PRESET),
        lambda: keras_hub.models.Backbone.from_preset(PRESET),
    ],
    ids=["task", "backbone", "keras_hub"],
)


def test_unknown_name():
    refused(PRESET, lambda: models.DnCNNDenoiser.from_preset("dncnn_weighted_small_photo"))


@pytest.mark.parametrize("name", ["..", "../x", f"../saved_models/{PRESET}", "a/../b", "", None, 3])
def test_no_name(name):
    refused("A preset must be", lambda: models.DnCNNDenoiser.from_preset(name))


@every_road
@pytest.mark.parametrize("file", ["model.weights.h5", "config.json", "task.json", "MODEL_CARD.md"])
def test_missing_file(copy, file, road):
    (copy / file).unlink()
    refused("missing", road)


@every_road
def test_damaged_file(copy, road):
    weights = copy / "model.weights.h5"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    refused("damaged", road)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"files": 3}', '{"files": {"a": "b"}}', "[" * 9999]
)
def test_damaged_manifest(copy, text):
    (copy / "metrics.json").write_text(text)
    refused("damaged", load)
    assert list(list_presets()[PRESET]) == ["error", "path"]


@every_road
def test_foreign_file(copy, road):
    (copy / "preprocessor.json").write_text("{}")
    refused("not part of the preset", road)


@every_road
def test_file_that_leads_out_of_the_folder(copy, road):
    weights = copy / "model.weights.h5"
    outside = copy.parent.parent / "outside.h5"
    weights.rename(outside)
    weights.symlink_to(outside)
    refused("out of", road)


def test_listed_path_that_leads_out_of_the_folder(copy):
    manifest = json.loads((copy / "metrics.json").read_text())
    manifest["files"]["../outside"] = "0" * 64
    (copy / "metrics.json").write_text(json.dumps(manifest))
    refused("out of")


def test_folder_that_is_a_link(copy):
    elsewhere = copy.parent.parent / "elsewhere"
    copy.rename(elsewhere)
    copy.symlink_to(elsewhere)
    refused("out of")


def test_wrong_class(copy):
    from keras_hub.models import ResNetBackbone

    other = ResNetBackbone([64], [7], [64], [1], [1], "basic_block", image_shape=(16, 16, 3))
    folder = copy.parent / "other"
    other.save_to_preset(str(folder))
    refused("holds `keras_hub>ResNetBackbone`", lambda: models.DnCNNDenoiser.from_preset(folder))
    refused("holds `keras_hub>ResNetBackbone`", lambda: models.DnCNNBackbone.from_preset(folder))


@pytest.mark.parametrize("text", ["{}", "[]", "x", '{"registered_name": "os>system"}'])
def test_config_that_describes_no_model_of_ours(copy, text):
    (copy / "config.json").write_text(text)
    manifest = json.loads((copy / "metrics.json").read_text())
    _presets.write_manifest(copy, **manifest)
    refused("config.json|holds")


# In the wheel


@pytest.mark.skipif(BACKEND != "torch", reason="the wheel is the same for all")
def test_presets_are_in_the_wheel(tmp_path):
    """Builds the wheel, installs it in an empty environment, loads the preset far from here."""

    def call(*command, **options):
        result = subprocess.run(
            [str(c) for c in command], capture_output=True, text=True, check=False, **options
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert f"keras_zoo/saved_models/{PRESET}/model.weights.h5" in names
    assert "keras_zoo/py.typed" in names
    assert not any(name.startswith(("tests/", "examples/", "benchmarks/")) for name in names)
    call(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    call(*pip, "install", "--no-deps", "--no-compile", "--target", site, wheel)
    # Everything else comes from this environment, whose own keras_zoo stands behind the wheel's.
    (site / "rest.pth").write_text(str(pathlib.Path(keras.__file__).parent.parent))
    code = (
        "import keras_zoo; from keras_zoo.models import DnCNNDenoiser; "
        f"DnCNNDenoiser.from_preset({PRESET!r}); print(keras_zoo.__file__); "
        f"print(keras_zoo.list_presets()[{PRESET!r}]['path'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["KERAS_BACKEND"] = BACKEND
    out = call(tmp_path / "env" / "bin" / "python", "-c", code, cwd=tmp_path, env=environment)
    assert all(line.startswith(str(site)) for line in out.splitlines()[-2:])
