import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import CoDualCrossAttention, SelfAttentionPooling
from tests.harness import assert_close, golden, gradient, to_numpy

RNG = np.random.default_rng(0)


def stored_weights(g):
    return [g[f"w_{k:02d}"] for k in range(int(g["num_weights"]))]


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def naive_attention(query, key, value, scale=1.0):
    """Token after token, in float64."""
    return np.array(
        [sum(a * v for a, v in zip(softmax(scale * key @ q), value, strict=True)) for q in query]
    )


# Pooling


def test_pooling_matches_the_official_code():
    g = golden("biofusionnet", "self_attention_pooling")
    layer = SelfAttentionPooling(int(g["units"]))
    x = g["x"].astype("float32")
    layer.build(x.shape)
    layer.set_weights(stored_weights(g))
    cotangent = ops.convert_to_tensor(g["cotangent"].astype("float32"))
    _, grad = gradient(lambda x: ops.sum(layer(x) * cotangent), x)
    assert_close(layer(x), g["output"], rtol=1e-4)
    assert_close(grad, g["grad_x"], rtol=1e-3, atol=1e-5)
    mask = np.arange(x.shape[1]) < g["lengths"][:, None]
    # What the mask hides does not matter.
    hidden = np.where(mask[:, :, None], x, 1e3).astype("float32")
    assert_close(layer(hidden, mask=mask), g["output_masked"], rtol=1e-4)
    assert_close(layer(x, mask=np.zeros_like(mask)), np.zeros_like(g["output"]))


@pytest.mark.parametrize("scaled", [False, True])
def test_pooling_of_plain_loops(scaled):
    x = RNG.normal(size=(2, 5, 3)).astype("float32")
    layer = SelfAttentionPooling(4, scaled=scaled)
    layer.build(x.shape)
    weights = [RNG.normal(size=w.shape) for w in layer.weights]
    layer.set_weights(weights)
    wq, bq, wk, bk, wv, bv = weights
    expected = [
        naive_attention(b @ wq + bq, b @ wk + bk, b @ wv + bv, 0.5 if scaled else 1.0).sum(0)
        for b in x.astype("float64")
    ]
    assert_close(layer(x), expected, rtol=1e-4)
    order = RNG.permutation(5)
    assert_close(layer(x[:, order]), to_numpy(layer(x)), rtol=1e-4)


def test_pooling_of_large_features_in_half_precision():
    x = 30 * RNG.normal(size=(2, 4, 64)).astype("float32")
    layer = SelfAttentionPooling(64, dtype="mixed_float16")
    assert np.isfinite(to_numpy(ops.cast(layer(x), "float32"))).all()


# Co-dual-cross-attention


@pytest.mark.parametrize("name", ["co_dual_cross_attention", "co_dual_cross_attention_tokens"])
def test_fusion_matches_the_official_code(name):
    g = golden("biofusionnet", name)
    sizes = [int(g[key]) for key in ("units", "num_heads", "ff_dim", "num_layers")]
    layer = CoDualCrossAttention(*sizes)
    image, gene = g["image"].astype("float32"), g["gene"].astype("float32")
    layer.build([image.shape, gene.shape])
    layer.set_weights(stored_weights(g))
    tolerance = {"rtol": 1e-3, "atol": 2e-4}
    assert_close(layer([image, gene]), g["output"], **tolerance)
    if "cotangent" in g:
        cotangent = ops.convert_to_tensor(g["cotangent"].astype("float32"))
        width = image.shape[1]
        _, grad = gradient(
            lambda x: ops.sum(layer([x[:, :width], x[:, width:]]) * cotangent),
            np.concatenate([image, gene], axis=1),
        )
        assert_close(grad, np.concatenate([g["grad_image"], g["grad_gene"]], axis=1), **tolerance)


def test_fusion_of_plain_loops():
    """All up to the encoder."""
    image, gene = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 5))
    layer = CoDualCrossAttention(units=2, num_heads=1, num_layers=0)
    layer.build([(None, 3, 4), (None, 3, 5)])
    weights = [RNG.normal(size=w.shape) for w in layer.weights]
    layer.set_weights(weights)
    qi, ki, vi, qg, kg, vg = weights[:6]

    def block(n, x, y):
        wq, bq, wk, bk, wv, bv = weights[6 * n : 6 * n + 6]
        return naive_attention(x @ wq + bq, y @ wk + bk, y @ wv + bv, 2**-0.5)

    ci = naive_attention(image @ qi, gene @ kg, gene @ vg)
    cg = naive_attention(gene @ qg, image @ ki, image @ vi)
    ri = block(3, block(1, ci, cg), image)
    rg = block(4, block(2, cg, ci), gene @ weights[30] + weights[31])
    got = layer([image[None].astype("float32"), gene[None].astype("float32")])
    assert_close(got, np.concatenate([ri, rg], axis=1)[None], rtol=1e-4)


def test_patients_do_not_look_at_one_another():
    layer = CoDualCrossAttention(units=4, num_heads=2, ff_dim=6, num_layers=1)
    image, gene = (RNG.normal(size=(3, d)).astype("float32") for d in (5, 6))
    whole = to_numpy(layer([image, gene]))
    assert_close(layer([image[1:2], gene[1:2]]), whole[1:2])
    assert_close(layer([image[:, None], gene[:, None]]), whole[:, None])


def test_dropout_is_for_training():
    layer = CoDualCrossAttention(units=4, num_heads=2, ff_dim=6, num_layers=1, dropout=0.5)
    inputs = [np.ones((3, 5), "float32"), np.ones((3, 6), "float32")]
    calm = to_numpy(layer(inputs))
    assert_close(layer(inputs), calm, atol=0)
    assert np.any(to_numpy(layer(inputs, training=True)) != calm)


@pytest.mark.slow
def test_int8_survives_a_file(tmp_path):
    """In a Sequential too, which stands in the paths of what it built, not of what it loaded."""
    model = keras.Sequential([keras.Input((6, 4)), SelfAttentionPooling(8)])
    x = RNG.normal(size=(2, 6, 4)).astype("float32")
    model.quantize("int8")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(again(x), to_numpy(model(x)), atol=0)


# Refusals


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"units": 0}, "units"),
        ({"num_heads": 3}, "num_heads"),
        ({"ff_dim": 2.5}, "ff_dim"),
        ({"num_layers": -1}, "num_layers"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
        CoDualCrossAttention(**{"units": 4, **kwargs})


def test_bad_pooling():
    for kwargs, name in (({"units": 0}, "units"), ({"units": 2, "scaled": 1}, "scaled")):
        with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: "):
            SelfAttentionPooling(**kwargs)
    with pytest.raises(ValueError, match=r"inputs must be bags .*Received: shape"):
        SelfAttentionPooling(4)(np.zeros((2, 3)))


@pytest.mark.parametrize("shapes", [[(2, 3)], [(2, 3), (2, 4, 3)], [(2, 3, 4), (2, 2, 4)]])
def test_bad_modalities(shapes):
    with pytest.raises(ValueError, match=r"inputs must be a list of two.*Received: shapes"):
        CoDualCrossAttention(4)([np.zeros(shape, "float32") for shape in shapes])
