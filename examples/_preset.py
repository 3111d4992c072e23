"""What the examples that train a preset share."""

import keras
import numpy as np

from keras_zoo import _presets


def write(folder, model, x, card):
    """Writes a model as a preset, with its card and an output to know it by again.

    The manifest, `keras_zoo._presets.write_manifest`, comes last: it holds the files' sums.

    Args:
        folder: path of the preset, made if it is not there.
        model: backbone or task.
        x: a few inputs, an array or a dict of such, for `keras_zoo.models.golden_difference`.
        card: text of the model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_to_preset(folder)
    y = keras.tree.map_structure(keras.ops.stop_gradient, model(x))
    np.savez_compressed(folder / _presets.GOLDEN, **_named("x", x), **_named("y", y))
    (folder / _presets.CARD).write_text(card, encoding="utf-8")


def _named(key, arrays):
    """One array under its key, or a dict of arrays under `key:name`."""
    if not isinstance(arrays, dict):
        return {key: keras.ops.convert_to_numpy(arrays)}
    return {f"{key}:{name}": keras.ops.convert_to_numpy(part) for name, part in arrays.items()}
