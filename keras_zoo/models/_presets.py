"""How models take part in keras-hub's presets: by name, offline, and only with sound files."""

import json
import pathlib

import keras
import numpy as np
from keras_hub.src.utils import preset_utils

from keras_zoo import _presets


class PresetMixin:
    """Gives a keras-hub backbone or task the presets of the zoo; stands first among the bases."""

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Makes the model of a preset.

        Args:
            preset: name of a preset (see `keras_zoo.list_presets()`), path of a folder that
                `save_to_preset` wrote, or an address that keras-hub knows, such as
                `"hf://user/model"`.
            load_weights: bool. False starts from random weights.
            **kwargs: arguments of the constructor to override, such as `dtype`.

        Raises:
            PresetError: a `ValueError`: the preset is unknown, one of its files is missing or
                damaged, or it holds another class. Nothing is loaded then.
        """
        source = _presets.locate(preset)
        if "://" not in source:
            _check_class(cls, source)
        return super().from_preset(source, load_weights=load_weights, **kwargs)

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Writes the model as a preset, with a manifest that holds the sha256 of each file.

        Args:
            preset_dir: folder to write; `from_preset` takes its path.
            max_shard_size: size in GB above which keras-hub splits the weights.
        """
        super().save_to_preset(str(preset_dir), max_shard_size=max_shard_size)
        _presets.write_manifest(preset_dir, parameters=self.count_params())


class TaskMixin(PresetMixin):
    """For a task whose `compile` has an "auto" of its own; stands first among the bases."""

    def compile_from_config(self, config):
        """Compiles as a saved model was compiled."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)


def _check_class(cls, folder):
    """Refuses a preset whose backbone is not the one that `cls` works on."""
    wanted = getattr(cls, "backbone_cls", None) or cls
    path = pathlib.Path(folder) / preset_utils.CONFIG_FILE
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["registered_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _presets.PresetError(
            f"The preset's {path.name} is missing or does not describe a Keras model. "
            f"Received: {folder!r}"
        ) from None
    held = keras.saving.get_registered_object(name)
    if held is None or not issubclass(held, wanted):
        raise _presets.PresetError(
            f"`{cls.__name__}` needs a preset of `{wanted.__name__}`; this one holds `{name}`. "
            f"Received: {folder!r}"
        )


class _PresetEntry(dict):
    """What keras-hub's registry holds of a preset.

    keras-hub asks for `kaggle_handle` whenever it wants a file. The answer is the preset's folder,
    looked up and verified then, so keras-hub's own base classes are as careful as ours.
    """

    def __getitem__(self, key):
        if key == "kaggle_handle":
            return _presets.locate(self["name"])
        return super().__getitem__(key)


def register_presets(backbone_cls):
    """Makes keras-hub know the presets of a backbone by name, `Backbone.from_preset(name)`."""
    entries = {
        name: _PresetEntry(
            name=name,
            kaggle_handle=None,
            metadata={"description": data.get("title", ""), "params": data.get("parameters")},
        )
        for name, data in _presets.list_presets().items()
        if data.get("backbone") == backbone_cls.__name__
    }
    preset_utils.register_presets(entries, backbone_cls)


def write_golden(model, x, folder):
    """Stores inputs and a model's output for them, which `golden_difference` compares with.

    Args:
        model: the model of the preset.
        x: a few inputs, an array or a dict of such.
        folder: the preset's folder.
    """
    y = keras.tree.map_structure(keras.ops.stop_gradient, model(x))
    np.savez_compressed(pathlib.Path(folder) / _presets.GOLDEN, **_named("x", x), **_named("y", y))


def golden_difference(model, folder):
    """Largest absolute difference between a model's output and its preset's stored one.

    Args:
        model: the model of the preset.
        folder: the preset's folder, with the `golden.npz` that `write_golden` has stored.
    """
    with np.load(pathlib.Path(folder) / _presets.GOLDEN, allow_pickle=False) as golden:
        output, wanted = model(_part(golden, "x")), _part(golden, "y")
    differences = keras.tree.map_structure(
        lambda y, actual: float(np.max(np.abs(keras.ops.convert_to_numpy(actual) - y))),
        wanted,
        output,
    )
    return max(keras.tree.flatten(differences))


def _named(key, arrays):
    """One array under its key, or a dict of arrays under `key:name`."""
    if not isinstance(arrays, dict):
        return {key: keras.ops.convert_to_numpy(arrays)}
    return {f"{key}:{name}": keras.ops.convert_to_numpy(part) for name, part in arrays.items()}


def _part(golden, key):
    """The array of that key, or a dict of those of `key:name`."""
    start = f"{key}:"
    named = {name[len(start) :]: golden[name] for name in golden.files if name.startswith(start)}
    return named or golden[key]


def preset_file(preset, path):
    """Path of a file of a preset on this machine, fetched first where the preset is elsewhere."""
    return preset_utils.get_file(preset, path)
