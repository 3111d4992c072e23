import keras
import numpy as np
import pytest
from keras import ops

keras_hub = pytest.importorskip("keras_hub")
from keras_zoo.losses import HybridMultiLabelLoss  # noqa: E402
from keras_zoo.metrics import HammingLoss, JaccardAccuracy  # noqa: E402
from keras_zoo.models import (  # noqa: E402
    StackedEmbeddingBackbone,
    StackedEmbeddingClassifier,
)
from tests.harness import assert_close, to_numpy  # noqa: E402

RNG = np.random.default_rng(0)
N, T, DIMS, C = 6, 4, (2, 3), 3
LENGTHS = np.array([4, 1, 2, 0, 3, 4])
X = {f"embedding_{k}": RNG.normal(size=(N, T, d)).astype("float32") for k, d in enumerate(DIMS)}
X["padding_mask"] = np.arange(T) < LENGTHS[:, None]
Y = (RNG.random((N, C)) < 0.5).astype("float32")


def classifier(**kwargs):
    keras.utils.set_random_seed(0)
    backbone = StackedEmbeddingBackbone(DIMS, 3, 2)
    return StackedEmbeddingClassifier(backbone, C, 4, **kwargs)


@pytest.fixture(scope="module")
def model():
    made = classifier(return_embedding=True)
    for weight in made.weights:
        weight.assign(RNG.normal(0, 0.7, weight.shape).astype("float32"))
    return made


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive(weights):
    """Token after token, in float64; only tokens are looked at."""
    w = [to_numpy(weight).astype("float64") for weight in weights]
    outputs = []
    for i, length in enumerate(LENGTHS):
        tokens = []
        for t in range(length):
            stack = np.concatenate([X[f"embedding_{k}"][i, t] for k in range(2)])
            tokens.append(np.concatenate([stack, np.maximum(stack @ w[0] + w[1], 0)]))
        if not tokens:
            tokens = [np.concatenate([np.zeros(5), np.maximum(w[1], 0)])]
        states = []
        for direction, (kernel, recurrent, bias) in ((1, w[2:5]), (-1, w[5:8])):
            h, c = np.zeros(2), np.zeros(2)
            for x in tokens[::direction]:
                gates = x @ kernel + h @ recurrent + bias
                enter, forget, new, leave = gates.reshape(4, 2)
                c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(new)
                h = sigmoid(leave) * np.tanh(c)
            states.append(h)
        f = np.maximum(np.concatenate(states) @ w[8] + w[9], 0)
        outputs.append(np.concatenate([f @ w[10] + w[11], f]))
    return np.array(outputs)


def test_the_network(model):
    assert_close(model(X), naive(model.weights), 1e-4, 1e-5)
    assert model.output_shape == (None, C + 4)
    logits = StackedEmbeddingClassifier(model.backbone, C, 4, compile=False)
    logits.set_weights(model.get_weights())
    assert_close(logits(X), naive(model.weights)[:, :C], 1e-4, 1e-5)


def test_what_stands_in_padding_does_not_matter(model):
    changed, hidden = dict(X), ~X["padding_mask"][:, :, None]
    for k in range(2):
        changed[f"embedding_{k}"] = np.where(hidden, np.nan, X[f"embedding_{k}"])
    assert_close(model(changed), to_numpy(model(X)))


def test_longer_padding_changes_nothing(model):
    longer = {
        name: np.concatenate([x, np.zeros((N, 2, *x.shape[2:]), x.dtype)], axis=1)
        for name, x in X.items()
    }
    assert_close(model(longer), to_numpy(model(X)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(model, policy):
    backbone = StackedEmbeddingBackbone(DIMS, 3, 2, dtype=policy)
    mixed = StackedEmbeddingClassifier(backbone, C, 4, return_embedding=True)
    mixed.set_weights(model.get_weights())
    output = mixed(X)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert keras.backend.standardize_dtype(backbone(X).dtype) == policy.removeprefix("mixed_")
    assert_close(output, to_numpy(model(X)), 0, 0.05)


def test_default_sizes():
    backbone = StackedEmbeddingBackbone()
    assert backbone.output_shape == (None, 256)
    assert backbone.get_layer("stack").output.shape[-1] == 3 * 768 + 256
    assert backbone.get_layer("dropout").rate == 0.3
    task = StackedEmbeddingClassifier(backbone, 11)
    assert [task.get_layer(n).units for n in ("features", "logits")] == [128, 11]
    assert task.get_layer("head_dropout").rate == 0.3
    assert isinstance(task.optimizer, keras.optimizers.Adam)
    assert type(task.loss) is HybridMultiLabelLoss
    assert task.loss.num_labels == 11
    kinds = {type(m) for m in task._compile_metrics._user_metrics}
    assert kinds == {JaccardAccuracy, HammingLoss}


def test_learns_and_is_a_preset(tmp_path):
    """Which of three words a text holds."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 6, (48, T))
    y = np.stack([(ids == word).any(axis=1) for word in range(C)], axis=1)
    tables = [rng.normal(size=(6, d)).astype("float32") for d in DIMS]
    x = {f"embedding_{k}": table[ids] for k, table in enumerate(tables)}
    x["padding_mask"] = np.ones(ids.shape, bool)
    keras.utils.set_random_seed(0)
    backbone = StackedEmbeddingBackbone(DIMS, 8, 8, dropout=0.0)
    task = StackedEmbeddingClassifier(backbone, C, 8, dropout=0.0, return_embedding=True)
    task.compile(keras.optimizers.Adam(0.03), HybridMultiLabelLoss.from_labels(y))
    history = task.fit(x, y, batch_size=48, epochs=25, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 1.5
    assert history["jaccard_accuracy"][-1] > 0.7
    task.save_to_preset(tmp_path / "preset")
    again = StackedEmbeddingClassifier.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(to_numpy(again(x)), to_numpy(task(x)))
    assert again.get_config() == task.get_config()
    found = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    assert type(found) is StackedEmbeddingBackbone
    task.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(again(x)), to_numpy(task(x)))
    # With the state of its optimizer: both go on alike.
    for going in (task, again):
        going.fit(x, y, batch_size=48, verbose=0)
    np.testing.assert_array_equal(to_numpy(again(x)), to_numpy(task(x)))


def test_encoders_that_learn_along(model):
    """A keras-hub backbone and another encoder, of one tokenizer, in front of the classifier."""
    ids = keras.Input((T,), dtype="int32", name="token_ids")
    mask = keras.Input((T,), dtype="bool", name="padding_mask")
    bert = keras_hub.models.BertBackbone(
        7, num_layers=1, num_heads=1, hidden_dim=3, intermediate_dim=3, max_sequence_length=T
    )
    inputs = {"token_ids": ids, "padding_mask": mask}
    embeddings = {
        "embedding_0": keras.layers.Embedding(7, 2, name="other")(ids),
        "embedding_1": bert({**inputs, "segment_ids": ops.zeros_like(ids)})["sequence_output"],
    }
    whole = keras.Model(inputs, model({**embeddings, "padding_mask": mask}))
    whole.compile(keras.optimizers.SGD(0.1), HybridMultiLabelLoss(C))
    before = [to_numpy(w).copy() for w in whole.trainable_weights]
    x = {"token_ids": RNG.integers(0, 7, (N, T)), "padding_mask": X["padding_mask"]}
    whole.fit(x, Y, batch_size=N, verbose=0)
    moved = " ".join(
        w.path
        for w, old in zip(whole.trainable_weights, before, strict=True)
        if np.abs(to_numpy(w) - old).max() > 1e-6
    )
    assert all(part in moved for part in ("token_embedding", "other", "bilstm", "logits"))


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"embedding_dims": ()}, "embedding_dims"),
        ({"embedding_dims": 8}, "embedding_dims"),
        ({"embedding_dims": (3, 0)}, "embedding_dims"),
        ({"meta_units": 0}, "meta_units"),
        ({"lstm_units": None}, "lstm_units"),
        ({"dropout": 1}, "dropout"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
        StackedEmbeddingBackbone(**kwargs)


@pytest.mark.parametrize(
    "kwargs",
    [{"num_labels": 0}, {"dense_units": 0}, {"dropout": -1}, {"return_embedding": 1}],
)
def test_bad_arguments_of_the_classifier(model, kwargs):
    with pytest.raises(ValueError, match=rf"`{next(iter(kwargs))}` must .*Received: "):
        StackedEmbeddingClassifier(model.backbone, **{"num_labels": 2, **kwargs})
    with pytest.raises(ValueError, match=r"`backbone` must .*Received: "):
        StackedEmbeddingClassifier(keras.Sequential(), 2)


@pytest.mark.parametrize(
    "x",
    [
        X["embedding_0"],
        {"embedding_0": X["embedding_0"], "padding_mask": X["padding_mask"]},
        {**X, "embedding_1": X["embedding_0"]},
        {**X, "embedding_1": X["embedding_1"][:, :2]},
    ],
    ids=["array", "missing", "width", "length"],
)
def test_bad_inputs_leave_the_model_usable(model, x):
    expected = to_numpy(model(X))
    with pytest.raises(ValueError, match=r"`x` must be a dict .*Received: "):
        model.preprocess_samples(x, Y)
    with pytest.raises(ValueError, match=r"`x` must be a dict .*Received: "):
        model.fit(x, Y, verbose=0)
    np.testing.assert_array_equal(to_numpy(model(X)), expected)
