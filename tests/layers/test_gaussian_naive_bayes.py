"""The naive Bayes head against the official numbers and plain loops, in one go and in batches."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import GaussianNaiveBayes
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

SLUG = "discriminative-vs-generative"


def naive(features, labels, x, classes, shared=True, epsilon=1e-9, weights=None):
    """`count, mean, variance, joint` in plain loops; every class has a row."""
    weights = np.ones(len(labels)) if weights is None else weights
    n = features.shape[1]
    count, mean, variance = np.zeros(classes), np.zeros((classes, n)), np.zeros((classes, n))
    for row, k, w in zip(features, labels, weights, strict=True):
        count[k] += w
        mean[k] += w * row
    for k in range(classes):
        mean[k] /= count[k]
    for row, k, w in zip(features, labels, weights, strict=True):
        variance[k] += w * (row - mean[k]) ** 2 / count[k]
    pooled = np.zeros(n)
    for k in range(classes):
        pooled += count[k] / count.sum() * (variance[k] + epsilon)
    joint = np.zeros((len(x), classes))
    for i, row in enumerate(x):
        for k in range(classes):
            joint[i, k] = np.log(count[k] / count.sum())
            for j in range(n):
                sigma2 = pooled[j] if shared else variance[k, j] + epsilon
                joint[i, k] -= 0.5 * (row[j] - mean[k, j]) ** 2 / sigma2
                if not shared:
                    joint[i, k] -= 0.5 * np.log(sigma2)
    return count, mean, variance, joint


def data(rows=40, n=5, classes=3, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])
    centres = rng.normal(size=(classes, n))
    return centres[labels] + rng.uniform(0.3, 2, n) * rng.normal(size=(rows, n)) + offset, labels


def state(layer):
    return [to_numpy(w) for w in (layer.count, layer.mean, layer.variance)]


def posterior(logits):
    return to_numpy(ops.softmax(logits, axis=-1))


@pytest.mark.parametrize("name", ["three_classes", "two_batches"])
def test_matches_official_reference(name):
    g = golden(SLUG, name)
    layer = GaussianNaiveBayes(len(g["class_count"]), epsilon=float(g["epsilon"]))
    for key in sorted(key for key in g if key.startswith("split_")):
        assert layer.update(g["features"][g[key]], g["labels"][g[key]]) is layer
    count, mean, variance = state(layer)
    assert_close(count, g["class_count"].astype("float32"))
    assert_close(mean, g["class_mean"])
    assert_close(variance + g["epsilon"], g["class_variance"])
    x = g["test_features"].astype("float32")
    joint = to_numpy(layer(x))
    assert_close(joint, g["joint_log_likelihood"], rtol=1e-5, atol=1e-5)
    assert (joint.argmax(axis=1) == g["prediction"]).all()
    # The density of the features is joint less what is common to all rows, and less the prior.
    constant = -0.5 * np.log(2 * np.pi * g["shared_variance"]).sum() - np.log(g["class_prior"])
    assert_close(joint + constant, g["log_density"], rtol=1e-5, atol=1e-5)
    assert_close(posterior(layer.to_dense()(x)), posterior(joint))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_matches_plain_loops(shared, weighted):
    features, labels = data()
    x = features[:7] + 0.3
    weights = np.random.default_rng(1).uniform(0.1, 3, len(labels)) if weighted else None
    *expected, joint = naive(features, labels, x, 3, shared, 0.1, weights)
    layer = GaussianNaiveBayes(3, shared_variance=shared, epsilon=0.1)
    layer.adapt(features, labels, sample_weight=weights)
    for found, wanted in zip(state(layer), expected, strict=True):
        assert_close(found, wanted)
    assert_close(layer(x), joint, atol=1e-4)
    assert layer.compute_output_shape((7, 5)) == (7, 3)
    assert not layer.trainable_variables


def test_worked_example():
    head = GaussianNaiveBayes(2, epsilon=1e-2)
    head.adapt([[0.0, 1.0], [2.0, 1.0], [4.0, 3.0], [6.0, 3.0]], [[0], [0], [1], [1]])
    assert_close(head.count, [2, 2])
    assert_close(head.mean, [[1, 1], [5, 3]])
    assert_close(head.variance, [[1, 0], [1, 0]])
    x = np.array([[2.0, 2.5], [1.0, 1.5]])
    squares = [[1 / 1.01 + 225, 9 / 1.01 + 25], [25, 16 / 1.01 + 225]]
    assert_close(head(x), np.log(0.5) - 0.5 * np.array(squares))
    assert [int(k) for k in ops.argmax(head(x), axis=-1)] == [1, 0]


def test_gradient_is_that_of_the_formula():
    features, labels = data(seed=2)
    upstream = np.random.default_rng(3).normal(size=(4, 3))
    for shared in (True, False):
        layer = GaussianNaiveBayes(3, shared_variance=shared, epsilon=0.1).adapt(features, labels)
        weights = ops.convert_to_tensor(upstream, "float32")
        x = features[:4] + 0.5
        _, grad = gradient(lambda x: ops.sum(layer(x) * weights), x.astype("float32"))  # noqa: B023

        def total(x, shared=shared):
            return (naive(features, labels, x, 3, shared, 0.1)[3] * upstream).sum()

        assert_close(grad, numeric_gradient(total, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e7])
def test_updates_are_one_adapt(offset):
    """Batches of single classes, of one row and of none; also onto what there was before."""
    features, labels = data(60, classes=4, seed=4, offset=offset)
    weights = np.random.default_rng(5).uniform(0, 2, 60)
    order = np.argsort(labels, kind="stable")
    whole = GaussianNaiveBayes(4).adapt(features, labels, weights)
    layer = GaussianNaiveBayes(4)
    for rows in np.split(order, [1, 2, 2, 20, 37, 59]):
        layer.update(features[rows], labels[rows], sample_weight=weights[rows])
    for found, wanted in zip(state(layer), state(whole), strict=True):
        assert_close(found, wanted, rtol=1e-6, atol=1e-12)
    assert_close(
        layer.variance,
        GaussianNaiveBayes(4).adapt(features - offset, labels, weights).variance,
        rtol=1e-5,
    )
    layer.adapt(features[:20], labels[:20])  # which forgets
    assert_close(layer.count, np.bincount(labels[:20], minlength=4).astype("float32"))


def test_blocks_are_one_adapt(monkeypatch):
    features, labels = data()
    whole = state(GaussianNaiveBayes(3).adapt(features, labels))
    monkeypatch.setattr("keras_zoo.layers._class_statistics.BLOCK", 5 * 7)
    for found, wanted in zip(
        state(GaussianNaiveBayes(3).adapt(features, labels)), whole, strict=True
    ):
        assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    features[33, 2] = np.nan
    with pytest.raises(ValueError, match=r"`features` must be finite. Received: .* row 33"):
        GaussianNaiveBayes(3).adapt(features, labels)


def test_weights_are_repeats():
    features, labels = data(12)
    times = np.arange(12) % 3
    times[:3] = 2
    one = GaussianNaiveBayes(3).adapt(features, labels, sample_weight=times[:, None])
    other = GaussianNaiveBayes(3).adapt(
        np.repeat(features, times, axis=0), np.repeat(labels, times)
    )
    for a, b in zip(state(one), state(other), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("shared", [True, False])
def test_unseen_classes_are_never_predicted(shared):
    """Not even where every class is far, and the origin, which could pass for a mean, is near."""
    features = np.array([[2.0, -2.0], [2.0, 3.0], [2.0, -2.0]])
    layer = GaussianNaiveBayes(4, shared_variance=shared).adapt(features, [1, 3, 1])
    x = np.array([[0.0, 0.0], [2.0, -2.0], [1e3, 1e3], [2.0, 3.0]], "float32")
    logits = [layer(x)]
    if shared:
        logits += [layer.to_dense()(x), layer.to_dense(centered=True)(x)]
    for found in map(to_numpy, logits):
        assert np.isfinite(found).all()
        assert set(found.argmax(axis=1)) <= {1, 3}
        assert (found[:, [0, 2]] < found.max(axis=1, keepdims=True) - 1e8).all()
    near = to_numpy(layer(x))[1]
    # The log-prior of -1e9, next to the most frequent class.
    assert_close(near[[0, 2]] - near[1] + np.log(2 / 3), [-1e9, -1e9])
    layer.update([[2.0, 2.5]], [0])
    assert to_numpy(layer(np.array([[2.0, 2.5]]))).argmax() == 0


def test_before_any_data_all_classes_are_alike():
    layer = GaussianNaiveBayes(4, epsilon=0.5)
    assert_close(posterior(layer(np.ones((2, 3)))), np.full((2, 4), 0.25))
    layer.update(np.zeros((0, 3)), [])  # nothing comes of nothing
    assert_close(posterior(layer(np.ones((2, 3)))), np.full((2, 4), 0.25))


def test_one_row_a_class_and_constant_features():
    features = np.array([[0.1, 5.0, 1e6], [3.3, 5.0, 1e6], [3.3, 5.0, 1e6]])
    layer = GaussianNaiveBayes(2).adapt(features, [0, 1, 1])
    assert_close(layer.variance, np.zeros((2, 3)), rtol=0, atol=0)
    joint = to_numpy(layer(features))
    assert np.isfinite(joint).all()
    assert joint.argmax(axis=1).tolist() == [0, 1, 1]
    # A constant feature adds nothing, at any offset: rounding is all there is.
    constant = GaussianNaiveBayes(3).adapt(np.full((6, 2), 1e6 + 0.1), [0, 1, 2, 0, 1, 2])
    x = np.full((2, 2), 1e6 + 0.1)
    assert_close(constant(x), np.full((2, 3), np.log(1 / 3)))
    assert_close(constant.to_dense(centered=True)(x), np.full((2, 3), np.log(1 / 3)))
    x[0, 0] += 3.0
    assert_close(constant(x)[0], np.full(3, -(2.0**16)))


@pytest.mark.parametrize("shared", [True, False])
def test_a_constant_feature_that_moves_leaves_the_posterior(shared):
    """It is the same for all classes, however far: 1e8 in float32 would have no digits for them."""
    features, labels = data(30, n=4, seed=9)
    features[:, 2] = 0.7
    x = features.copy()
    x[:, 2] += np.linspace(0, 3, 30)
    expected = naive(features, labels, x, 3, shared)[3]
    assert expected.max(axis=1).min() < -1e9
    layer = GaussianNaiveBayes(3, shared_variance=shared).adapt(features, labels)
    joint = to_numpy(layer(x))
    assert (joint.argmax(axis=1) == expected.argmax(axis=1)).all()
    differences = expected - expected.max(axis=1, keepdims=True)
    assert_close(joint - joint.max(axis=1, keepdims=True), differences, rtol=1e-4, atol=0.01)
    assert_close(joint.max(axis=1), np.maximum(expected.max(axis=1), -(2.0**16)), rtol=1e-3)
    if shared:
        assert_close(posterior(layer.to_dense(centered=True)(x)), posterior(differences), atol=1e-4)


def test_far_classes_do_not_bound_the_near_ones():
    """Only where every class is far is the row lifted; else it is the formula."""
    features, labels = data(60, n=4, classes=3, seed=10)
    features += 1e4 * labels[:, None]
    for shared in (True, False):
        layer = GaussianNaiveBayes(3, shared_variance=shared).adapt(features, labels)
        x = features.astype("float32")
        expected = naive(features, labels, x.astype("float64"), 3, shared)[3]
        joint = to_numpy(layer(x))
        own = np.arange(60), labels
        assert_close(joint[own], expected[own], atol=0.05)
        assert_close(joint, expected, rtol=1e-4, atol=0.05)


def test_large_offsets_cost_no_more_than_the_features_lose():
    features, labels = data(200, n=8, seed=6)
    features = np.round(features * 64) / 64  # which float32 holds at this offset
    x = features[:20]
    near = GaussianNaiveBayes(3).adapt(features, labels)
    far = GaussianNaiveBayes(3).adapt(features + 4096, labels)
    assert_close(far(x + 4096), near(x), atol=0.02)
    expected = posterior(near(x))
    assert_close(posterior(far(x + 4096)), expected, atol=2e-3)
    assert_close(posterior(far.to_dense(centered=True)(x + 4096)), expected, atol=5e-3)
    assert_close(posterior(near.to_dense(centered=True)(x)), expected)


def test_to_dense_is_the_formula_and_a_start():
    features, labels = data()
    layer = GaussianNaiveBayes(3, epsilon=0.1).adapt(features, labels)
    count, mean, variance, _ = naive(features, labels, features[:1], 3)
    prior = count / count.sum()
    sigma2 = prior @ variance + 0.1
    dense = layer.to_dense()
    assert isinstance(dense, keras.layers.Dense)
    assert_close(dense.kernel, (mean / sigma2).T)
    assert_close(dense.bias, np.log(prior) - 0.5 * (mean**2 / sigma2).sum(axis=1))
    x = features.astype("float32")
    assert_close(posterior(dense(x)), posterior(layer(x)))
    assert_close(posterior(layer.to_dense(centered=True)(x)), posterior(layer(x)))
    assert len(dense.trainable_variables) == 2
    model = keras.Sequential([keras.Input((5,)), dense])
    before = posterior(model(x))
    model.quantize("int8")
    assert_close(posterior(model(x)), before, rtol=0, atol=0.1)


@pytest.mark.parametrize("where", ["m.keras", "m.weights.h5"])
def test_a_stream_goes_on_from_a_file(tmp_path, where):
    features, labels = data(50, seed=7, offset=1e5)
    layer = GaussianNaiveBayes(3).update(features[:30], labels[:30])
    model = keras.Sequential([keras.Input((5,)), layer])
    if where == "m.keras":
        model.save(tmp_path / where)
        again = keras.models.load_model(tmp_path / where)
    else:
        model.save_weights(tmp_path / where)
        again = keras.Sequential([keras.Input((5,)), GaussianNaiveBayes(3)])
        again.load_weights(tmp_path / where)
    for found, wanted in zip(state(again.layers[-1]), state(layer), strict=True):
        np.testing.assert_array_equal(found, wanted)
    rest = again.layers[-1].update(features[30:], labels[30:])
    whole = GaussianNaiveBayes(3).adapt(features, labels)
    for found, wanted in zip(state(rest), state(whole), strict=True):
        assert_close(found, wanted, rtol=1e-6, atol=0)


def test_assigned_weights_count():
    features, labels = data()
    layer = GaussianNaiveBayes(3).adapt(features, labels)
    layer.set_weights([w * 0 for w in layer.get_weights()])
    layer.update(features[:10], labels[:10])
    expected = GaussianNaiveBayes(3).adapt(features[:10], labels[:10])
    for found, wanted in zip(state(layer), state(expected), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_an_unbuilt_layer_can_be_saved(tmp_path):
    model = keras.Sequential([GaussianNaiveBayes(3)])
    model.save(tmp_path / "m.keras")
    assert not keras.models.load_model(tmp_path / "m.keras").layers[0].built


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_head_of_a_frozen_network(policy, tmp_path):
    """adapt, then predict and evaluate under compile, with an int8 backbone too."""
    rng = np.random.default_rng(8)
    centres = rng.normal(size=(3, 6))
    y = rng.integers(0, 3, 90)
    x = (centres[y] + 0.3 * rng.normal(size=(90, 6))).astype("float32")
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(16, "relu", dtype=policy, name="hidden")]
    )
    head = GaussianNaiveBayes(3, dtype=policy).adapt(backbone.predict(x, verbose=0), y)
    assert head.mean.dtype == "float32"
    model = keras.Sequential([backbone, head])
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    found = model.evaluate(x, y, batch_size=40, verbose=0, return_dict=True)
    assert found["accuracy"] > 0.95
    logits = model.predict(x, batch_size=40, verbose=0)
    assert logits.dtype == "float32"
    assert model.outputs[0].dtype == "float32"
    assert_close(logits, head(backbone(x)), rtol=1e-4, atol=1e-3)
    # A new head for the old network: what was compiled sees it.
    head.adapt(backbone.predict(x, verbose=0), (y + 1) % 3)
    assert (model.predict(x, verbose=0).argmax(axis=1) == (y + 1) % 3).mean() > 0.95
    if policy == "float32":
        backbone.quantize("int8")
        head.adapt(backbone.predict(x, verbose=0), y)
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
        assert_close(again.predict(x, verbose=0), head(backbone(x)), rtol=1e-4, atol=1e-3)
        assert (again.predict(x, verbose=0).argmax(axis=1) == y).mean() > 0.95


def test_learns_digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    model = keras.Sequential([keras.Input((64,)), GaussianNaiveBayes(10, epsilon=1e-2)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.evaluate(x[1000:], y[1000:], verbose=0)
    model.layers[-1].adapt(x[:1000], y[:1000])
    assert model.evaluate(x[1000:], y[1000:], verbose=0) < 0.5 * before
    found = model.predict(x[1000:], verbose=0).argmax(axis=1)
    assert (found == y[1000:]).mean() > 0.85


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_features(dtype):
    features, labels = data()
    low = ops.cast(ops.convert_to_tensor(features, "float32"), dtype)
    rounded = to_numpy(ops.cast(low, "float32"))
    labels_there = ops.convert_to_tensor(labels, "int32")
    layer = GaussianNaiveBayes(3, dtype=dtype).adapt(low, labels_there)
    expected = GaussianNaiveBayes(3).adapt(rounded, labels)
    for found, wanted in zip(state(layer), state(expected), strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(to_numpy(layer(low)), to_numpy(expected(rounded)))


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless told so")
@pytest.mark.parametrize("shared", [True, False])
def test_float64(shared):
    features, labels = data(offset=100.0)
    layer = GaussianNaiveBayes(3, shared_variance=shared, dtype="float64").adapt(features, labels)
    joint = to_numpy(layer(features))
    assert joint.dtype == "float64"
    expected = naive(features, labels, features, 3, shared)[3]
    assert_close(joint, expected, rtol=1e-6 if shared else 1e-10, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_extremes_and_nan(shared):
    features, labels = data()
    layer = GaussianNaiveBayes(3, shared_variance=shared).adapt(features, labels)
    x = features[:4].astype("float32")
    x[0], x[1] = 1e15, -1e15
    value, grad = gradient(lambda x: ops.sum(layer(x)), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    x[0], x[1, 2] = 1.0, np.nan
    joint = to_numpy(layer(x))
    assert np.isnan(joint[1]).all()
    assert np.isfinite(joint[[0, 2, 3]]).all()


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"num_classes": 1}, "num_classes"),
        ({"num_classes": 2.5}, "num_classes"),
        ({"num_classes": 3, "shared_variance": 1}, "shared_variance"),
        ({"num_classes": 3, "epsilon": 0.0}, "epsilon"),
        ({"num_classes": 3, "epsilon": float("nan")}, "epsilon"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        GaussianNaiveBayes(**kwargs)


ONE = np.ones((2, 3))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((np.ones((2, 4)), [0, 1]), "features"),
        ((np.ones(3), [0, 1, 2]), "features"),
        ((np.array([["a", "b", "c"]]), [0]), "features"),
        ((np.array([[1, np.inf, 1]]), [0]), "features"),
        ((np.array([[1, np.nan, 1]]), [0]), "features"),
        ((1e25 * np.array([[1.0, 0, 0], [-1, 0, 0]]), [0, 0]), "features"),
        ((ONE, [0, 1, 2]), "labels"),
        ((ONE, [0, 3]), "labels"),
        ((ONE, [-1, 0]), "labels"),
        ((ONE, [0.5, 0]), "labels"),
        ((ONE, np.eye(2)), "labels"),
        ((ONE, [0, 1], [1.0]), "sample_weight"),
        ((ONE, [0, 1], [1.0, -1.0]), "sample_weight"),
        ((ONE, [0, 1], [1.0, np.nan]), "sample_weight"),
    ],
)
def test_refusals_change_nothing(arguments, name):
    features, labels = data(n=3)
    layer = GaussianNaiveBayes(3).adapt(features, labels)
    before = state(layer)
    for method in (layer.adapt, layer.update):
        with pytest.raises(ValueError, match=rf"(?s)`{name}` .*Received: "):
            method(*arguments)
    for found, wanted in zip(state(layer), before, strict=True):
        np.testing.assert_array_equal(found, wanted)
    fresh = GaussianNaiveBayes(3)
    if arguments[0].shape != (2, 4):
        with pytest.raises(ValueError, match=rf"(?s)`{name}` .*Received: "):
            fresh.adapt(*arguments)
        assert not fresh.built


def test_other_refusals():
    with pytest.raises(ValueError, match=r"`features` must hold a row.*Received: "):
        GaussianNaiveBayes(3).adapt(np.zeros((0, 3)), [])
    with pytest.raises(ValueError, match=r"`features` must hold a row.*Received: "):
        GaussianNaiveBayes(3).adapt(ONE, [0, 1], [0.0, 0.0])
    with pytest.raises(ValueError, match=r"`shared_variance` .*Received: "):
        GaussianNaiveBayes(3, shared_variance=False).adapt(ONE, [0, 1]).to_dense()
    for layer in (GaussianNaiveBayes(3), GaussianNaiveBayes(3)):
        with pytest.raises(ValueError, match=r"`to_dense` .*Received: "):
            layer.to_dense()
        layer.build((None, 3))
        with pytest.raises(ValueError, match=r"`to_dense` .*Received: "):
            layer.to_dense()
    with pytest.raises(ValueError, match=r"`centered` .*Received: "):
        GaussianNaiveBayes(3).adapt(ONE, [0, 1]).to_dense(centered=1)
    with pytest.raises(ValueError, match=r"`inputs` .*Received: "):
        GaussianNaiveBayes(3).build((None, None))
    with pytest.raises(ValueError, match="ndim"):
        GaussianNaiveBayes(3)(np.ones((2, 3, 4), "float32"))
    with pytest.raises(ValueError, match="axis"):
        GaussianNaiveBayes(3).adapt(ONE, [0, 1])(np.ones((2, 4)))
