"""Prediction over images that are larger or smaller than what a model takes, without seams.

Tiles overlap, and each fades out towards its sides. Per axis the windows of all tiles add up to 1
at every pixel, so a model that looks at single pixels gives exactly what it would for the whole
image. The image is continued by reflection as far as the outer tiles reach.
"""

import math

import numpy as np


def blended_rows(predict, image, tile, overlap, batch_size):
    """Predicts tile by tile, and hands over rows of the result from top to bottom.

    No more than one row of tiles is held at a time, and no copy of the image is made.

    Args:
        predict: function of tiles `(n, h, w, C)` to scores `(n, h, w, K)`.
        image: array `(H, W, C)`.
        tile: `(h, w)`.
        overlap: float in [0, 0.5], share of a tile's side.
        batch_size: int, largest number of tiles predicted at once.

    Yields:
        `(rows, scores)`: a slice of the image's rows and their scores `(.., W, K)`, float32, which
        are valid until the next ones.
    """
    (height, width), strip = image.shape[:2], None
    tops, row_windows = tile_windows(height, tile[0], overlap)
    lefts, column_windows = tile_windows(width, tile[1], overlap)
    for i, (top, row_window) in enumerate(zip(tops, row_windows, strict=True)):
        rows = reflected(top, tile[0], height)
        for start in range(0, len(lefts), batch_size):
            chosen = range(start, min(start + batch_size, len(lefts)))
            columns = [reflected(lefts[j], tile[1], width) for j in chosen]
            scores = predict(np.stack([image[np.ix_(rows, c)] for c in columns]))
            if strip is None:
                extent = lefts[-1] + tile[1] - lefts[0]
                strip = np.zeros((tile[0], extent, scores.shape[-1]), "float32")
            for j, score in zip(chosen, scores, strict=True):
                window = row_window[:, None] * column_windows[j]
                at = lefts[j] - lefts[0]
                strip[:, at : at + tile[1]] += window[..., None] * score
        done = (tops[i + 1] if i + 1 < len(tops) else top + tile[0]) - top
        kept = slice(max(0, -top), min(done, height - top))
        yield slice(top + kept.start, top + kept.stop), strip[kept, -lefts[0] :][:, :width]
        strip[:-done] = strip[done:].copy()
        strip[-done:] = 0


def count_batches(shape, tile, overlap, batch_size):
    """How often `blended_rows` predicts for an image of this `(H, W)`."""
    tops, lefts = (tile_windows(n, t, overlap)[0] for n, t in zip(shape, tile, strict=True))
    return len(tops) * math.ceil(len(lefts) / batch_size)


def tile_windows(length, tile, overlap):
    """Where the tiles along an axis begin, and how their pixels count.

    Args:
        length: int, of the axis.
        tile: int, of a tile.
        overlap: float in [0, 0.5].

    Returns:
        Starts, a list of ints, the first one 0 or less, equally far apart; and float32
        `(tiles, tile)`, which at each place of the axis add up to 1.
    """
    faded = round(tile * overlap)
    stride = tile - faded
    count = 1 + math.ceil(max(0, length - tile) / stride)
    extent = (count - 1) * stride + tile
    starts = [i * stride - (extent - length) // 2 for i in range(count)]
    window = np.ones(tile)
    window[:faded] = np.sin(np.pi / 2 * (np.arange(faded) + 0.5) / max(1, faded)) ** 2
    window = np.minimum(window, window[::-1])
    total = np.zeros(extent)
    for i in range(count):
        total[i * stride :][:tile] += window
    windows = [window / total[i * stride :][:tile] for i in range(count)]
    return starts, np.array(windows, "float32")


def reflected(start, count, length):
    """Indices into an axis that is continued by reflection, its last pixel not repeated."""
    period = max(1, 2 * (length - 1))
    index = np.arange(start, start + count) % period
    return np.minimum(index, period - index)
