"""What the examples that train a preset share."""

from keras_zoo import _presets
from keras_zoo.models import write_golden


def write(folder, model, x, card):
    """Writes a model as a preset, with its card and an output to know it by again.

    The manifest, `keras_zoo._presets.write_manifest`, comes last: it holds the files' sums.

    Args:
        folder: path of the preset, made if it is not there.
        model: backbone or task.
        x: a few inputs, an array or a dict of such.
        card: text of the model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_to_preset(folder)
    write_golden(model, x, folder)
    (folder / _presets.CARD).write_text(card, encoding="utf-8")
