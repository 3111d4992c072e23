"""Weighted against plain convolutions: a training step and inference, ratios in one run.

    KERAS_BACKEND=jax python benchmarks/weighted_conv.py

The reference is `keras.layers.Conv2D`. The aim is a ratio of at most 1.05: unfolded in a training
step, folded (`fold_weighted_conv`) in inference. `bare ops.conv` is a layer of one line, with
neither checks nor bias. Each network is four convolutions of 32 filters on 32 images of 48 x 48.
"""

import argparse

import keras
import numpy as np
from _runner import rows_against, time_in_turns, write_csv
from keras import ops

from keras_zoo.layers import WeightedConv2D, fold_weighted_conv

BATCH, SIDE, FILTERS, DEPTH = 32, 48, 32, 4
BACKEND = keras.backend.backend()


class BareConv(keras.layers.Layer):
    """Nothing but `ops.conv`."""

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.size = filters, kernel_size

    def build(self, shape):
        """Makes the kernel."""
        self.kernel = self.add_weight(shape=(self.size, self.size, shape[-1], self.filters))

    def call(self, x):
        """Convolves."""
        return ops.conv(x, self.kernel, padding="same")


def network(make):
    """Convolutions with ReLU in between, compiled."""
    layers = [keras.Input((SIDE, SIDE, FILTERS))]
    for _ in range(DEPTH):
        layers += [make(), keras.layers.ReLU()]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--budget", type=float, default=25.0, help="seconds for each comparison")
    args = parser.parse_args()
    x = np.random.default_rng(0).random((BATCH, SIDE, SIDE, FILTERS), "float32")
    rows = []
    for k in (3, 7):
        plain = {"padding": "same", "use_bias": False}
        models = {
            "Conv2D": network(lambda k=k, o=plain: keras.layers.Conv2D(FILTERS, k, **o)),
            "WeightedConv2D": network(lambda k=k: WeightedConv2D(FILTERS, k, padding="same")),
            "bare ops.conv": network(lambda k=k: BareConv(FILTERS, k)),
        }
        training = {
            name: lambda model=model: float(model.train_on_batch(x, x))
            for name, model in models.items()
        }
        models["WeightedConv2D folded"] = fold_weighted_conv(models["WeightedConv2D"])
        inference = {
            name: lambda model=model: ops.convert_to_numpy(model.predict_on_batch(x))
            for name, model in models.items()
        }
        for work, sides in (("training step", training), ("inference", inference)):
            times = time_in_turns(sides, repeats=args.repeats, budget_s=args.budget)
            new = rows_against(times, "Conv2D", backend=BACKEND, kernel=k, work=work)
            for row in new:
                print(
                    f"{BACKEND:10} kernel {k} {work:14} {row['side']:22} {row['ms']:9.2f} ms "
                    f"{row['ratio']:6.3f}",
                    flush=True,
                )
            rows += new
    path = write_csv("weighted_conv", rows, ("backend", "kernel", "work", "side"))
    print(f"Written to {path}")


if __name__ == "__main__":
    main()
