"""Batches with the same number of examples from each of a few classes."""

import keras
import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_labels


@component(paper="multi-similarity")
class ClassBalancedSampler(keras.utils.PyDataset):
    """Draws `classes_per_batch` different classes, and `samples_per_class` examples of each.

    What losses over pairs need: with a random batch of many classes few anchors have a positive.
    A class's examples are drawn without replacement if it has enough of them, else with.

    Batch `b` of epoch `e` depends on `(seed, e, b)` alone: on no other draw, on no worker. A run
    that goes on from epoch `e` sets `sampler.epoch = e` and gets the batches of an unbroken one.
    (Keras may look at one batch before the first epoch, to learn its shape; that is not counted.
    With several workers it looks at more, and then it may be.)

    Args:
        x: array `(n, ...)`.
        y: array `(n,)` or `(n, 1)` of integer class ids. They are passed on unchanged.
        classes_per_batch: int > 0, at most the number of classes.
        samples_per_class: int > 0.
        steps_per_epoch: int > 0. By default `n // batch`, and at least 1.
        seed: int >= 0, or None for a new one each time.
        **kwargs: `workers`, `use_multiprocessing`, `max_queue_size` of `keras.utils.PyDataset`.

    Item `b`: `(x, y)` with `classes_per_batch * samples_per_class` rows, class after class.

    Raises:
        ValueError: shapes do not fit, labels are not integers, or a number is out of its range.
        IndexError: there is no batch `b`.

    Example:
    >>> sampler = keras_zoo.samplers.ClassBalancedSampler(x, y, 16, 5, seed=0)
    >>> model.fit(sampler, epochs=10)

    Reference: arXiv:1904.06627, section 5. The official sampler walks through shuffled images of
    each class and repeats them where a class is small.
    """

    def __init__(
        self,
        x,
        y,
        classes_per_batch,
        samples_per_class,
        steps_per_epoch=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        x, y = np.asarray(x), np.asarray(y)
        labels = check_labels("y", y)
        if x.ndim < 1 or len(x) != len(labels):
            raise ValueError(
                "`x` and `y` must have the same number of rows. "
                f"Received: shapes {x.shape} and {y.shape}"
            )
        classes_per_batch = check_count("classes_per_batch", classes_per_batch)
        samples_per_class = check_count("samples_per_class", samples_per_class)
        classes, starts = np.unique(np.sort(labels), return_index=True)
        if classes_per_batch > len(classes):
            raise ValueError(
                f"`classes_per_batch` must be at most the number of classes, {len(classes)}. "
                f"Received: classes_per_batch={classes_per_batch}"
            )
        batch = classes_per_batch * samples_per_class
        if steps_per_epoch is None:
            steps_per_epoch = max(1, len(labels) // batch)
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        seed = check_count("seed", seed, least=0)
        self.x, self.y = x, y
        self.classes_per_batch = classes_per_batch
        self.samples_per_class = samples_per_class
        self.steps_per_epoch = check_count("steps_per_epoch", steps_per_epoch)
        self.seed = int(seed)
        self.epoch = 0
        self._begun, self._drawn = False, 0
        # The rows of each class.
        self._members = np.split(np.argsort(labels, kind="stable"), starts[1:])

    def __len__(self):
        """Batches of an epoch."""
        return self.steps_per_epoch

    def __getitem__(self, index):
        """Batch `index` of the current epoch."""
        if not 0 <= index < self.steps_per_epoch:
            raise IndexError(f"There are {self.steps_per_epoch} batches. Received: index={index}")
        self._drawn += 1
        draw = np.random.default_rng([self.seed, self.epoch, index])
        classes = draw.choice(len(self._members), self.classes_per_batch, replace=False)
        rows = []
        for members in (self._members[c] for c in classes):
            too_few = len(members) < self.samples_per_class
            rows.append(draw.choice(members, self.samples_per_class, replace=too_few))
        rows = np.concatenate(rows)
        return self.x[rows], self.y[rows]

    def on_epoch_begin(self):
        """Starts to count what the epoch draws."""
        self._begun, self._drawn = True, 0

    def on_epoch_end(self):
        """Moves on to the next epoch's draws, unless Keras merely looked at a batch."""
        looked = not self._begun or (self._drawn == 1 and self.steps_per_epoch > 1)
        self.epoch += not looked
        self._begun = False
