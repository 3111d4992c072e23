"""CW-BASS, plain pseudo-labels and labels alone, an eighth labelled; and `dwff_net_tiny_digits`.

One or two MNIST digits from 0 to 4, halved in size, at random places of 24 x 24 pixels of noise;
each pixel is background or one of five digits. Training, validation and test are made of other
digits: 400 training images, of which 50 have labels, 100 and 200. The student is a U-Net of three
levels of 16 filters, trained by Adam with a rate that falls as `(1 - n / steps)^0.9`, on batches of
8 labelled images.

300 steps on labels alone are the start of all arms. Then come 200 more, for all but the first arm
with 8 unlabelled images each, which the start labels first, and then its moving average:

    labels only          supervised
    pseudo-labels        the same trainer as below, all pixels alike that the teacher is sure of
                         beyond a fixed threshold
    CW-BASS              as published: its threshold is between 0.30 and 0.34
    strict CW-BASS       with a threshold of about 0.8 (`base_threshold` 1.5)
    symmetric CW-BASS    the frame of an image is no boundary

Seed by seed they share data, start and batches. Each arm had two tries, with `--choose`, on the
validation images of another seed: labels only two learning rates, the others two thresholds or
weights of the unlabelled images; the last arm has what CW-BASS has. The score is the mean
intersection over union of the student on 200 test images.

The preset is another network on larger canvases, in `_cw_bass_preset.py`.

    KERAS_BACKEND=jax python examples/cw_bass.py --seeds 5
    KERAS_BACKEND=jax python examples/cw_bass.py --save saved_models
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import functools

import _report
import keras
import numpy as np
from _canvases import DIGITS, TEST, TRAINING, VALIDATION, batches, paste, shuffled_digits
from _segmentation import intersection_over_union
from keras import layers, ops

from keras_zoo.losses import ConfidenceWeightedBoundaryLoss
from keras_zoo.trainers import CWBASS

BASELINE, PLAIN, METHOD = "labels only", "pseudo-labels", "CW-BASS"
STRICT, SYMMETRIC = "strict CW-BASS", "symmetric CW-BASS"
SIZE, DIGIT, CLASSES, NOISE = 24, 14, 1 + DIGITS, 0.2
LABELED, UNLABELED, VALIDATION_IMAGES, TEST_IMAGES = 50, 350, 100, 200
EPOCH = 20
FIRST_STEPS, STEPS = 300, 200
FIRST_RATE, RATE, DECAY = 1e-2, 3e-3, 0.99
# What an arm may choose.
TRIES = {
    BASELINE: ("learning rate", (RATE, FIRST_RATE)),
    PLAIN: ("threshold", (0.8, 0.95)),
    METHOD: ("weight", (0.3, 1.0)),
    STRICT: ("weight", (0.3, 1.0)),
}
# By --choose.
CHOSEN = {BASELINE: FIRST_RATE, PLAIN: 0.95, METHOD: 0.3, STRICT: 0.3}
CHOSEN[SYMMETRIC] = CHOSEN[METHOD]


# Data


@functools.cache
def digits():
    """Ink `(2500, 14, 14)` in [0, 1] and digits `(2500,)`, halved in size."""
    ink, labels = shuffled_digits()
    ink = ink.reshape(-1, DIGIT, 2, DIGIT, 2).mean(axis=(2, 4)) / 255
    return ink.astype("float32"), labels


def canvases(count, part, rng):
    """Images `(count, 24, 24, 1)` and classes `(count, 24, 24)`, 0 for the background.

    Args:
        count: int.
        part: slice of the digits that they are made of.
        rng: `np.random.Generator`.
    """
    ink, labels = (array[part] for array in digits())
    images, masks = paste(count, ink, labels, SIZE, rng)
    images += rng.normal(0, NOISE, images.shape).astype("float32")
    return images[..., None], masks


@functools.cache
def data(seed, part):
    """Labelled `(images, masks)`, unlabelled images, and `(images, masks)` of the named part."""
    rng = np.random.default_rng(seed)
    labeled = canvases(LABELED, TRAINING, rng)
    unlabeled = canvases(UNLABELED, TRAINING, rng)[0]
    if part == "validation":
        return labeled, unlabeled, canvases(VALIDATION_IMAGES, VALIDATION, rng)
    # The same for all seeds.
    return labeled, unlabeled, canvases(TEST_IMAGES, TEST, np.random.default_rng(0))


# Arms


def network(levels=3, filters=16):
    """A U-Net of so many levels."""

    def block(x):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        return x

    inputs = keras.Input((None, None, 1))
    x, skips = block(inputs), []
    for _ in range(levels - 1):
        skips.append(x)
        x = block(layers.MaxPooling2D()(x))
    for skip in reversed(skips):
        x = block(layers.Concatenate()([layers.UpSampling2D()(x), skip]))
    return keras.Model(inputs, layers.Conv2D(CLASSES, 1)(x))


def pixel_loss(arm, setting):
    """The loss of unlabelled images."""
    if arm == PLAIN:
        return ConfidenceWeightedBoundaryLoss(
            0.0, 0.0, min_threshold=setting, max_threshold=setting
        )
    if arm == STRICT:
        return ConfidenceWeightedBoundaryLoss(base_threshold=1.5, max_threshold=0.95)
    return ConfidenceWeightedBoundaryLoss(border="symmetric" if arm == SYMMETRIC else "constant")


@functools.cache
def compiled(arm, setting, levels):
    """A model that is trained again and again, and its optimizer's first state."""
    model = network(levels)
    if arm == BASELINE:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(), loss)
    else:
        weight = 1.0 if arm == PLAIN else setting
        model = CWBASS(model, None, pixel_loss(arm, setting), weight, 0, DECAY)
        model.compile(keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    return model, [ops.convert_to_numpy(v) for v in model.optimizer.variables]


def start_anew(arm, setting, weights, levels):
    """The compiled model in the state of a fresh one, with these weights of the student."""
    model, optimizer_state = compiled(arm, setting, levels)
    student = network(levels)
    student.set_weights(weights)
    fresh = student if arm == BASELINE else CWBASS(student)
    for variable, other in zip(model.variables, fresh.variables, strict=True):
        variable.assign(other)
    for variable, value in zip(model.optimizer.variables, optimizer_state, strict=True):
        variable.assign(value)
    return model


def train(arm, setting, weights, stream, rate, steps, smoke=False):
    """A model of an arm, trained from these weights; a smoke run has one level and two steps."""
    # Of labels only the setting is the rate.
    model = start_anew(arm, None if arm == BASELINE else setting, weights, 1 if smoke else 3)
    if arm == BASELINE:
        stream = ((x["labeled"], y) for x, y in stream)
    epochs, epoch = (1, 2) if smoke else (steps // EPOCH, EPOCH)
    fall = keras.callbacks.LearningRateScheduler(lambda n, _: rate * (1 - n / epochs) ** 0.9)
    model.fit(stream, epochs=epochs, steps_per_epoch=epoch, callbacks=[fall], verbose=0)
    return model


@functools.cache
def first_weights(seed, smoke=False):
    """What all arms start from."""
    keras.utils.set_random_seed(seed)
    weights = network(1 if smoke else 3).get_weights()
    labeled, unlabeled, _ = data(seed, "validation")
    stream = batches(labeled, unlabeled, [seed, 1])
    return train(BASELINE, None, weights, stream, FIRST_RATE, FIRST_STEPS, smoke).get_weights()


def second_stage(arm, setting, seed, smoke=False):
    """A model of an arm at its end."""
    labeled, unlabeled, _ = data(seed, "validation")
    stream = batches(labeled, unlabeled, [seed, 2])
    rate = setting if arm == BASELINE else RATE
    return train(arm, setting, first_weights(seed, smoke), stream, rate, STEPS, smoke)


def predict(model, images):
    """The class of each pixel."""
    return np.argmax(model.predict(images, batch_size=50, verbose=0), axis=-1)


def mean_iou(masks, predictions):
    """Mean intersection over union."""
    return round(intersection_over_union(masks, predictions, CLASSES)[0], 5)


def share_kept(model, images):
    """How many of the pixels of unlabelled images the last threshold lets through."""
    loss = model.unsupervised_loss
    logits = model.teacher.predict(images, batch_size=50, verbose=0)
    confidence = ops.convert_to_numpy(ops.amax(ops.softmax(logits, axis=-1), axis=-1))
    threshold = loss.base_threshold / (
        1 + np.exp(-loss.threshold_sensitivity * (confidence.mean() - 0.5))
    )
    kept = confidence > np.clip(threshold, loss.min_threshold, loss.max_threshold)
    return round(float(kept.mean()), 4)


def choose(seed=1000):
    """Prints the validation score of every try."""
    images, masks = data(seed, "validation")[-1]
    for arm, (name, settings) in TRIES.items():
        scores = {}
        for setting in settings:
            model = second_stage(arm, setting, seed)
            scores[setting] = mean_iou(masks, predict(model, images))
        print(f"{arm}, {name}: {scores}", flush=True)


def run(seeds, smoke):
    """One row per arm and seed, and the predictions of the last seed for one image."""
    rows, pictures = [], {}
    for seed in range(seeds):
        _, unlabeled, (images, masks) = data(seed, "test")
        if smoke:
            images, masks, unlabeled = images[:8], masks[:8], unlabeled[:16]
        for arm, setting in CHOSEN.items():
            model = second_stage(arm, setting, seed, smoke)
            pictures[arm] = predict(model, images)
            row = {"arm": arm, "seed": seed, "miou": mean_iou(masks, pictures[arm])}
            if arm != BASELINE:
                row["share_kept"] = share_kept(model, unlabeled)
            row[TRIES[METHOD if arm == SYMMETRIC else arm][0].replace(" ", "_")] = setting
            rows.append(row)
            print(row, flush=True)
    pictures = {"image": images[..., 0], "truth": masks, **pictures}
    return rows, {name: picture[0] for name, picture in pictures.items()}


def verdict(rows):
    """What the table says."""
    means = {arm: _report.column(rows, arm, "miou").mean() for arm in _report.arms_of(rows)}
    listed = ", ".join(f"{arm} {mean:.3f}" for arm, mean in means.items())
    gains = []
    for arm in (BASELINE, PLAIN):
        mean, _, p = _report.paired(rows, METHOD, arm, "miou")
        gains.append(f"less {arm} {mean:+.3f} (p = {p:.2g})")
    kept = [f"{_report.column(rows, arm, 'share_kept').mean():.3f}" for arm in (METHOD, STRICT)]
    return (
        f"Mean IoU with {LABELED} of {LABELED + UNLABELED} labels, mean of seeds: {listed}. "
        f"CW-BASS {', '.join(gains)}: {_report.compare_all(rows, METHOD, 'miou')}. Its "
        f"threshold keeps {kept[0]} of the pixels at the end, the strict one {kept[1]}."
    )


def main():
    args = _report.parser(
        __doc__, seeds=5, choose="find the settings", save="train the preset and write it there"
    ).parse_args()
    if args.save:
        import _cw_bass_preset  # With keras-hub, which the table does not need.

        return _cw_bass_preset.save(args.save, args.smoke)
    if args.choose:
        return choose()
    rows, pictures = run(1 if args.smoke else args.seeds, args.smoke)
    _report.print_table(rows, METHOD, ["miou"])
    figure, axes = _report.new_figure(1, 5, figsize=(11, 2.2), width_ratios=[2, 1, 1, 1, 1])
    _report.draw_bars(axes[0], rows, METHOD, "miou")
    axes[0].set_xlabel("test mIoU; dots are seeds")
    for axis, name in zip(axes[1:], ("image", "truth", BASELINE, METHOD), strict=True):
        shades = {"cmap": "gray"} if name == "image" else {"cmap": "tab20", "vmin": 0, "vmax": 19}
        axis.imshow(pictures[name], interpolation="nearest", **shades)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    with _report.output_folder(args) as folder:
        _report.write(folder, "cw-bass", rows, verdict(rows), figure)


if __name__ == "__main__":
    main()
