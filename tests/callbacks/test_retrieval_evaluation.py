import keras
import numpy as np
import pytest

from keras_zoo.callbacks import RetrievalEvaluation
from keras_zoo.losses import MultiSimilarityLoss
from keras_zoo.metrics import recall_at_k

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 5)).astype("float32"), np.arange(24) % 4


def compiled():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.5), loss=MultiSimilarityLoss())
    return model


def test_logs_are_the_recalls_of_each_epoch(tmp_path):
    seen = []

    class Own(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            embeddings = self.model.predict(X, verbose=0)
            seen.append(recall_at_k(embeddings, Y, k=[1, 4]))
            assert logs["val_recall_at_4"] == pytest.approx(seen[-1][1])

    path = str(tmp_path / "best.keras")
    callbacks = [
        RetrievalEvaluation(X, Y, k=(1, 4), batch_size=7),
        Own(),
        keras.callbacks.ModelCheckpoint(
            path, monitor="val_recall_at_1", mode="max", save_best_only=True
        ),
    ]
    model = compiled()
    history = model.fit(X, Y, batch_size=12, epochs=3, callbacks=callbacks, verbose=0).history
    np.testing.assert_allclose(history["val_recall_at_1"], [s[0] for s in seen])
    best = keras.models.load_model(path)
    assert recall_at_k(best.predict(X, verbose=0), Y) == pytest.approx(max(s[0] for s in seen))


def test_training_is_the_same_without_it():
    plain, watched = compiled(), compiled()
    arguments = {"batch_size": 12, "epochs": 2, "verbose": 0, "shuffle": False}
    plain.fit(X, Y, **arguments)
    watched.fit(X, Y, callbacks=[RetrievalEvaluation(X, Y)], **arguments)
    for a, b in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_early_stopping_after_it():
    """Constant recall: two epochs without progress end training."""
    same = np.ones_like(X)
    stop = keras.callbacks.EarlyStopping("r_recall_at_2", mode="max", patience=2)
    watch = RetrievalEvaluation(same, Y, k=2, prefix="r_")
    history = compiled().fit(X, Y, epochs=9, callbacks=[watch, stop], verbose=0).history
    assert len(history["r_recall_at_2"]) == 3


def test_outside_of_fit():
    watch = RetrievalEvaluation(X, Y, k=1, normalize=False)
    watch.set_model(compiled())
    logs = {}
    watch.on_epoch_end(0, logs)
    watch.on_epoch_end(0)
    expected = recall_at_k(watch.model.predict(X, verbose=0), Y, normalize=False)
    assert logs == {"val_recall_at_1": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"y": Y[:3]}, "`x` and `y`"),
        ({"y": Y + 0.5}, "`y` must hold integer"),
        ({"k": 0}, "`k` must"),
        ({"batch_size": 0}, "`batch_size` must"),
        ({"prefix": None}, "`prefix` must"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        RetrievalEvaluation(**{"x": X, "y": Y, **kwargs})


def test_a_model_without_embeddings():
    watch = RetrievalEvaluation(X, Y)
    watch.set_model(keras.Sequential([keras.Input((5,)), keras.layers.Reshape((5, 1))]))
    with pytest.raises(ValueError, match=r"one array of embeddings.*Received: "):
        watch.on_epoch_end(0, {})
