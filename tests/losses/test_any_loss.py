import keras
import numpy as np
import pytest
from keras import ops
from sklearn import metrics

from keras_zoo.losses import AnyLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy

NAMES = (
    *("accuracy", "f1", "f_beta", "geometric_mean", "balanced_accuracy", "precision", "recall"),
    *("specificity", "jaccard", "matthews"),
)
RNG = np.random.default_rng(0)
P = RNG.uniform(0.35, 0.65, 9)
Y = np.array([1, 0, 0, 1, 0, 0, 1, 0, 1])
W = RNG.uniform(0.2, 2.0, 9)


@keras.saving.register_keras_serializable(package="tests")
def markedness(tp, fp, fn, tn):
    return tp / (tp + fp) + tn / (tn + fn) - 1.0


def ratio(a, b):
    return a / b if b != 0 else 0.0


def naive(labels, probabilities, weights, metric, beta=1.0, amplification=73.0, threshold=0.5):
    """By plain loops, in float64."""
    tp = fp = fn = tn = 0.0
    for y, p, w in zip(labels, probabilities, weights, strict=True):
        a = 1 / (1 + np.exp(-amplification * (p - threshold)))
        tp, fp = tp + w * y * a, fp + w * (1 - y) * a
        fn, tn = fn + w * y * (1 - a), tn + w * (1 - y) * (1 - a)
    tpr, tnr = ratio(tp, tp + fn), ratio(tn, tn + fp)
    b = 1.0 if metric == "f1" else beta**2
    f = ratio((1 + b) * tp, (1 + b) * tp + b * fn + fp)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (
        1
        - {
            "accuracy": ratio(tp + tn, tp + fp + fn + tn),
            "f1": f,
            "f_beta": f,
            "geometric_mean": np.sqrt(tpr * tnr),
            "balanced_accuracy": (tpr + tnr) / 2,
            "precision": ratio(tp, tp + fp),
            "recall": tpr,
            "specificity": tnr,
            "jaccard": ratio(tp, tp + fp + fn),
            "matthews": ratio(tp * tn - fp * fn, np.sqrt(product)),
        }[metric]
    )


@pytest.mark.parametrize("name", ["default", "imbalanced_L30_beta2", "wide_beta05"])
@pytest.mark.parametrize("metric", ["accuracy", "f_beta", "geometric_mean", "balanced_accuracy"])
def test_matches_the_official_code(name, metric):
    g = golden("anyloss", name)
    loss = AnyLoss(metric, float(g["beta"]), float(g["amplification"]))
    p = g["y_pred"].astype("float32")
    value, grad = gradient(lambda p: loss(g["y_true"], p), p)
    assert_close(value, g[f"loss_{metric}"])
    assert_close(grad, g[f"grad_{metric}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", NAMES)
@pytest.mark.parametrize("weights", [np.ones(9), W])
def test_matches_plain_loops(metric, weights):
    arguments = metric, 2.0, 30.0, 0.45
    loss, p = AnyLoss(*arguments), P.astype("float32")
    value, grad = gradient(lambda p: loss(Y, p, sample_weight=weights), p)
    assert_close(value, naive(Y, P, weights, *arguments))
    expected = numeric_gradient(lambda p: naive(Y, p, weights, *arguments), P)
    assert_close(grad, expected, rtol=1e-4, atol=1e-5)


def test_the_worked_example():
    for metric in ("accuracy", "f1", "geometric_mean", "balanced_accuracy"):
        assert_close(AnyLoss(metric)([1, 1, 0, 0], [0.53, 0.49, 0.47, 0.51]), 0.387729)


def test_is_the_metric_where_probabilities_are_clear():
    rng = np.random.default_rng(1)
    labels = rng.random(40) < 0.3
    p = np.where(rng.random(40) < 0.8, labels, ~labels) * 1.0
    expected = {
        "accuracy": metrics.accuracy_score(labels, p),
        "f1": metrics.f1_score(labels, p),
        "f_beta": metrics.fbeta_score(labels, p, beta=2.0),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, p),
        "precision": metrics.precision_score(labels, p),
        "recall": metrics.recall_score(labels, p),
        "specificity": metrics.recall_score(~labels, 1 - p),
        "jaccard": metrics.jaccard_score(labels, p),
        "matthews": metrics.matthews_corrcoef(labels, p),
    }
    for metric, score in expected.items():
        assert_close(AnyLoss(metric, beta=2.0)(labels, p.astype("float32")), 1 - score)


def test_shapes_and_kinds_of_labels():
    p = P.astype("float32")
    expected = naive(Y, P, np.ones(9), "f1")
    for y_true in (Y, Y[:, None], Y == 1, Y.astype("float64")):
        for y_pred in (p, p[:, None]):
            assert_close(AnyLoss().call(y_true, y_pred), np.full(9, expected))
    soft = np.linspace(0, 1, 9)
    assert_close(AnyLoss()(soft, p), naive(soft, P, np.ones(9), "f1"))


def test_logits():
    logits = np.array([-0.2, 0.1, 0.3, -0.05], "float32")
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    expected = naive(Y[:4], p, np.ones(4), "matthews", threshold=0.55)
    assert_close(AnyLoss("matthews", threshold=0.55, from_logits=True)(Y[:4], logits), expected)


def test_reductions():
    p = P.astype("float32")
    one = naive(Y, P, W, "f1")
    for reduction, expected in (
        ("sum_over_batch_size", one),
        ("mean", one),
        ("mean_with_sample_weight", one),
        ("sum", 9 * one),
        ("none", np.full(9, one)),
        (None, np.full(9, one)),
    ):
        assert_close(AnyLoss(reduction=reduction)(Y, p, sample_weight=W), expected)


@pytest.mark.parametrize("metric", NAMES)
def test_integer_weights_are_repetitions(metric):
    counts = np.array([1, 3, 0, 2, 1, 1, 4, 0, 2])
    p, loss = P.astype("float32"), AnyLoss(metric)
    repeated = loss(np.repeat(Y, counts), np.repeat(p, counts))
    assert_close(loss(Y, p, sample_weight=counts), repeated)
    assert_close(loss(Y, p[:, None], sample_weight=counts[:, None]), repeated)
    assert_close(loss.call(Y, p, counts), np.full(9, float(repeated)))


# Several labels

Y_MANY = np.stack([Y, 1 - Y, np.zeros_like(Y)], axis=1)
P_MANY = np.stack([P, P[::-1], np.roll(P, 2)], axis=1)


@pytest.mark.parametrize("metric", ["f1", "geometric_mean", "matthews", markedness])
@pytest.mark.parametrize("weights", ["none", "rows", "entries"])
def test_one_against_the_rest(metric, weights):
    w = {"none": None, "rows": W, "entries": W[:, None] * np.array([1.0, 0.5, 3.0])}[weights]
    p = P_MANY.astype("float32")
    columns = [
        float(AnyLoss(metric)(Y_MANY[:, c], p[:, c], w[:, c] if weights == "entries" else w))
        for c in range(3)
    ]
    assert_close(AnyLoss(metric).call(Y_MANY, p, w), np.full(9, np.mean(columns)))


# A metric of the user's


def test_a_function_of_the_matrix(tmp_path):
    p = P.astype("float32")
    loss = AnyLoss(markedness)

    def expected(p):
        a = 1 / (1 + np.exp(-73 * (p - 0.5)))
        tp, fp, fn, tn = (np.sum(y * v) for v in (a, 1 - a) for y in (Y, 1 - Y))
        return 1 - markedness(tp, fp, fn, tn)

    value, grad = gradient(lambda p: loss(Y, p), p)
    assert_close(value, expected(P))
    assert_close(grad, numeric_gradient(expected, P), rtol=1e-4, atol=1e-5)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "sigmoid")])
    model.compile("sgd", loss=loss)
    model.fit(p[:, None], Y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.loss.metric is markedness
    assert again.evaluate(p[:, None], Y, verbose=0) == model.evaluate(p[:, None], Y, verbose=0)


def test_a_function_of_another_shape():
    with pytest.raises(ValueError, match=r"`metric` must give .*Received: shape \(\) for .*\(3,\)"):
        AnyLoss(lambda tp, fp, fn, tn: ops.sum(tp)).call(Y_MANY, P_MANY)


# Extremes


@pytest.mark.parametrize("metric", NAMES)
@pytest.mark.parametrize("label", [0, 1])
def test_batches_of_one_class(metric, label):
    p = P.astype("float32")
    labels = np.full(9, label)
    loss = AnyLoss(metric)
    value, grad = gradient(lambda p: loss(labels, p), p)
    assert_close(value, naive(labels, P, np.ones(9), metric))
    assert np.isfinite(grad).all()
    flat = {0: ("f1", "f_beta", "recall", "precision", "geometric_mean", "jaccard", "matthews")}
    flat[1] = ("specificity", "geometric_mean", "matthews")
    if metric in flat[label]:
        assert value == 1
        assert (grad == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("metric", NAMES)
@pytest.mark.parametrize("amplification", [73.0, 1e6])
def test_saturated_probabilities(metric, amplification):
    p = np.array([0, 1, 0, 1, 1e-30, 0.5], "float32")
    for labels in ([0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0]):
        loss = AnyLoss(metric, amplification=amplification)
        value, grad = gradient(lambda p, y=labels, loss=loss: loss(y, p), p)
        assert 0 <= value <= 2
        assert np.isfinite(grad).all()
        loss = AnyLoss(metric, amplification=amplification, from_logits=True)
        value, grad = gradient(lambda z, y=labels, loss=loss: loss(y, z), 1e4 * (p - 0.5))
        assert 0 <= value <= 2
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("metric", NAMES)
def test_nothing_to_count(metric):
    p = P.astype("float32")
    value, grad = gradient(lambda p: AnyLoss(metric)(Y, p, sample_weight=np.zeros(9)), p)
    assert value == 1
    assert (grad == 0).all()
    empty = AnyLoss(metric).call(np.zeros(0), np.zeros(0, "float32"))
    assert to_numpy(empty).shape == (0,)


@pytest.mark.parametrize("metric", NAMES)
def test_nan_stays_nan(metric):
    p, bad = P.astype("float32"), np.full(9, np.nan, "float32")
    loss = AnyLoss(metric)
    for losses in (loss.call(Y, bad), loss.call(bad, p), loss.call(Y, p, bad)):
        assert np.isnan(to_numpy(losses)).all()


def test_half_precision_rounds_the_result_alone():
    """At 73 a rounded probability would make another loss."""
    p = P.astype("float32")
    for dtype, precision in (("float16", 1e-3), ("bfloat16", 8e-3)):
        loss = AnyLoss(dtype=dtype)(Y, p)
        assert keras.backend.standardize_dtype(loss.dtype) == dtype
        assert_close(ops.cast(loss, "float32"), naive(Y, P, np.ones(9), "f1"), rtol=precision)


def test_what_a_mask_leaves_out():
    y_pred = ops.convert_to_tensor(P.astype("float32"))
    kept = np.arange(9) < 6
    y_pred._keras_mask = ops.convert_to_tensor(kept)
    assert_close(AnyLoss()(Y, y_pred), naive(Y[:6], P[:6], np.ones(6), "f1"))
    assert_close(AnyLoss()(Y, y_pred, sample_weight=W), naive(Y[:6], P[:6], W[:6], "f1"))


def test_learns_an_imbalanced_task():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32"), (y == 8).astype("float32")
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((64,)), layer])
    model.compile(keras.optimizers.SGD(0.02), AnyLoss("f1"))
    losses = model.fit(x, y, batch_size=300, epochs=25, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.2
    positive = model.predict(x, batch_size=300, verbose=0)[:, 0] > 0.5
    assert metrics.f1_score(y, positive) > 0.5


# Refusals


@pytest.mark.parametrize(
    "kwargs",
    [
        {"metric": "auc"},
        {"metric": None},
        {"beta": -1.0},
        {"beta": float("nan")},
        {"amplification": 0.0},
        {"threshold": 1.5},
        {"threshold": "half"},
        {"from_logits": "yes"},
    ],
)
def test_bad_arguments(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        AnyLoss(**kwargs)


@pytest.mark.parametrize(
    ("y_true", "y_pred"), [((3,), (4,)), ((3,), (3, 2)), ((3, 2, 1), (3, 2, 1)), ((3, 1), (3, 2))]
)
def test_bad_inputs(y_true, y_pred):
    with pytest.raises(ValueError, match=r"`y_pred` must be .*Received: y_true of shape"):
        AnyLoss()(np.zeros(y_true), np.zeros(y_pred, "float32"))


@pytest.mark.parametrize("shape", [(4,), (3, 3), (2, 3)])
def test_bad_weights(shape):
    with pytest.raises(ValueError, match=r"`sample_weight` must be .*Received: sample_weight of"):
        AnyLoss()(np.zeros((3, 2)), np.zeros((3, 2), "float32"), sample_weight=np.ones(shape))
