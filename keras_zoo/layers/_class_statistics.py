"""Counts, means and variances of classes, folded together batch by batch in float64."""

import dataclasses

import numpy as np

# Numbers that are in float64 at a time: 32 MiB.
BLOCK = 2**22


@dataclasses.dataclass(frozen=True)
class ClassStatistics:
    """What is known of each class: that of a class without rows is 0.

    Attributes:
        count: `(K,)`, rows of each class, or the sum of their weights.
        mean: `(K, n)`.
        variance: `(K, n)`, divided by the count, not by one less.
    """

    count: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @property
    def parts(self):
        """The three arrays, in the order above."""
        return self.count, self.mean, self.variance

    @classmethod
    def empty(cls, num_classes, num_features):
        """Nothing is known yet."""
        shape = (num_classes, num_features)
        return cls(np.zeros(num_classes), np.zeros(shape), np.zeros(shape))

    @classmethod
    def of(cls, features, labels, weights, num_classes):
        """Those of rows `(N, n)` in float64, with labels `(N,)` and positive weights `(N,)`."""
        known = cls.empty(num_classes, features.shape[1])
        if not len(features):
            return known
        order = np.argsort(labels, kind="stable")
        labels, x, w = labels[order], features[order], weights[order]
        present, start, rows = np.unique(labels, return_index=True, return_counts=True)
        count = np.add.reduceat(w, start)

        def average(values):
            return np.add.reduceat(w[:, None] * values, start, axis=0) / count[:, None]

        # Sums of differences: a large offset of a feature costs no digits.
        mean = x[0] + average(x - x[0])
        known.count[present] = count
        known.mean[present] = mean
        known.variance[present] = average(np.square(x - np.repeat(mean, rows, axis=0)))
        return known

    def merged(self, other):
        """Those of the rows of both."""
        count = self.count + other.count
        share = np.divide(other.count, count, out=np.zeros_like(count), where=count > 0)[:, None]
        step = other.mean - self.mean
        variance = (1 - share) * (self.variance + share * np.square(step)) + share * other.variance
        return ClassStatistics(count, self.mean + share * step, variance)

    def with_rows(self, features, labels, weights):
        """Those with more rows `(N, n)` of any real dtype; a weight may be 0.

        Raises:
            ValueError: a feature is not finite.
        """
        found, rows = self, max(1, BLOCK // max(1, features.shape[1]))
        for start in range(0, len(features), rows):
            here = slice(start, start + rows)
            block = features[here].astype("float64")
            finite = np.isfinite(block).all(axis=1)
            if not finite.all():
                raise ValueError(
                    "`features` must be finite. "
                    f"Received: NaN or infinity in row {start + np.argmin(finite)}"
                )
            kept = weights[here] > 0
            batch = (part[kept] for part in (block, labels[here], weights[here]))
            found = found.merged(self.of(*batch, len(self.count)))
        return found
