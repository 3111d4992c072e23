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
    named = {f"x:{name}": part for name, part in x.items()} if isinstance(x, dict) else {"x": x}
    y = keras.ops.convert_to_numpy(keras.ops.stop_gradient(model(x)))
    np.savez_compressed(folder / _presets.GOLDEN, **named, y=y)
    (folder / _presets.CARD).write_text(card, encoding="utf-8")
