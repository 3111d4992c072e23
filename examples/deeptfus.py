"""DeepTFUS against a U-Net that does not know the transducer, and `deeptfus_tiny_phantoms`.

160 phantoms of 24 x 24 x 24 voxels of 1 mm, made by `keras_zoo.datasets.skull_phantoms`: a skull of
a random shape in water, a random bowl that hums at 250 kHz, the steady pressure by our k-space
solver. 120 are for training, 16 for validation, 24 for the test. Three ways to guess the pressure:

    conditioned     DeepTFUS of three levels: CT, and the points of the transducer
    plain U-Net     the same without attention, dynamic convolution and modulation: CT alone
    mean field      the mean of the training fields, whatever the phantom

Fields are `log(1 + p / max p)`, as in the paper, and errors are taken there. Seed by seed both
networks see the same phantoms in the same order, flipped and turned at random (the 48 symmetries of
a cube, applied to volume, points and field alike), for the same number of steps, with
`PressureFieldLoss`. The learning rate of each was chosen by `--choose` on the validation phantoms,
with a seed that is not used again, for half of the steps. See `CHOSEN` below.

The simulation takes a quarter of an hour; `--cache FILE` keeps it for the next run.

    python examples/deeptfus.py --seeds 3 --cache phantoms.npz
    python examples/deeptfus.py --save saved_models --cache phantoms.npz
"""

import os
import pathlib
import time

os.environ.setdefault("KERAS_BACKEND", "torch")

import _preset
import _report
import keras
import numpy as np

from keras_zoo import _presets
from keras_zoo.datasets import skull_phantoms
from keras_zoo.metrics import FocalPositionError, MaxPressureError, RelativeL2Error
from keras_zoo.models import (
    DeepTFUSBackbone,
    DeepTFUSPressureEstimator,
    DeepTFUSPressureEstimatorPreprocessor,
)

PRESET = "deeptfus_tiny_phantoms"

SIZE, SPACING, DATA_SEED = 24, 1.0, 0  # voxels, mm
TRAIN, VALIDATION, TEST = 120, 16, 24
FILTERS, UNITS, BATCH = (8, 16, 32), 64, 4
ARMS = {
    "conditioned": {"attention_levels": (1, 2)},
    "plain U-Net": {
        "attention_levels": (),
        "use_dynamic_convolution": False,
        "use_film": False,
    },
}
MEAN = "mean field"
STEPS = 600
RATES = (1e-3, 3e-3)
# By --choose: the learning rate of each arm.
CHOSEN = {"conditioned": 3e-3, "plain U-Net": 3e-3}


def phantoms(counts, size, cache):
    """Phantoms for training, validation and test, from the cache if it holds them."""
    if cache is not None and cache.is_file():
        with np.load(cache, allow_pickle=False) as file:
            data = dict(file)
    else:
        data = skull_phantoms(sum(counts), size=size, spacing=SPACING / 1000, seed=DATA_SEED)
        if cache is not None:
            np.savez_compressed(cache, **data)
    if data["pressure"].shape != (sum(counts), size, size, size):
        raise ValueError(
            f"`--cache` must hold {sum(counts)} phantoms of {size} voxels a side. "
            f"Received: pressure of shape {data['pressure'].shape} in {cache}"
        )
    ends = np.cumsum(counts)
    return [
        {name: array[end - count : end] for name, array in data.items()}
        for end, count in zip(ends, counts, strict=True)
    ]


def turned(images, points, pressure, rng):
    """One phantom, turned and mirrored at random, as one of the 48 symmetries of a cube."""
    order, signs = rng.permutation(3), rng.choice((-1, 1), 3)
    flips = tuple(slice(None, None, sign) for sign in signs)
    images, pressure = images.transpose(*order, 3)[flips], pressure.transpose(order)[flips]
    return images, points[:, order] * signs, pressure


def batches(data, seed, steps):
    """Batches of turned phantoms: pass after pass, each in a new order."""
    rng, waiting = np.random.default_rng(seed), []
    for _ in range(steps):
        while len(waiting) < BATCH:
            waiting += list(rng.permutation(len(data["pressure"])))
        rows, waiting = waiting[:BATCH], waiting[BATCH:]
        phantom = zip(
            *(data[k][rows] for k in ("images", "transducer_points", "pressure")), strict=True
        )
        images, points, pressure = zip(*(turned(*parts, rng) for parts in phantom), strict=True)
        yield (
            {
                "images": np.stack(images),
                "transducer_points": np.stack(points).astype("float32"),
            },
            np.stack(pressure),
        )


def make_estimator(arm, seed, rate, steps):
    """A fresh network of an arm, for volumes of any size."""
    keras.utils.set_random_seed(seed)
    backbone = DeepTFUSBackbone((None, None, None, 1), FILTERS, UNITS, **ARMS[arm], name="backbone")
    model = DeepTFUSPressureEstimator(backbone, name="estimator")
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=rate, warmup_steps=max(1, steps // 20)
    )
    model.compile(keras.optimizers.Adam(schedule), metrics=[])
    return model


def train(arm, data, seed, rate, steps):
    """A trained network of an arm."""
    model, start = make_estimator(arm, seed, rate, steps), time.perf_counter()
    losses = []
    for step, (x, y) in enumerate(batches(data, [seed, 1], steps), start=1):
        losses.append(float(model.train_on_batch(x, y, return_dict=True)["loss"]))
        if step in (1, steps // 4, steps // 2, steps):
            recent, spent = np.mean(losses[-steps // 8 :]), time.perf_counter() - start
            print(f"  {arm}, seed {seed}: step {step}/{steps}, loss {recent:.5f}, {spent:.0f} s",
                  flush=True)  # fmt: skip
    return model


def predict(model, data):
    """Predicted fields `(N, S, S, S)`."""
    x = {name: data[name] for name in ("images", "transducer_points")}
    return model.predict(x, batch_size=BATCH, verbose=0)[..., 0]


def errors(data, fields):
    """The three errors of predicted fields."""
    found = {}
    for name, metric in (
        ("relative_l2", RelativeL2Error()),
        ("focal_mm", FocalPositionError(SPACING)),
        ("peak_error", MaxPressureError()),
    ):
        metric.update_state(data["pressure"], fields)
        found[name] = round(float(metric.result()), 4)
    return found


def mean_field(train, data):
    """The mean of the training fields, for each phantom."""
    mean = train["pressure"].mean(axis=0)
    return np.broadcast_to(mean, data["pressure"].shape)


def choose(train_data, validation, steps, seed=1000):
    """Prints the validation error of both arms over learning rates."""
    print("mean field", errors(validation, mean_field(train_data, validation)))
    best = {}
    for arm in ARMS:
        scores = {}
        for rate in RATES:
            model = train(arm, train_data, seed, rate, steps)
            found = errors(validation, predict(model, validation))
            scores[rate] = found["relative_l2"]
            print(arm, rate, found, flush=True)
        best[arm] = min(scores, key=scores.get)
    print("CHOSEN =", best)


def compare(train_data, test, seeds, steps):
    """Trains both arms over seeds; returns the table's rows, and the networks of seed 0."""
    rows, first = [], {}
    for seed in range(seeds):
        for arm in ARMS:
            model = train(arm, train_data, seed, CHOSEN[arm], steps)
            first.setdefault(arm, model)
            rows.append({"arm": arm, "seed": seed, **errors(test, predict(model, test))})
            print(rows[-1], flush=True)
        field = mean_field(train_data, test)
        rows.append({"arm": MEAN, "seed": seed, **errors(test, field)})
    return rows, first


def report(rows):
    """Prints means and paired differences; returns what follows from them."""
    _report.print_table(rows, "conditioned", ["relative_l2", "focal_mm", "peak_error"])
    _report.print_table(rows, "conditioned", ["focal_mm"])
    means = {
        arm: [_report.column(rows, arm, k).mean() for k in ("relative_l2", "focal_mm",
                                                            "peak_error")]
        for arm in (*ARMS, MEAN)
    }  # fmt: skip
    figures = "; ".join(
        f"{arm} {l2:.3f}, {focal:.2f} mm, {peak:.3f}" for arm, (l2, focal, peak) in means.items()
    )
    by_l2 = _report.compare_all(rows, "conditioned", "relative_l2", higher_is_better=False)
    by_focus = _report.compare_all(rows, "conditioned", "focal_mm", higher_is_better=False)
    return (
        f"Relative L2, focal position and peak error on the test phantoms: {figures}. In relative "
        f"L2 {by_l2}; in the position of the focus {by_focus}. These are {TRAIN} small phantoms "
        "and a tiny network: nothing here speaks of the paper's figures (0.414, 2.89 mm, 0.199 on "
        "heads at full scale)."
    )


def save(folder, model, rows, test, steps):
    """Writes the conditioned network of seed 0 as a preset with its card."""
    folder = pathlib.Path(folder) / PRESET
    command = f"python examples/deeptfus.py --save {folder.parent.name}"
    values = {row.pop("arm"): row for row in (dict(r) for r in rows if r["seed"] == 0)}
    values = {arm: {k: v for k, v in row.items() if k != "seed"} for arm, row in values.items()}
    model.compile()  # The schedule of its training is no part of the preset.
    model.preprocessor = DeepTFUSPressureEstimatorPreprocessor()
    x = {name: test[name][:1] for name in ("images", "transducer_points")}
    _preset.write(folder, model, x, model_card(values, model, steps, command))
    own = values.pop("conditioned")
    _presets.write_manifest(
        folder,
        name=PRESET,
        title="DeepTFUS of three levels, pressure in simulated phantoms",
        task="pressure field estimation",
        backbone="DeepTFUSBackbone",
        task_class="DeepTFUSPressureEstimator",
        parameters=model.count_params(),
        input="dict of images (N, D, H, W, 1) in HU, sides multiples of 4, and transducer_points "
        "(N, M, 3), voxel indices",
        data=f"{TRAIN} procedural phantoms: random skulls in water, fields by our k-space solver",
        seeds=[0],
        metrics={
            "name": f"relative L2, focal position (mm) and peak error on {len(test['pressure'])} "
            "other phantoms",
            "values": own,
            "baseline": values,
        },
        licence="Apache-2.0",
        paper="deeptfus",
        command=command,
    )


def model_card(values, model, steps, command):
    lines = ["| | relative L2 | focal position error (mm) | peak error |", "| --- " * 4 + "|"]
    for arm, found in values.items():
        label = f"**{PRESET}**" if arm == "conditioned" else arm
        lines.append(f"| {label} | " + " | ".join(f"{v:.3f}" for v in found.values()) + " |")
    table = "\n".join(lines)
    return f"""# {PRESET}

A tiny network trained on procedural data, {TRAIN} simulated phantoms: it estimates the pressure of
a focused ultrasound transducer behind a skull, from CT and the transducer's voxels. DeepTFUS of
levels {FILTERS}, {model.count_params():,} parameters. It shows how the pieces fit together and is
small enough for tests. It is no tool for planning: it has seen no head.

```python
import keras_zoo
estimator = keras_zoo.models.DeepTFUSPressureEstimator.from_preset("{PRESET}")
x = {{"images": ct, "transducer_points": voxels}}    # (N, D, H, W, 1) in HU, (N, M, 3) indices
share = estimator.predict_pressure(x)              # (N, D, H, W), 1 about the peak
```

Sides of volumes are multiples of 4.

## How it was made

- Data: `keras_zoo.datasets.skull_phantoms`, {SIZE} x {SIZE} x {SIZE} voxels of {SPACING:g} mm:
  ellipsoidal shells of 400 to 2000 HU in water, bowls that hum at 250 kHz. {TRAIN} to train on,
  {VALIDATION} to choose the learning rate, {TEST} for the figures below.
- {steps:,} steps of {BATCH} phantoms, flipped and turned at random; Adam from
  {CHOSEN["conditioned"]:g} with cosine decay, `PressureFieldLoss`. One seed, 0, fixed beforehand.
- Rebuilt by `{command}`.

## Figures

On {TEST} test phantoms, in `log(1 + p / max p)`; seed 0 of each network:

{table}

The plain U-Net is the same network without the points; the mean field is that of the training
phantoms. Three seeds are in `examples/results/deeptfus.csv`.

## Limits

- Phantoms are not heads: shapes, bone and transducers are simpler than any patient's.
- One frequency, one size of voxels: others were not tried.
- A field's scale is that of its own peak; absolute pressure is not estimated.

Licence: Apache-2.0. Paper: arXiv:2505.12998.
"""


def plot(rows, models, train_data, test, shown=3):
    """Slices through the true focus: CT, simulated and predicted fields; beside them the table."""
    shown = min(shown, len(test["pressure"]))
    test = {name: array[:shown] for name, array in test.items()}
    fields = {
        "simulated": test["pressure"],
        **{arm: predict(model, test) for arm, model in models.items()},
        MEAN: mean_field(train_data, test),
    }
    figure = _report.pyplot().figure(figsize=(12, 5.4), dpi=72, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1))
    axes = left.subplots(shown, 1 + len(fields), squeeze=False)
    size = test["pressure"].shape[1]
    places = np.rint((test["transducer_points"] + 1) / 2 * (size - 1)).astype(int)
    for n, line in enumerate(axes):
        true = test["pressure"][n]
        depth = np.unravel_index(true.argmax(), true.shape)[0]
        near = places[n][np.abs(places[n][:, 0] - depth) <= 1]
        line[0].imshow(test["images"][n, depth, :, :, 0], cmap="gray", vmin=0, vmax=1)
        line[0].plot(near[:, 2], near[:, 1], ".", color="tab:orange", markersize=3)
        for axis, field in zip(line[1:], fields.values(), strict=True):
            axis.imshow(field[n, depth], cmap="inferno", vmin=0, vmax=np.log(2))
            place = np.unravel_index(field[n].argmax(), true.shape)
            axis.plot(place[2], place[1], "x", color="white", markersize=5)
        for axis in line:
            axis.axis("off")
    for axis, title in zip(axes[0], ("skull, transducer", *fields), strict=True):
        axis.set_title(title, fontsize=9)
    panels = right.subplots(2, 1)
    for axis, metric, label in zip(
        panels,
        ("relative_l2", "focal_mm"),
        ("relative L2 error", "focal position error, mm"),
        strict=True,
    ):
        _report.draw_bars(axis, rows, "conditioned", metric)
        axis.invert_yaxis()
        axis.set(xlabel=f"test {label}")
    return figure


def main():
    parser = _report.parser(
        __doc__,
        seeds=3,
        choose="settings on the validation split",
        save="write the preset of seed 0 there too",
    )
    parser.add_argument("--cache", type=pathlib.Path, help="file that keeps the phantoms")
    args = parser.parse_args()
    counts, size, steps = (TRAIN, VALIDATION, TEST), SIZE, STEPS
    if args.smoke:
        counts, size, steps, args.seeds, args.cache = (2, 1, 1), 12, 3, 1, None
    train_data, validation, test = phantoms(counts, size, args.cache)
    if args.choose:
        return choose(train_data, validation, steps // 2)
    rows, models = compare(train_data, test, args.seeds, steps)
    verdict = report(rows)
    with _report.output_folder(args) as folder:
        _report.write(folder, "deeptfus", rows, verdict, plot(rows, models, train_data, test))
    if args.save:
        save(args.save, models["conditioned"], rows, test, steps)


if __name__ == "__main__":
    main()
