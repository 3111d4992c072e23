"""Capsules: squashing, first capsules, routing, lengths."""

import keras
import numpy as np
import pytest

from keras_zoo.layers import Capsule, CapsuleLength, PrimaryCapsule
from keras_zoo.ops import squash
from tests.harness import assert_close, channels_first, golden, gradient, to_numpy

RNG = np.random.default_rng(0)


def filled(layer, x, **weights):
    """The layer, built for `x`, with these weights."""
    layer.build(x.shape)
    layer.set_weights([weights[w.name] for w in layer.weights])
    return layer


def test_squash():
    x = RNG.normal(size=(4, 3, 5)).astype("float32")
    n = (x.astype("float64") ** 2).sum(1, keepdims=True)
    assert_close(squash(x, axis=1), (x * n / (1 + n) / np.sqrt(n + 1e-7)).astype("float32"))
    value, grad = gradient(lambda x: keras.ops.sum(squash(x)), np.zeros((2, 3), "float32"))
    assert value == 0
    assert not grad.any()
    half = squash(keras.ops.convert_to_tensor(x, "float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    with pytest.raises(ValueError, match=r"`epsilon`.*Received"):
        squash(x, epsilon=0)


@pytest.mark.parametrize("name", ["primary_capsule_1d", "primary_capsule_2d"])
def test_primary_capsules_match_the_fixture(name):
    f = golden("weighted-capsnet", name)
    x = f["x"].astype("float32")
    settings = {key: int(f[key]) for key in ("num_channels", "capsule_dim", "kernel_size")}
    layer = PrimaryCapsule(**settings, strides=int(f["strides"]), padding=str(f["padding"]))
    filled(layer, x, kernel=f["kernel"], bias=f["bias"])
    assert_close(layer(x), f["output"], rtol=1e-4)
    assert tuple(layer.compute_output_shape(x.shape)) == f["output"].shape
    cotangent = keras.ops.convert_to_tensor(f["cotangent"], "float32")
    _, grad = gradient(lambda x: keras.ops.sum(layer(x) * cotangent), x)
    assert_close(grad, f["grad_x"], rtol=2e-3)
    first = PrimaryCapsule(
        **settings,
        strides=int(f["strides"]),
        padding=str(f["padding"]),
        data_format="channels_first",
    )
    turned = np.moveaxis(x, -1, 1)
    filled(first, turned, kernel=f["kernel"], bias=f["bias"])
    assert_close(channels_first(first)(turned), f["output"], rtol=1e-4)
    assert tuple(first.compute_output_shape(turned.shape)) == f["output"].shape


def test_primary_capsules_pass_masks_on_where_positions_stay():
    mask = np.array([[True, True, False], [True, False, False]])
    x = np.ones((2, 3, 4), "float32")
    same = PrimaryCapsule(2, 3, 3, padding="same")
    assert_close(same.compute_mask(x, mask), np.repeat(mask, 2, axis=1))
    assert same.compute_mask(x, None) is None
    assert PrimaryCapsule(2, 3, 3).compute_mask(x, mask) is None
    assert PrimaryCapsule(2, 3, 3, 2, "same").compute_mask(x, mask) is None
    unknown = PrimaryCapsule(2, 3, 3).compute_output_shape((None, None, 4))
    assert unknown == (None, None, 3)


@pytest.mark.parametrize("name", ["capsule_routing3", "capsule_shared_masked"])
def test_capsules_match_the_fixture(name):
    f = golden("weighted-capsnet", name)
    u, kernel, mask = f["u"].astype("float32"), f["kernel"].astype("float32"), f.get("mask")
    settings = {key: int(f[key]) for key in ("num_capsules", "capsule_dim", "routings")}
    layer = Capsule(**settings, share_weights=bool(f["share_weights"]))
    filled(layer, u, kernel=kernel)
    cotangent = keras.ops.convert_to_tensor(f["cotangent"], "float32")
    assert_close(layer(u, mask=mask), f["output"], rtol=1e-4)
    _, grad = gradient(lambda u: keras.ops.sum(layer(u, mask=mask) * cotangent), u)
    assert_close(grad, f["grad_u"], rtol=2e-3)

    def of_kernel(kernel):
        with keras.StatelessScope(state_mapping=[(layer.kernel, kernel)]):
            return keras.ops.sum(layer.call(u, mask=mask) * cotangent)

    _, grad = gradient(of_kernel, kernel)
    assert_close(grad, f["grad_kernel"], rtol=2e-3)


def routed(u, kernel, bias, routings):
    """Routing by agreement of one example, in plain loops."""
    votes = np.einsum("ni,jnio->jno", u, kernel)
    b = np.zeros(votes.shape[:2])
    for r in range(routings):
        c = np.exp(b) / np.exp(b).sum(0)
        v = []
        for j in range(len(votes)):
            s = sum(c[j, n] * votes[j, n] for n in range(votes.shape[1])) + bias[j]
            n = s @ s
            v.append(s * n / (1 + n) / np.sqrt(n + 1e-7))
        if r < routings - 1:
            b += np.einsum("jo,jno->jn", np.array(v), votes)
    return np.array(v)


@pytest.mark.parametrize("routings", [1, 4])
def test_capsules_with_a_bias_match_plain_loops(routings):
    u, kernel = RNG.normal(size=(3, 5, 4)), RNG.normal(size=(2, 5, 4, 3))
    bias = RNG.normal(size=(2, 3))
    layer = Capsule(2, 3, routings, use_bias=True)
    x = u.astype("float32")
    filled(layer, x, kernel=kernel, bias=bias)
    expected = np.stack([routed(row, kernel, bias, routings) for row in u])
    assert_close(layer(x), expected.astype("float32"), rtol=1e-4)


def test_masked_capsules_are_as_good_as_absent():
    layer = Capsule(2, 3, share_weights=True)
    u = RNG.normal(size=(2, 4, 3)).astype("float32")
    alone = layer(u[:, :2])
    wild = u.copy()
    wild[:, 2:] = np.nan
    mask = np.array([[True, True, False, False]] * 2)
    assert_close(layer(wild, mask=mask), alone)
    value, grad = gradient(
        lambda u: keras.ops.sum(layer(u, mask=np.zeros((2, 4), bool))),
        np.ones((2, 4, 3), "float32"),
    )
    assert value == 0
    assert not grad.any()


def test_capsules_of_half_precision_keep_short_vectors():
    u = np.full((1, 3, 2), 1e-3, "float32")
    layer = Capsule(2, 2, kernel_initializer="ones", dtype="mixed_float16")
    full = Capsule(2, 2, kernel_initializer="ones")
    low = keras.ops.cast(layer(u), "float32")
    np.testing.assert_allclose(to_numpy(low), to_numpy(full(u)), rtol=1e-2)


def test_length():
    x = RNG.normal(size=(2, 3, 4)).astype("float32")
    assert_close(CapsuleLength()(x), np.sqrt((x**2).sum(-1) + 1e-7))
    value, grad = gradient(
        lambda x: keras.ops.sum(CapsuleLength()(x)), np.zeros((1, 1, 4), "float32")
    )
    assert_close(value, np.float32(1e-7**0.5))
    assert not grad.any()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Capsule(0, 3), "num_capsules"),
        (lambda: Capsule(2, 3, routings=0), "routings"),
        (lambda: Capsule(2, 3, share_weights=1), "share_weights"),
        (lambda: Capsule(2, 3, epsilon=-1.0), "epsilon"),
        (lambda: Capsule(2, 3).build((None, None, 3)), "inputs"),
        (lambda: Capsule(2, 3)(np.ones((2, 4, 3)), mask=np.ones((2, 3))), "mask"),
        (lambda: CapsuleLength(0), "epsilon"),
        (lambda: PrimaryCapsule(2, 0, 3), "capsule_dim"),
        (lambda: PrimaryCapsule(2, 2, (3, 3, 3)), "kernel_size"),
        (lambda: PrimaryCapsule(2, 2, 3, strides=0), "strides"),
        (lambda: PrimaryCapsule(2, 2, 3, padding="causal"), "padding"),
        (lambda: PrimaryCapsule(2, 2, 3, data_format="first"), "data_format"),
        (lambda: PrimaryCapsule(2, 2, 3).build((None, 4)), "inputs"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=rf"(?s){name}.*Received: "):
        make()
