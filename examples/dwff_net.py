"""Dynamic against static fusion of features in segmentation, and `dwff_net_tiny_textures`.

Mosaics of 64 x 64 pixels, 2 to 4 textures with random Voronoi borders, are segmented into six
textures: grey photographs inside scikit-image's wheel, turned, mirrored, of changed brightness and
contrast. Training mosaics are cut from the left halves of the photographs (less their lowest rows,
which are for validation), test mosaics from the right halves. On top of a frozen DINOv3 of 6
blocks x 64 stands DWFF-Net, with four ways to fuse:

    dynamic     levels 1, 3 and the last, weighed anew for every image, as published
    static      the same levels, one learnt number each
    sum         the same levels, added up
    last level  the last level alone

and two encoders, frozen both: of random weights, and one that learnt before to tell the texture of
each patch of training mosaics with a linear head. The published network stands on pretrained
weights of DINOv3 ViT-L; no small encoder has such, so this is a weaker test. A forest on filter
responses (skimage's multiscale features) is the classical baseline.

Seed by seed, all share their encoders, mosaics and test set. The learning rate of each arm and
encoder was chosen by `--choose` on validation mosaics, with a seed that is not used again, at five
rates for half of the steps. See `CHOSEN` below.

    KERAS_BACKEND=tensorflow python examples/dwff_net.py --seeds 3
    KERAS_BACKEND=tensorflow python examples/dwff_net.py --save saved_models
"""

import csv
import os
import pathlib
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import _preset
import _report
import keras
import keras_hub
import numpy as np
from _segmentation import intersection_over_union
from skimage import data
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

from keras_zoo import _presets
from keras_zoo.models import (
    DWFFNetBackbone,
    DWFFNetImageConverter,
    DWFFNetImageSegmenter,
    DWFFNetImageSegmenterPreprocessor,
)

PRESET = "dwff_net_tiny_textures"

TEXTURES = ("brick", "grass", "gravel", "moon", "page", "text")
SIZE, PATCH = 64, 16
BATCH, POOL = 32, 4096
ENCODER = {"num_layers": 6, "hidden_dim": 64, "num_heads": 4, "intermediate_dim": 128}
LEVELS = (1, 3, -1)
FILTERS, DECODER = 64, (64, 32)
# Of each arm: levels, weighting, weight of the entropy.
ARMS = {
    "dynamic": (LEVELS, "dynamic", 0.01),
    "static": (LEVELS, "static", 0.0),
    "sum": (LEVELS, "sum", 0.0),
    "last level": ((-1,), "sum", 0.0),
}
ENCODERS = ("trained", "random")
FOREST, FOREST_MOSAICS = "filters and forest", 64
STEPS, ENCODER_STEPS, ENCODER_RATE = 400, 2000, 1e-3
PRESET_STEPS, PRESET_ENCODER_STEPS, PRESET_POOL = 1500, 4000, 16_384
TEST_MOSAICS, VALIDATION_MOSAICS = 256, 128
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
# By --choose: the learning rate of each arm on each encoder.
CHOSEN = {
    "dynamic": {"trained": 1e-3, "random": 1e-3},
    "static": {"trained": 1e-3, "random": 1e-3},
    "sum": {"trained": 1e-3, "random": 1e-3},
    "last level": {"trained": 1e-3, "random": 3e-4},
}


def photographs():
    """The parts of the photographs for training, validation and test, a list of arrays each."""
    parts = {"train": [], "validation": [], "test": []}
    for name in TEXTURES:
        image = getattr(data, name)().astype("float32")
        left, right = np.split(image[:, : image.shape[1] // 2 * 2], 2, axis=1)
        rows = image.shape[0] - max(SIZE, image.shape[0] // 4)
        parts["train"].append(left[:rows])
        parts["validation"].append(left[rows:])
        parts["test"].append(right)
    return parts


def mosaics(parts, count, rng):
    """Images `(count, 64, 64, 3)` of bytes, and each pixel's texture `(count, 64, 64)`."""
    images = np.empty((count, SIZE, SIZE), "float32")
    masks = np.empty((count, SIZE, SIZE), "uint8")
    places = np.stack(np.mgrid[:SIZE, :SIZE], axis=-1)
    for image, mask in zip(images, masks, strict=True):
        chosen = rng.choice(len(parts), rng.integers(2, 5), replace=False)
        sites = rng.uniform(0, SIZE, (len(chosen), 2))
        cells = np.argmin(((places[..., None, :] - sites) ** 2).sum(-1), axis=-1)
        mask[:] = chosen[cells]
        for cell, texture in enumerate(chosen):
            image[cells == cell] = crop(parts[texture], rng)[cells == cell]
    images = np.clip(images, 0, 255).astype("uint8")
    return np.broadcast_to(images[..., None], (*images.shape, 3)), masks


def crop(photograph, rng):
    """A square of a photograph, turned, perhaps mirrored, brighter or darker, of other contrast."""
    top, left = (rng.integers(side - SIZE + 1) for side in photograph.shape)
    square = photograph[top : top + SIZE, left : left + SIZE]
    square = np.rot90(square, rng.integers(4))
    square = square[:, ::-1] if rng.integers(2) else square
    mean = square.mean()
    return mean + rng.uniform(-30, 30) + rng.uniform(0.7, 1.3) * (square - mean)


def make_encoder(seed):
    """A DINOv3 of random weights."""
    keras.utils.set_random_seed(seed)
    return keras_hub.models.DINOV3Backbone(
        patch_size=PATCH, image_shape=(SIZE, SIZE, 3), name="encoder", **ENCODER
    )


def converter():
    return DWFFNetImageConverter(scale=1 / 64, offset=-2.0)


def train_encoder(encoder, parts, seed, steps, pool=POOL):
    """Teaches an encoder to tell the texture at the middle of each patch of training mosaics."""
    grid = SIZE // PATCH
    tokens = encoder.output[:, -grid * grid :]
    model = keras.Model(encoder.input, keras.layers.Dense(len(TEXTURES))(tokens))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    schedule = keras.optimizers.schedules.CosineDecay(ENCODER_RATE, steps, warmup_steps=steps // 10)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=0.04), loss, metrics=["accuracy"])

    def prepare(images, masks):
        middles = masks[:, PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
        images = keras.ops.convert_to_numpy(converter()(images))
        return {"pixel_values": images}, middles.reshape(len(masks), -1)

    train(model, parts, [seed, 1], steps, f"encoder of seed {seed}", pool, prepare)


def make_segmenter(arm, encoder, seed, rate, steps):
    """A fresh network of an arm on a frozen encoder."""
    levels, weighting, entropy_weight = ARMS[arm]
    keras.utils.set_random_seed(seed)
    backbone = DWFFNetBackbone(
        encoder, levels, FILTERS, entropy_weight, fusion_weighting=weighting, name="backbone"
    )
    model = DWFFNetImageSegmenter(
        backbone,
        len(TEXTURES),
        DWFFNetImageSegmenterPreprocessor(converter()),
        DECODER,
        name="segmenter",
    )
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=0.04))
    return model


def train(model, parts, seed, steps, title, pool=POOL, prepare=lambda *batch: batch):
    """Trains a model in place on batches of a pool of mosaics."""
    rng, start = np.random.default_rng(seed), time.perf_counter()
    images, masks = mosaics(parts, min(pool, steps * BATCH), rng)
    for step in range(1, steps + 1):
        rows = rng.integers(len(images), size=BATCH)
        log = model.train_on_batch(*prepare(images[rows], masks[rows]), return_dict=True)
        if step in (steps // 4, steps // 2, steps):
            figures = ", ".join(f"{name} {float(value):.3f}" for name, value in log.items())
            spent = time.perf_counter() - start
            print(f"  {title}: step {step}/{steps}, {figures}, {spent:.0f} s", flush=True)


def predict(model, images):
    return np.argmax(model.predict(images, batch_size=BATCH, verbose=0), axis=-1)


def forest(parts, seed):
    """Predictions of a random forest on filter responses around each pixel, as a function."""

    def responses(image):
        return multiscale_basic_features(image[..., 0], sigma_min=0.5, sigma_max=8)

    rng = np.random.default_rng([seed, 3])
    images, masks = mosaics(parts, FOREST_MOSAICS, rng)
    x = np.concatenate([responses(image).reshape(SIZE * SIZE, -1) for image in images])
    rows = rng.choice(len(x), min(len(x), 40_000), replace=False)
    trees = RandomForestClassifier(40, min_samples_leaf=5, random_state=seed)
    trees.fit(x[rows], masks.reshape(-1)[rows])

    def predictions(images):
        found = [trees.predict(responses(i).reshape(SIZE * SIZE, -1)) for i in images]
        return np.reshape(found, images.shape[:3])

    return predictions


def encoders_of(seed, parts, steps):
    """The encoder that both start from, trained and left random."""
    made = {"random": make_encoder(seed), "trained": make_encoder(seed)}
    train_encoder(made["trained"], parts["train"], seed, steps)
    return made


def choose(parts, steps, encoder_steps, seed=1000):
    """Prints the validation mIoU of every arm and encoder over learning rates."""
    images, masks = mosaics(parts["validation"], VALIDATION_MOSAICS, np.random.default_rng(seed))
    encoders = encoders_of(seed, parts, encoder_steps)
    best = {arm: {} for arm in ARMS}
    for arm in ARMS:
        for kind in ENCODERS:
            scores = {}
            for rate in RATES:
                model = make_segmenter(arm, encoders[kind], seed, rate, steps)
                train(model, parts["train"], [seed, 2], steps, f"{arm}, {kind}, {rate:g}")
                scores[rate] = intersection_over_union(
                    masks, predict(model, images), len(TEXTURES)
                )[0]
            best[arm][kind] = max(scores, key=scores.get)
            print(f"{arm:10} {kind:8}", {r: round(s, 3) for r, s in scores.items()}, flush=True)
    print("CHOSEN =", best)


def compare(parts, seeds, steps, encoder_steps, test):
    """Trains all arms over seeds; returns the table's rows, and the first dynamic network."""
    rows, first = [], None
    images, masks = test
    for seed in range(seeds):
        encoders = encoders_of(seed, parts, encoder_steps)
        for kind in ENCODERS:
            for arm in ARMS:
                model = make_segmenter(arm, encoders[kind], seed, CHOSEN[arm][kind], steps)
                train(model, parts["train"], [seed, 2], steps, f"seed {seed}, {arm}, {kind}")
                first = first or model
                rows.append(row(arm, kind, seed, masks, predict(model, images)))
        rows.append(row(FOREST, "none", seed, masks, forest(parts["train"], seed)(images)))
    return rows, first


def row(arm, encoder, seed, masks, predictions):
    """A line of the table."""
    mean, each, _ = intersection_over_union(masks, predictions, len(TEXTURES))
    print(f"seed {seed} {arm} ({encoder} encoder): mIoU {mean:.4f}", flush=True)
    each = {f"iou_{name}": round(float(v), 4) for name, v in zip(TEXTURES, each, strict=True)}
    return {"arm": arm, "encoder": encoder, "seed": seed, "miou": round(mean, 4), **each}


def report(rows):
    """Prints means and paired differences; returns what follows from them."""
    parts = []
    for encoder in ENCODERS:
        print(f"\n{encoder} encoder")
        own = [r for r in rows if r["encoder"] in (encoder, "none")]
        _report.print_table(own, "dynamic", ["miou"])
        arms = [arm for arm in ARMS if arm != "dynamic"]
        compared = _report.compare_all(own, "dynamic", "miou", arms=arms)
        parts.append(f"On the {encoder} encoder {compared}.")
    means = {
        (arm, e): _report.column(rows, arm, "miou", encoder=e).mean()
        for arm in ARMS for e in ENCODERS
    }  # fmt: skip
    by_arm = "; ".join(
        f"{arm} {means[arm, 'trained']:.3f} and {means[arm, 'random']:.3f}" for arm in ARMS
    )
    classical = _report.column(rows, FOREST, "miou").mean()
    return (
        f"Test mIoU on the trained and the random frozen encoder: {by_arm}; without one, {FOREST} "
        f"{classical:.3f}. {' '.join(parts)} The encoders are tiny, the textures six: nothing here "
        "speaks of those that the paper stands on."
    )


def save(folder, parts, test, steps, encoder_steps):
    """Trains the dynamic network of seed 0 for longer, and writes it as a preset with its card."""
    encoder = make_encoder(0)
    train_encoder(encoder, parts["train"], 0, encoder_steps, PRESET_POOL)
    model = make_segmenter("dynamic", encoder, 0, CHOSEN["dynamic"]["trained"], steps)
    train(model, parts["train"], [0, 2], steps, "preset", PRESET_POOL)
    command = f"python examples/dwff_net.py --save {pathlib.Path(folder).name}"
    publish(model, pathlib.Path(folder) / PRESET, parts, test, steps, encoder_steps, command)


def publish(model, folder, parts, test, steps, encoder_steps, command):
    """Measures a trained network beside the classical baseline, and writes the preset's files."""
    images, masks = test
    values = {
        PRESET: row(PRESET, "trained", 0, masks, predict(model, images)),
        FOREST: row(FOREST, "none", 0, masks, forest(parts["train"], 0)(images)),
    }
    values = {
        name: {k: v for k, v in found.items() if k not in ("arm", "encoder", "seed")}
        for name, found in values.items()
    }
    model.compile()  # The schedule of its training is no part of the preset.
    x = keras.ops.convert_to_numpy(model.preprocess_samples(np.array(images[:1])))
    _preset.write(folder, model, x, model_card(values, model, steps, encoder_steps, command))
    _presets.write_manifest(
        folder,
        name=PRESET,
        title="DWFF-Net on a tiny DINOv3, textures of six photographs",
        task="image segmentation",
        backbone="DWFFNetBackbone",
        task_class="DWFFNetImageSegmenter",
        parameters=model.count_params(),
        input="images (N, 64, 64, 3) of bytes, or one (H, W, 3) of any size in `segment`",
        data="mosaics of six textures, from the left halves of photographs in scikit-image's wheel",
        classes=list(TEXTURES),
        seeds=[0],
        metrics={
            "name": f"mIoU on {len(images)} mosaics from the right halves, and IoU of each class",
            "values": values.pop(PRESET),
            "baseline": values,
        },
        licence="Apache-2.0",
        paper="dwff-net",
        command=command,
    )


def stored_table():
    """What the stored table says of the arms, as lines of Markdown."""
    path = _report.RESULTS / "dwff-net.csv"
    if not path.exists():
        return "(not run yet)"
    rows = [{**r, "miou": float(r["miou"])} for r in csv.DictReader(path.open())]
    lines = ["| | trained encoder | random encoder |", "| --- | --- | --- |"]
    for arm in ARMS:
        found = [_report.column(rows, arm, "miou", encoder=e) for e in ENCODERS]
        cells = [f"{v.mean():.3f} +- {v.std(ddof=1):.3f}" for v in found]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def model_card(values, model, steps, encoder_steps, command):
    head = "| | mIoU | " + " | ".join(TEXTURES) + " |"
    lines = [head, "| --- " * (2 + len(TEXTURES)) + "|"]
    for name, found in values.items():
        label = f"**{name}**" if name == PRESET else name
        lines.append(f"| {label} | " + " | ".join(f"{v:.3f}" for v in found.values()) + " |")
    table = "\n".join(lines)
    return f"""# {PRESET}

A tiny network that tells six textures apart, pixel by pixel, trained on mosaics of real
photographs: DWFF-Net on a frozen DINOv3 of {ENCODER["num_layers"]} blocks x
{ENCODER["hidden_dim"]}, levels {LEVELS}, {model.count_params():,} parameters. It shows how the
pieces fit together and is small enough for tests; it knows these six textures and nothing else.

```python
import keras_zoo
segmenter = keras_zoo.models.DWFFNetImageSegmenter.from_preset("{PRESET}")
classes = segmenter.segment(photograph)      # (H, W), ids of the textures below
weights = segmenter.level_weights(images)    # how much each level counts, image by image
```

Classes: {", ".join(f"{i} {name}" for i, name in enumerate(TEXTURES))}.

## How it was made

- Data: mosaics of {SIZE} x {SIZE} pixels, two to four textures with random Voronoi borders, cut
  from the left halves of photographs inside scikit-image's wheel, grey as three equal channels,
  turned, mirrored, of changed brightness and contrast.
- The encoder learnt first, for {encoder_steps:,} steps of {BATCH} mosaics, to tell the texture at
  the middle of each patch with a linear head (AdamW, {ENCODER_RATE:g}, cosine). These are not the
  published weights of DINOv3, nor its way to learn.
- Then it was frozen, and fusion and decoder learnt for {steps:,} steps of {BATCH} (AdamW from
  {CHOSEN["dynamic"]["trained"]:g} with cosine decay, `DiceFocalLoss`, entropy weight 0.01).
- The learning rate was chosen on mosaics from the lowest rows of the left halves, which are not
  trained on; the figures below are from the right halves. One seed, 0, fixed beforehand.
- Rebuilt by `{command}`.

## Figures

IoU on test mosaics:

{table}

The forest is `sklearn.ensemble.RandomForestClassifier` on scikit-image's multiscale features.

Does the dynamic weighting help, and the training of the encoder? Test mIoU of short runs ({STEPS}
steps, encoders of {ENCODER_STEPS} steps), mean and spread over seeds, each with its own validated
learning rate (`examples/results/dwff-net.csv`):

{stored_table()}

## Limits

- Train and test halves are of the same six photographs: this is no evidence for other photographs
  of such textures.
- Tokens are of {PATCH} x {PATCH} pixels: thin regions are lost.

Licence: Apache-2.0. Paper: arXiv:2511.11659.
"""


def plot(rows, model, test, shown=4):
    """Images, truth, prediction and level weights beside the table as bars."""
    images, masks = (part[:shown] for part in test)
    predictions, weights = predict(model, images), model.level_weights(images)
    figure = _report.pyplot().figure(figsize=(11, 6), dpi=72, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.5, 1))
    axes = left.subplots(shown, 4)
    style = {"cmap": "tab10", "vmin": 0, "vmax": 9, "interpolation": "nearest"}
    for line, image, mask, found, weight in zip(
        axes, images, masks, predictions, weights, strict=True
    ):
        line[0].imshow(image)
        line[1].imshow(mask, **style)
        line[2].imshow(found, **style)
        line[3].bar([str(level) for level in LEVELS], weight, color="tab:gray")
        line[3].set_ylim(0, 1)
        for axis in line[:3]:
            axis.axis("off")
    for axis, title in zip(axes[0], ("image", "truth", "dynamic", "level weights"), strict=True):
        axis.set_title(title, fontsize=9)
    for axis, encoder in zip(right.subplots(2, 1, sharex=True), ENCODERS, strict=True):
        own = [r for r in rows if r["encoder"] in (encoder, "none")]
        _report.draw_bars(axis, own, "dynamic", "miou")
        axis.set(title=f"{encoder} encoder", xlabel="test mIoU")
    return figure


def main():
    args = _report.parser(
        __doc__,
        seeds=3,
        choose="settings on the validation split",
        save="train the preset and write it there",
    ).parse_args()
    global BATCH, FOREST_MOSAICS
    steps, encoder_steps, count = STEPS, ENCODER_STEPS, TEST_MOSAICS
    if args.smoke:
        steps, encoder_steps, count, args.seeds = 2, 2, 4, 1
        BATCH, FOREST_MOSAICS = 4, 4
        ENCODER["num_layers"] = 4
        for arm in ("static", "sum"):
            del ARMS[arm]
    parts = photographs()
    if args.choose:
        return choose(parts, steps // 2, encoder_steps)
    test = mosaics(parts["test"], count, np.random.default_rng(0))
    if args.save:
        budgets = (4, 4) if args.smoke else (PRESET_STEPS, PRESET_ENCODER_STEPS)
        return save(args.save, parts, test, *budgets)
    rows, model = compare(parts, args.seeds, steps, encoder_steps, test)
    verdict = report(rows)
    with _report.output_folder(args) as folder:
        _report.write(folder, "dwff-net", rows, verdict, plot(rows, model, test))


if __name__ == "__main__":
    main()
