"""Attack files of past years against preset loading: each is refused, and none of them runs.

Every attack is tried on a folder whose manifest fits it, as if its maker had written that too: the
sha256 proves that files are the ones that were made, not that their maker was honest.
"""

import contextlib
import json
import pathlib
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_zoo import _presets

pytest.importorskip("keras_hub")
from keras_zoo import models

PRESET = "dncnn_weighted_small_photos"
SAVED = pathlib.Path(__file__).parent.parent.parent / "saved_models"
REFUSALS = (ValueError, TypeError, OSError, KeyError, AttributeError, NotImplementedError)


@pytest.fixture
def preset(tmp_path):
    return shutil.copytree(SAVED / PRESET, tmp_path / "preset")


@pytest.fixture
def marker(tmp_path):
    """A file that an attack would create."""
    return tmp_path / "owned"


def signed(folder):
    _presets.write_manifest(folder, **_presets.read_manifest(folder))


def refused(folder, marker):
    signed(folder)
    with pytest.raises(REFUSALS):
        models.DnCNNDenoiser.from_preset(folder)
    assert not marker.exists()


def edit(path, change):
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_the_untouched_copy_loads(preset):
    """The control: what follows is refused for what it changes."""
    signed(preset)
    models.DnCNNDenoiser.from_preset(preset)


# Configs that would run code


def layer_with_code(marker):
    """A Lambda layer whose byte code writes the marker."""
    path = str(marker)
    layer = keras.layers.Lambda(lambda x, p=path: (pathlib.Path(p).touch(), x)[1])
    return keras.saving.serialize_keras_object(layer)


ATTACKS = {
    "module os": lambda m: {
        "module": "os",
        "class_name": "system",
        "config": f"touch {m}",
        "registered_name": "system",
    },
    "builtins exec": lambda m: {
        "module": "builtins",
        "class_name": "exec",
        "config": {"source": f"open({str(m)!r}, 'w')"},
        "registered_name": "exec",
    },
    "gadget of keras": lambda m: {
        "module": "keras.config",
        "class_name": "enable_unsafe_deserialization",
        "config": {},
        "registered_name": "enable_unsafe_deserialization",
    },
    "module that is not loaded": lambda m: {
        "module": "antigravity",
        "class_name": "webbrowser",
        "config": {},
        "registered_name": "keras_zoo>Nothing",
    },
    "TFSMLayer": lambda m: {
        "module": "keras.layers",
        "class_name": "TFSMLayer",
        "config": {"filepath": str(m), "call_endpoint": "serve"},
        "registered_name": None,
    },
    "lambda layer": layer_with_code,
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("file", ["config.json", "task.json"])
def test_config_that_names_code(preset, marker, attack, file):
    """As the whole config, and in the place of the backbone inside the task."""
    evil = ATTACKS[attack](marker)
    if file == "config.json":
        (preset / file).write_text(json.dumps(evil))
    else:
        edit(preset / file, lambda config: config["config"].update(backbone=evil))
    refused(preset, marker)


def test_lambda_in_the_dtype_of_a_config(preset, marker):
    edit(preset / "config.json", lambda c: c["config"].update(dtype=ATTACKS["module os"](marker)))
    refused(preset, marker)


# Weight files


def weights_with(preset, change):
    path = preset / "model.weights.h5"
    with h5py.File(path, "r+") as file:
        names = []
        file.visititems(lambda n, o: names.append(n) if isinstance(o, h5py.Dataset) else None)
        change(file, names[0], file[names[0]])


def secret(tmp):
    path = tmp / "secret.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.ones(3)
    return path


def replace(file, name, value):
    del file[name]
    file[name] = value


def external_storage(file, name, dataset, path):
    shape, dtype = dataset.shape, dataset.dtype
    del file[name]
    file.create_dataset(name, shape, dtype, external=[(str(path), 0, h5py.h5f.UNLIMITED)])


def virtual(file, name, dataset, path):
    layout = h5py.VirtualLayout(dataset.shape, dataset.dtype)
    layout[:] = h5py.VirtualSource(str(path), "data", dataset.shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def bomb(file, name, dataset, path):
    del file[name]
    file.create_dataset(name, shape=(2**31,), dtype="float32", chunks=(2**20,), compression="gzip")


WEIGHTS = {
    "external link": lambda f, n, d, p: replace(f, n, h5py.ExternalLink(str(p), "data")),
    "soft link": lambda f, n, d, p: replace(f, n, h5py.SoftLink("/nowhere")),
    "external storage": external_storage,
    "virtual dataset": virtual,
    "shape bomb": bomb,
}


@pytest.mark.parametrize("attack", WEIGHTS)
def test_weight_files(preset, marker, tmp_path, attack):
    path = secret(tmp_path)
    weights_with(preset, lambda f, n, d: WEIGHTS[attack](f, n, d, path))
    refused(preset, marker)


@pytest.mark.parametrize("content", [b"", b"not an HDF5 file", b"\x89HDF\r\n\x1a\n" + b"\0" * 64])
def test_weights_that_are_no_weights(preset, marker, content):
    (preset / "model.weights.h5").write_bytes(content)
    refused(preset, marker)


def test_golden_with_objects(preset):
    """A golden file that holds pickled objects is not read."""
    np.savez(preset / "golden.npz", x=np.array([object()]), y=np.zeros(1), allow_pickle=True)
    signed(preset)
    with pytest.raises(ValueError, match="allow_pickle"):
        models.golden_difference(models.DnCNNDenoiser.from_preset(preset), preset)


class Toucher:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_word_vectors_with_objects(tmp_path, marker):
    """Nor are vectors of words that hold them, when a task is loaded with its preprocessor."""
    folder = shutil.copytree(SAVED / "stacked_embedding_tiny_tweets", tmp_path / "preset")
    path = next(folder.rglob("word_vectors.npz"))
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "vectors_0": np.array([Toucher(marker)])}, allow_pickle=True)
    signed(folder)
    with pytest.raises(ValueError, match="allow_pickle"):
        models.StackedEmbeddingClassifier.from_preset(folder)
    assert not marker.exists()


# Whole-model files with classes of ours


def saved(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)])
    path = tmp_path / "model.keras"
    model.save(path)
    return path


def rewritten(path, change):
    """The same .keras file with another config or another member."""
    target = path.with_name("evil.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.namelist():
            new.writestr(item, change(item, old.read(item)))
    return target


def test_lambda_in_a_whole_model(tmp_path, marker):
    def change(item, content):
        if item != "config.json":
            return content
        config = json.loads(content)
        config["config"]["layers"].append(layer_with_code(marker))
        return json.dumps(config)

    with pytest.raises(REFUSALS):
        keras.saving.load_model(rewritten(saved(tmp_path), change))
    assert not marker.exists()


def test_member_that_leads_out_of_the_archive(tmp_path, marker):
    path = saved(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../owned", "x")
    with contextlib.suppress(*REFUSALS):
        keras.saving.load_model(path)
    assert not marker.exists()
    assert not (tmp_path.parent / "owned").exists()
