"""Weighted against plain convolutions in denoising, and the preset `dncnn_weighted_small_photos`.

A DnCNN of 5 layers x 16 filters with kernels of 7 learns to remove Gaussian noise of an unknown
strength, drawn uniformly from 5 to 55 (of 255) for each patch of 40 x 40 pixels. Four arms:

    density         WeightedConv2D with the authors' density (0.25, 0.15, 0.55)
    ones            the same layer with a density of ones: a plain convolution, same start
    ones, scaled    the latter with its start scaled by rms(Phi), the density's mean effect on it
    glorot          a plain convolution with Keras's default start

The photographs are those inside scikit-image's wheel, in grey, split by photograph: nine train,
two validate, two test; a last one (astronaut) is in no split. Seed by seed, all arms share patches,
noise and, but for glorot, the random numbers of their start. Measured are PSNR and SSIM on the
whole test photographs at sigma 15, 25 and 50; estimates are clipped to [0, 1], the noise is not.

The learning rate, for each arm by itself, and whether to use batch normalisation, were chosen by
`--choose` on the validation photographs, with a seed that is not used again: 150 steps at each of
four learning rates and both ways of normalising for every arm. See `CHOSEN` below.

    KERAS_BACKEND=tensorflow python examples/weighted_conv.py --seeds 3
    KERAS_BACKEND=tensorflow python examples/weighted_conv.py --save saved_models
"""

import csv
import json
import os
import pathlib
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import _preset
import _report
import keras
import numpy as np
from skimage import data
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from skimage.util import img_as_float

from keras_zoo import _presets
from keras_zoo.models import DnCNNBackbone, DnCNNDenoiser

PRESET = "dncnn_weighted_small_photos"

TRAIN = (
    "brick",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "stereo_motorcycle",
    "retina",
    "rocket",
)
VALIDATION = ("chelsea", "coins")
TEST = ("camera", "coffee")
ASIDE = "astronaut"

DENSITY = (0.25, 0.15, 0.55)
ONES = (1.0, 1.0, 1.0)
KERNEL_SIZE, FILTERS, NUM_LAYERS = 7, 16, 5
PATCH, BATCH = 40, 16
TRAINED_SIGMAS = (5.0, 55.0)
SIGMAS = (15, 25, 50)
STEPS = 300
PRESET_STEPS = 16_000
ARMS = ("density", "ones", "ones, scaled", "glorot")
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
# By --choose: learning rate of each arm, and whether batches are normalised.
CHOSEN = {"density": 3e-3, "ones": 1e-3, "ones, scaled": 1e-3, "glorot": 1e-3}
USE_BATCH_NORM = False


def photograph(name):
    """One photograph of scikit-image's wheel, grey, `(H, W)` float32 in [0, 1]."""
    image = getattr(data, name)()
    if isinstance(image, tuple):  # The stereo pair: two views of one scene count once.
        image = image[0]
    image = img_as_float(image)
    return (rgb2gray(image) if image.ndim == 3 else image).astype("float32")


def rms_phi(density=DENSITY):
    """Root mean square of the density's weights over a kernel of two axes."""
    alpha = np.array([*density, 1.0, *density[::-1]])
    return float(np.sqrt(np.mean(np.outer(alpha, alpha) ** 2)))


def denoiser(arm, seed, rate, steps, use_batch_norm=None):
    """A fresh model of an arm; equal seeds draw equal numbers for the first three."""
    keras.utils.set_random_seed(seed)
    initializer = None
    if arm == "ones, scaled":
        initializer = keras.initializers.VarianceScaling(
            2 * rms_phi() ** 2, "fan_out", "untruncated_normal"
        )
    elif arm == "glorot":
        initializer = "glorot_uniform"
    backbone = DnCNNBackbone(
        num_layers=NUM_LAYERS,
        filters=FILTERS,
        kernel_size=KERNEL_SIZE,
        density=DENSITY if arm == "density" else ONES,
        use_batch_norm=USE_BATCH_NORM if use_batch_norm is None else use_batch_norm,
        kernel_initializer=initializer,
        name="dncnn_backbone",
    )
    model = DnCNNDenoiser(backbone, name="dncnn_denoiser")
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(optimizer=keras.optimizers.Adam(schedule))
    return model


def batches(photographs, seed):
    """Noisy and clean patches without end: `(BATCH, PATCH, PATCH, 1)` each."""
    rng = np.random.default_rng(seed)
    while True:
        clean = np.empty((BATCH, PATCH, PATCH, 1), "float32")
        for patch in clean:
            image = photographs[rng.integers(len(photographs))]
            top, left = (rng.integers(side - PATCH + 1) for side in image.shape)
            cut = image[top : top + PATCH, left : left + PATCH]
            cut = np.rot90(cut, rng.integers(4))
            patch[..., 0] = cut[:, ::-1] if rng.integers(2) else cut
        sigma = rng.uniform(*TRAINED_SIGMAS, (BATCH, 1, 1, 1)) / 255
        noise = sigma * rng.standard_normal(clean.shape)
        yield (clean + noise).astype("float32"), clean


def train(model, photographs, seed, steps, title):
    """Trains a model in place; returns its loss at each step."""
    losses, start = [], time.perf_counter()
    source = batches(photographs, seed)
    for step in range(1, steps + 1):
        noisy, clean = next(source)
        losses.append(float(model.train_on_batch(noisy, clean)))
        if step % max(1, min(500, steps // 4)) == 0:
            db = -10 * np.log10(np.mean(losses[-50:]))
            spent = time.perf_counter() - start
            print(f"  {title}: step {step}/{steps}, {db:.2f} dB, {spent:.0f} s", flush=True)
    return losses


def noisy_version(image, sigma, index):
    """An image with noise that is the same for every arm and seed."""
    rng = np.random.default_rng([sigma, index])
    return (image + sigma / 255 * rng.standard_normal(image.shape)).astype("float32")


def measure(restore, photographs, sigma):
    """Mean PSNR and SSIM over photographs of `restore(noisy, sigma)`, clipped to [0, 1]."""
    psnr, ssim = [], []
    for index, clean in enumerate(photographs):
        restored = np.clip(restore(noisy_version(clean, sigma, index), sigma), 0, 1)
        psnr.append(peak_signal_noise_ratio(clean, restored, data_range=1))
        ssim.append(structural_similarity(clean, restored, data_range=1))
    return float(np.mean(psnr)), float(np.mean(ssim))


def with_model(model):
    return lambda noisy, sigma: model.denoise(noisy)


def choose(photographs, validation, steps=150, seed=1000):
    """Prints the validation PSNR of every arm over learning rates and normalisation."""
    for use_batch_norm in (False, True):
        for arm in ARMS:
            for rate in RATES:
                model = denoiser(arm, seed, rate, steps, use_batch_norm)
                train(model, photographs, seed, steps, arm)
                db = np.mean([measure(with_model(model), validation, s)[0] for s in SIGMAS])
                print(f"{arm:14} norm={use_batch_norm!s:5} rate={rate:g}: {db:.2f} dB", flush=True)


def compare(photographs, test, seeds, steps):
    """Trains all arms over seeds; returns the table's rows, the losses, and seed 0's models."""
    rows, curves, models = [], {arm: [] for arm in ARMS}, {}
    for seed in range(seeds):
        for arm in ARMS:
            model = denoiser(arm, seed, CHOSEN[arm], steps)
            curves[arm].append(train(model, photographs, seed, steps, f"seed {seed}, {arm}"))
            models.setdefault(arm, model)
            for sigma in SIGMAS:
                psnr, ssim = measure(with_model(model), test, sigma)
                rows.append(
                    {
                        "arm": arm,
                        "seed": seed,
                        "sigma": sigma,
                        "psnr": round(psnr, 4),
                        "ssim": round(ssim, 5),
                    }
                )
                print(f"seed {seed} {arm:14} sigma {sigma}: {psnr:.2f} dB, SSIM {ssim:.3f}")
    return rows, curves, models


def report(rows):
    """Prints means and paired differences; returns what follows from them."""
    for sigma in SIGMAS:
        print(f"\nsigma {sigma}")
        _report.print_table(rows, "density", ["psnr", "ssim"], sigma=sigma)
    over_sigmas = [
        {
            "arm": arm,
            "seed": seed,
            "psnr": np.mean([r["psnr"] for r in rows if (r["arm"], r["seed"]) == (arm, seed)]),
        }
        for arm, seed in dict.fromkeys((r["arm"], r["seed"]) for r in rows)
    ]
    print("\nmean over the three sigmas")
    _report.print_table(over_sigmas, "density", ["psnr"])
    mean = {arm: _report.column(over_sigmas, arm, "psnr").mean() for arm in ARMS}
    return (
        f"PSNR after {STEPS} steps: {_report.compare_all(over_sigmas, 'density', 'psnr')}. "
        f"Of its {mean['density'] - mean['ones']:.2f} dB over ones, a start scaled by "
        f"rms(Phi) = {rms_phi():.3f} alone gives {mean['ones, scaled'] - mean['ones']:.2f} dB."
    )


def plot(curves, strip):
    """Learning curves above a strip of pictures, as a figure."""
    figure = _report.pyplot().figure(figsize=(8, 5.4), dpi=72, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    axes = top.subplots()
    for arm, losses in curves.items():
        losses = np.array(losses)
        width = max(1, losses.shape[1] // 20)
        steps = losses.shape[1] // width * width
        binned = losses[:, :steps].reshape(len(losses), -1, width).mean(-1)
        db = -10 * np.log10(binned)
        x = width * (np.arange(db.shape[1]) + 0.5)
        axes.plot(x, db.mean(0), label=arm)
        axes.fill_between(x, db.min(0), db.max(0), alpha=0.2)
    axes.set(xlabel="step", ylabel="PSNR in training (dB)", ylim=(15, None))
    axes.legend()
    axes.grid(alpha=0.3)
    for axis, (title, image) in zip(bottom.subplots(1, len(strip)), strip.items(), strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    return figure


def picture_strip(models, image):
    """A crop of a test photograph: noisy, as the models see it, clean."""
    noisy = noisy_version(image, 25, 0)
    crop = (slice(60, 200), slice(180, 320)) if min(image.shape) > 320 else (slice(None),) * 2
    restored = {arm: np.clip(model.denoise(noisy), 0, 1)[crop] for arm, model in models.items()}
    return {"noisy, sigma 25": noisy[crop], **restored, "clean": image[crop]}


def classical(validation):
    """Non-local means and total variation, each told sigma, with their strength validated."""

    def non_local(factor):
        return lambda x, sigma: denoise_nl_means(
            x, 5, 6, h=factor * sigma / 255, sigma=sigma / 255, fast_mode=True
        )

    def total_variation(factor):
        return lambda x, sigma: denoise_tv_chambolle(x, weight=factor * sigma / 255)

    chosen = {}
    for name, family in (("non-local means", non_local), ("total variation", total_variation)):

        def score(factor, family=family):
            return np.mean([measure(family(factor), validation, s)[0] for s in SIGMAS])

        chosen[name] = family(max((0.4, 0.6, 0.8, 1.0, 1.3, 1.6), key=score))
    return chosen


def save(folder, steps, photographs, validation, test):
    """Trains the density arm, seed 0, for longer, and writes it as a preset with its card."""
    model = denoiser("density", 0, CHOSEN["density"], steps)
    train(model, photographs, 0, steps, "preset")
    command = f"python examples/weighted_conv.py --save {pathlib.Path(folder).name}"
    publish(model, pathlib.Path(folder) / PRESET, steps, command, validation, test)


def publish(model, folder, steps, command, validation, test):
    """Measures a trained model beside classical filters, and writes the preset's files."""
    rivals = {"noisy input": lambda x, sigma: x, **classical(validation)}
    values = {
        name: {
            str(s): dict(
                zip(("psnr", "ssim"), np.round(measure(f, test, s), 3).tolist(), strict=True)
            )
            for s in SIGMAS
        }
        for name, f in {PRESET: with_model(model), **rivals}.items()
    }
    print(json.dumps(values, indent=1))
    x = noisy_version(validation[0][:48, :48], 25, 99)[None, ..., None]
    _preset.write(folder, model, x, model_card(values, model.count_params(), steps, command))
    _presets.write_manifest(
        folder,
        name=PRESET,
        title="DnCNN with weighted convolutions, small, blind denoising of grey photographs",
        task="image denoising",
        backbone="DnCNNBackbone",
        task_class="DnCNNDenoiser",
        parameters=model.count_params(),
        input="images (H, W), (H, W, C) or (N, H, W, C) of any size, [0, 1] or uint8; one channel "
        "at a time",
        data="grey patches of nine photographs inside scikit-image's wheel",
        seeds=[0],
        metrics={
            "name": "PSNR (dB) and SSIM on two held-out photographs at sigma 15, 25, 50 of 255",
            "values": values.pop(PRESET),
            "baseline": values,
        },
        licence="Apache-2.0",
        paper="weighted-conv",
        command=command,
    )


def arms_in_short_training():
    """What the stored table says of the four arms, as lines of Markdown; none without it."""
    path = _report.RESULTS / "weighted-conv.csv"
    if not path.exists():
        return "(not run yet)"
    rows = list(csv.DictReader(path.open()))
    lines = ["| | sigma 15 | sigma 25 | sigma 50 |", "| --- | --- | --- | --- |"]
    for arm in ARMS:
        cells = []
        for sigma in SIGMAS:
            psnr = [float(r["psnr"]) for r in rows if r["arm"] == arm and r["sigma"] == str(sigma)]
            cells.append(f"{np.mean(psnr):.2f} +- {np.std(psnr, ddof=1):.2f}")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def model_card(values, parameters, steps, command):
    table = "\n".join(
        f"| {f'**{name}**' if name == PRESET else name} | "
        + " | ".join(f"{v[str(s)]['psnr']:.2f} / {v[str(s)]['ssim']:.3f}" for s in SIGMAS)
        + " |"
        for name, v in values.items()
    )
    over = {name: np.mean([v["psnr"] for v in by.values()]) for name, by in values.items()}
    best = max((name for name in over if name != PRESET), key=over.get)
    gain = over[PRESET] - over[best]
    word = "above" if gain > 0 else "below"
    return f"""# {PRESET}

A small blind denoiser of photographs, trained on nine real photographs: a DnCNN of {NUM_LAYERS}
weighted convolutions, {FILTERS} filters of {KERNEL_SIZE} x {KERNEL_SIZE}, density {list(DENSITY)},
{parameters:,} parameters. It takes grey images of any size, colour images channel by channel, and
does not need to be told how strong the noise is.

```python
import keras_zoo
denoiser = keras_zoo.models.DnCNNDenoiser.from_preset("{PRESET}")
clean = denoiser.denoise(photograph, tile=256)
```

## How it was made

- Data: grey patches of {PATCH} x {PATCH} pixels from the photographs inside scikit-image's wheel
  ({", ".join(TRAIN)}), turned and mirrored,
  with Gaussian noise of a sigma drawn uniformly from {TRAINED_SIGMAS[0]:g} to {TRAINED_SIGMAS[1]:g}
  (of 255) for each patch.
- Settings were chosen on two others ({", ".join(VALIDATION)}), the figures below measured on two
  more ({", ".join(TEST)}). `{ASIDE}` was never looked at.
- {steps:,} steps of {BATCH} patches, Adam from {CHOSEN["density"]:g} with cosine decay, mean
  squared error, seed 0 (fixed beforehand).
- Rebuilt by `{command}`.

## Figures

PSNR (dB) / SSIM, mean over the two test photographs, estimates clipped to [0, 1], one seed:

| | sigma 15 | sigma 25 | sigma 50 |
| --- | --- | --- | --- |
{table}

The classical filters are told the true sigma, and their strength was chosen on the validation
photographs; the network is told nothing. Over the three sigmas it lies {abs(gain):.2f} dB {word}
the better of them, {best}.

Does the density help? PSNR of the same network after {STEPS} steps, mean and spread over seeds,
each arm with its own validated learning rate (`examples/results/weighted-conv.csv`):

{arms_in_short_training()}

Most of the distance between `density` and `ones` is a matter of initial scale: `ones, scaled` has
the same start but for that. A plain network was not trained for as long as this preset, so nothing
here shows that the density makes a better network in the end.

## Limits

- Gaussian noise alone: not the noise of sensors after demosaicing and compression.
- Below sigma {TRAINED_SIGMAS[0]:g} and beyond {TRAINED_SIGMAS[1]:g} it was never trained.
- Nine photographs, three of them textures: networks trained on large collections do better.
- Colour images are treated channel by channel, which leaves coloured specks in strong noise.

Licence: Apache-2.0. Paper: arXiv:2505.24558.
"""


def main():
    parser = _report.parser(
        __doc__,
        seeds=3,
        choose="settings on the validation split",
        save="train the preset and write it there",
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each arm")
    parser.add_argument("--preset-steps", type=int, default=PRESET_STEPS)
    args = parser.parse_args()

    photographs, validation, test = (
        [photograph(name) for name in names] for names in (TRAIN, VALIDATION, TEST)
    )
    if args.smoke:
        args.seeds, args.steps, args.preset_steps = 2, 4, 4
        validation, test = ([x[:64, :64] for x in images] for images in (validation, test))
    if args.choose:
        return choose(photographs, validation)
    if args.save:
        return save(args.save, args.preset_steps, photographs, validation, test)

    rows, curves, models = compare(photographs, test, args.seeds, args.steps)
    verdict = report(rows)
    models = {arm: models[arm] for arm in ("ones", "density")}
    figure = plot(curves, picture_strip(models, test[0]))
    with _report.output_folder(args) as folder:
        _report.write(folder, "weighted-conv", rows, verdict, figure)


if __name__ == "__main__":
    main()
