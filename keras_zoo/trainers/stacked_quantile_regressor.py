"""Stacking of models that predict quantiles (Fakoor et al., 2023)."""

import contextlib
import copy
import random
import warnings

import keras
import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count, check_flag, check_number
from keras_zoo.layers.quantile_aggregation import RESOLUTIONS, QuantileAggregation
from keras_zoo.losses import QuantileLoss
from keras_zoo.ops._quantiles import check_quantiles


@component(paper="quantile-aggregation")
class StackedQuantileRegressor:
    """Learns how to mix models by what they predict for examples that they were not fitted on.

    With `M` base models, each of which predicts `Q` quantiles:

        folds    `n_splits` parts of the n rows
        z[fold]  what copies of the models predict that were fitted on all other folds    (n, M, Q)
        model_   QuantileAggregation, trained on z (and X, if local) to predict y
        predict  model_ of what copies predict that were fitted on all rows, sorted

    Args:
        base_models: objects with `fit(X, y)` and `predict(X)`, which gives `(n, Q)`; of any
            library, one of a kind or mixed. They are copied, and themselves left as they are:
            scikit-learn's by its `clone`, others by `copy.deepcopy`, weights included. A
            `keras.Model` must be compiled and not yet trained; its copies are trained for `epochs`
            in batches of `batch_size`. Wrap it in an object of your own to train it in another way.
        quantiles: floats in (0, 1), increasing: the levels.
        resolution: "coarse", "medium" or "fine"; see `keras_zoo.layers.QuantileAggregation`.
        local: bool. Whether the weights depend on `X`, which then must be `(n, F)`, of
            finite numbers. It is standardized for them.
        n_splits: int >= 2.
        shuffle: bool. Whether rows are dealt out to the folds at random; else folds are contiguous,
            the first `n mod n_splits` one row longer.
        seed: int >= 0, or None for another one each time. Of the folds, the first weights and the
            batches; the base models have their own.
        epochs: int.
        batch_size: int.
        learning_rate: float > 0. Adam (amsgrad) trains the aggregation.
        crossing_weight: float >= 0; see `keras_zoo.losses.QuantileLoss`, as for the next one.
        crossing_margin: float >= 0, or `Q` floats.
        aggregation_kwargs: None, or a dict of other arguments of the layer. Without `monotone`
            there it is "sort".
        loss: None for the `QuantileLoss`, or another loss of `y` and the `Q` quantiles.

    Attributes, after `fit`:
        oof_predictions_: float64 `(n, M, Q)`, the `z` above, in the order of the rows.
        fitted_models_: list of the `M` copies that were fitted on all rows.
        model_: `keras.Model` of `(n, M, Q)`, or of `[(n, M, Q), (n, F)]` if local.

    `fit(X, y)` takes arrays of `n >= n_splits` rows, `y` `(n,)` or `(n, 1)`, and returns the
    regressor; `predict(X)` gives float32 `(n, Q)`, ascending. Every base model is fitted
    `n_splits + 1` times.

    Raises:
        ValueError: an argument is out of its range; a base model has no `fit` and `predict`, does
            not predict `(n, Q)` finite numbers, or is a Keras model that is not compiled or has
            been trained; arrays do not fit together; `predict` comes before `fit`.

    Example:
    >>> class Residuals:
    ...     def __init__(self, model):
    ...         self.model = model
    ...     def fit(self, X, y):
    ...         self.model.fit(X, y)
    ...         self.offsets = np.quantile(y - self.model.predict(X), [0.1, 0.5, 0.9])
    ...     def predict(self, X):
    ...         return self.model.predict(X)[:, None] + self.offsets
    >>> models = [Residuals(Ridge()), Residuals(KNeighborsRegressor())]
    >>> stack = keras_zoo.trainers.StackedQuantileRegressor(models, [0.1, 0.5, 0.9], epochs=20)
    >>> stack.fit(X, y).predict(X).shape
    (442, 3)

    Reference: arXiv:2103.00083, section 3; github.com/amazon-research/quantile-aggregation, which
    draws settings at random and stops early, where these are fixed.
    """

    def __init__(
        self,
        base_models,
        quantiles,
        resolution="medium",
        local=False,
        n_splits=5,
        shuffle=True,
        seed=0,
        epochs=200,
        batch_size=64,
        learning_rate=1e-2,
        crossing_weight=0.0,
        crossing_margin=0.0,
        aggregation_kwargs=None,
        loss=None,
    ):
        self.base_models = _checked_models(base_models)
        self.quantiles = check_quantiles(quantiles)
        self.resolution = check_choice("resolution", resolution, RESOLUTIONS)
        self.local = check_flag("local", local)
        self.n_splits = check_count("n_splits", n_splits)
        if n_splits < 2:
            raise ValueError(f"`n_splits` must be at least 2. Received: n_splits={n_splits}")
        self.shuffle = check_flag("shuffle", shuffle)
        self.seed = None if seed is None else check_count("seed", seed, least=0)
        self.epochs = check_count("epochs", epochs)
        self.batch_size = check_count("batch_size", batch_size)
        self.learning_rate = check_number("learning_rate", learning_rate, positive=True)
        # It checks the two arguments.
        own_loss = QuantileLoss(
            quantiles, crossing_weight=crossing_weight, crossing_margin=crossing_margin
        )
        self.crossing_weight = crossing_weight
        self.crossing_margin = crossing_margin
        if aggregation_kwargs is not None and not isinstance(aggregation_kwargs, dict):
            raise ValueError(
                "`aggregation_kwargs` must be None or a dict. "
                f"Received: aggregation_kwargs={aggregation_kwargs!r}"
            )
        self.aggregation_kwargs = {"monotone": "sort", **(aggregation_kwargs or {})}
        QuantileAggregation(resolution, local, **self.aggregation_kwargs)  # It checks them.
        if loss is not None and crossing_weight:
            raise ValueError(
                "`crossing_weight` must be 0 where another `loss` is given. "
                f"Received: crossing_weight={crossing_weight}, loss={loss!r}"
            )
        self.loss = loss
        self._loss = own_loss if loss is None else loss

    def fit(self, X, y):
        """Fits copies of the base models, and the weights that mix them."""
        X, y = self._checked_data(X, y)
        rng = np.random.default_rng(self.seed)
        count = len(y), len(self.base_models), len(self.quantiles)
        oof_predictions = np.empty(count)
        for held_out in self._folds(len(y), rng):
            rest = np.setdiff1d(np.arange(len(y)), held_out)
            fitted = [self._fitted(model, X[rest], y[rest], rng) for model in self.base_models]
            oof_predictions[held_out] = self._predictions(fitted, X[held_out])
        self.oof_predictions_ = oof_predictions
        self.fitted_models_ = [self._fitted(model, X, y, rng) for model in self.base_models]
        with seeded(int(rng.integers(2**31))):
            self.model_ = self._aggregator(X)
        self._train(self.model_, self._inputs(oof_predictions, X), y, rng)
        return self

    def predict(self, X):
        """The mixture of what the models predict that were fitted on all rows, in order."""
        if not hasattr(self, "model_"):
            raise ValueError(
                "`predict` must come after `fit`. Received: a regressor that is not fitted"
            )
        X = np.asarray(X)
        inputs = self._inputs(self._predictions(self.fitted_models_, X), X)
        return np.sort(self.model_.predict(inputs, batch_size=1024, verbose=0), axis=1)

    def _checked_data(self, X, y):
        """Arrays of as many rows; `y` float64 `(n,)`."""
        X, y = np.asarray(X), np.asarray(y, "float64")
        is_vector = y.ndim == 1 or y.shape[1:] == (1,)
        if X.ndim < 1 or not is_vector or len(X) != len(y) or not np.isfinite(y).all():
            raise ValueError(
                "`y` must hold one finite number for each row of `X`. "
                f"Received: X of shape {X.shape}, y of shape {y.shape}"
            )
        numbers = X.ndim == 2 and X.dtype.kind in "biuf" and np.isfinite(X).all()
        if self.local and not numbers:
            raise ValueError(
                "`X` must be `(n, F)`, of finite numbers, for local=True. "
                f"Received: X of shape {X.shape} and dtype {X.dtype}"
            )
        if len(y) < self.n_splits:
            raise ValueError(
                f"`X` must have at least n_splits={self.n_splits} rows. "
                f"Received: X of shape {X.shape}"
            )
        return X, y.reshape(-1)

    def _folds(self, n, rng):
        """Indices of the rows of each fold."""
        order = rng.permutation(n) if self.shuffle else np.arange(n)
        return np.array_split(order, self.n_splits)

    def _fitted(self, model, X, y, rng):
        """A copy of a base model, fitted."""
        with seeded(int(rng.integers(2**31))):
            model = _copied(model)
        if isinstance(model, keras.Model):
            self._train(model, X, y, rng)
        else:
            model.fit(X, y)
        return model

    def _predictions(self, models, X):
        """What each of the models predicts, `(n, M, Q)`."""
        found = []
        for model in models:
            is_keras = isinstance(model, keras.Model)
            z = np.asarray(model.predict(X, verbose=0) if is_keras else model.predict(X))
            if z.shape != (len(X), len(self.quantiles)) or not np.isfinite(z).all():
                raise ValueError(
                    f"`base_models` must predict {(len(X), len(self.quantiles))} finite numbers. "
                    f"Received: predictions of shape {z.shape} of {type(model).__name__}"
                )
            found.append(z)
        return np.stack(found, axis=1)

    def _inputs(self, predictions, X):
        """What `model_` takes."""
        predictions = predictions.astype("float32")
        return (predictions, X.astype("float32")) if self.local else predictions

    def _aggregator(self, X):
        """The aggregation as a compiled model."""
        predictions = keras.Input((len(self.base_models), len(self.quantiles)), name="predictions")
        layer = QuantileAggregation(self.resolution, self.local, **self.aggregation_kwargs)
        if self.local:
            features = keras.Input(X.shape[1:], name="features")
            variance = X.var(axis=0)
            variance = np.where(variance > 0, variance, 1.0)  # A constant says nothing.
            scaler = keras.layers.Normalization(
                mean=X.mean(axis=0), variance=variance, name="scaler"
            )
            inputs = [predictions, features]
            model = keras.Model(inputs, layer([predictions, scaler(features)]))
        else:
            model = keras.Model(predictions, layer(predictions))
        model.compile(keras.optimizers.Adam(self.learning_rate, amsgrad=True), self._loss)
        return model

    def _train(self, model, inputs, y, rng):
        """Trains a compiled Keras model, in batches that `rng` draws."""
        batches = ShuffledBatches(inputs, y, self.batch_size, rng)
        # Keras would shuffle the batches once more, by Python's generator.
        model.fit(batches, epochs=self.epochs, shuffle=False, verbose=0)


class ShuffledBatches(keras.utils.PyDataset):
    """Batches in an order of its own for every epoch, whatever the backend draws.

    Args:
        inputs: array of `n` rows, or a tuple of such.
        y: array of as many.
        batch_size: int.
        rng: `np.random.Generator`.
    """

    def __init__(self, inputs, y, batch_size, rng):
        super().__init__()
        self.inputs, self.y, self.batch_size, self.rng = inputs, y, batch_size, rng
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.y) // self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return keras.tree.map_structure(lambda array: array[rows], self.inputs), self.y[rows]

    def on_epoch_end(self):
        """Draws the next order."""
        self.order = self.rng.permutation(len(self.y))


@contextlib.contextmanager
def seeded(seed):
    """Layers made inside start from `seed`; the draws of others go on as if nothing had been.

    Keras seeds what has no seed of its own from Python's `random`.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _copied(model):
    """A copy that is as far as the model was when it was given."""
    if not isinstance(model, keras.Model) and hasattr(model, "get_params"):
        with contextlib.suppress(ImportError):
            from sklearn.base import clone

            return clone(model)
    with warnings.catch_warnings():
        # The copy of an untrained Keras model has an optimizer that is built; the model's is not.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        return copy.deepcopy(model)


def _checked_models(base_models):
    """The base models as a list, if they can be fitted and predict."""
    models = list(base_models) if isinstance(base_models, (list, tuple)) else []
    able = [all(callable(getattr(m, f, None)) for f in ("fit", "predict")) for m in models]
    if not models or not all(able):
        raise ValueError(
            "`base_models` must be a list of objects with `fit` and `predict`, at least one. "
            f"Received: base_models={base_models!r}"
        )
    for model in models:
        is_keras = isinstance(model, keras.Model)
        if is_keras and (not model.compiled or int(model.optimizer.iterations) > 0):
            raise ValueError(
                "`base_models` must hold Keras models that are compiled and not yet trained, or "
                f"they would know the rows of every fold. Received: model {model.name!r}"
            )
    return models
