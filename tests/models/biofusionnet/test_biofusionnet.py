import keras
import numpy as np
import pytest

keras_hub = pytest.importorskip("keras_hub")
from keras_zoo.models import (  # noqa: E402
    BioFusionNetBackbone,
    BioFusionNetRiskPredictor,
    FusionVAE,
)
from tests.harness import assert_close, golden, to_numpy  # noqa: E402

RNG = np.random.default_rng(0)
SIZES = {
    "image_dim": 3,
    "num_genes": 5,
    "num_clinical": 2,
    "units": 4,
    "num_heads": 2,
    "ff_dim": 6,
    "num_layers": 1,
    "hidden_dims": (6, 4),
    "clinical_units": 4,
}
N = 16
X = {
    "image_features": RNG.normal(size=(N, 3, 3)).astype("float32"),
    "image_mask": np.arange(3) < RNG.integers(0, 4, (N, 1)),
    "gene_expression": RNG.normal(size=(N, 5)).astype("float32"),
    "clinical": RNG.normal(size=(N, 2)).astype("float32"),
}
Y = np.stack([RNG.exponential(size=N), RNG.random(N) < 0.7], axis=1).astype("float32")


def predictor(**kwargs):
    keras.utils.set_random_seed(0)
    return BioFusionNetRiskPredictor(BioFusionNetBackbone(**{**SIZES, **kwargs}))


def naive_tail(model, fused):
    """What follows the fusion, patient after patient, in float64."""
    weight = {
        "/".join(w.path.split("/")[-2:]): to_numpy(w).astype("float64") for w in model.weights
    }

    def dense_norm_relu(x, name):
        x = x @ weight[f"{name}_dense/kernel"] + weight[f"{name}_dense/bias"]
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return np.maximum(x * weight[f"{name}_norm/gamma"] + weight[f"{name}_norm/beta"], 0)

    risks = []
    for f, clinical in zip(fused.astype("float64"), X["clinical"], strict=True):
        f = dense_norm_relu(dense_norm_relu(f, "hidden_1"), "hidden_2")
        f = dense_norm_relu(np.concatenate([f, clinical]), "clinical")
        risks.append(f @ weight["risk/kernel"])
    return np.array(risks)


def test_the_network():
    model = predictor()
    pool, fusion = (model.backbone.get_layer(name) for name in ("pool", "fusion"))
    pooled = pool(X["image_features"], mask=X["image_mask"])
    fused = to_numpy(fusion([pooled, X["gene_expression"]]))
    assert fused.shape == (N, 8)
    assert_close(model(X), naive_tail(model, fused), rtol=1e-4)
    assert [w.path for w in model.weights][-1].endswith("risk/kernel")


def test_what_the_mask_hides_does_not_matter():
    model, changed = predictor(), dict(X)
    hidden = np.where(X["image_mask"][:, :, None], X["image_features"], 77.0)
    changed["image_features"] = hidden.astype("float32")
    assert_close(model(changed), to_numpy(model(X)))


def test_rates_of_the_dropouts():
    backbone = BioFusionNetBackbone(**SIZES, dropout=0.2)
    names = ("hidden_1_dropout", "hidden_2_dropout", "clinical_dropout")
    assert [backbone.get_layer(name).rate for name in names] == [0.2, 0.02, 0.02]


def test_official_size():
    backbone = BioFusionNetBackbone(num_layers=1)
    dense = [backbone.get_layer(f"hidden_{k}_dense").units for k in (1, 2, 3)]
    assert dense == [512, 256, 128]
    assert backbone.get_layer("fusion").output.shape == (None, 512)
    assert backbone.output_shape == (None, 32)


def test_preset_round_trip_and_training(tmp_path):
    model = predictor(num_layers=0)
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(X, Y, batch_size=N, epochs=10, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert 0 <= history["c_index"][-1] <= 1
    model.save_to_preset(tmp_path / "preset")
    again = BioFusionNetRiskPredictor.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(to_numpy(again(X)), to_numpy(model(X)))
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    assert type(backbone) is BioFusionNetBackbone
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(again(X)), to_numpy(model(X)))


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"image_dim": 0}, "image_dim"),
        ({"num_genes": -1}, "num_genes"),
        ({"hidden_dims": ()}, "hidden_dims"),
        ({"hidden_dims": (3, 0)}, "hidden_dims"),
        ({"dropout": 1}, "dropout"),
        ({"num_heads": 3}, "num_heads"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
        BioFusionNetBackbone(**{**SIZES, **kwargs})


def test_the_predictor_needs_its_backbone():
    with pytest.raises(ValueError, match=r"`backbone` must be .*Received: "):
        BioFusionNetRiskPredictor(keras.Sequential())


# The autoencoder


def test_vae_matches_the_official_code():
    g = golden("biofusionnet", "fusion_vae")
    vae = FusionVAE(12, int(g["intermediate_dim"]), int(g["latent_dim"]), beta=float(g["beta"]))
    vae.set_weights([g[f"w_{k:02d}"] for k in range(int(g["num_weights"]))])
    x = g["x"].astype("float32")
    mean, log_var = vae.encode(x)
    assert_close(mean, g["mean"])
    assert_close(log_var, g["log_var"])
    assert_close(vae(x), g["reconstruction_from_mean"])
    given = g["given_reconstruction"].astype("float32")
    assert_close(vae.vae_loss(x, given, mean, log_var), g["per_example_loss"])


def test_vae_of_plain_loops():
    x, other = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3, 4))
    mean, log_var = RNG.normal(size=(2, 3, 2)), RNG.normal(size=(2, 3, 2))
    expected = np.zeros((2, 3))
    for place in np.ndindex(2, 3):
        for a, b in zip(x[place], other[place], strict=True):
            expected[place] += (a - b) ** 2
        for m, v in zip(mean[place], log_var[place], strict=True):
            expected[place] -= 0.7 / 2 * (1 + v - m**2 - np.exp(v))
    vae = FusionVAE(4, 5, 2, beta=0.7)
    assert_close(vae.vae_loss(x, other, mean, log_var), expected)
    assert tuple(vae(x).shape) == x.shape


def test_vae_samples_in_training_alone():
    vae, x = FusionVAE(4, 5, 2, seed=1), np.ones((3, 4), "float32")
    calm = to_numpy(vae(x))
    assert_close(vae(x), calm, atol=0)
    first = to_numpy(vae(x, training=True))
    assert np.any(first != calm)
    assert np.any(to_numpy(vae(x, training=True)) != first)


def test_vae_learns_and_weighs():
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(64, 2)) @ rng.normal(size=(2, 6))).astype("float32")
    keras.utils.set_random_seed(0)
    vae = FusionVAE(6, 8, 2, seed=0)
    vae.compile(keras.optimizers.AdamW(0.02))
    history = vae.fit(x, batch_size=64, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    weight = np.arange(64) < 10
    some = vae.evaluate(x, x, sample_weight=64 / 10 * weight, batch_size=64, verbose=0)
    assert some == pytest.approx(vae.evaluate(x[:10], batch_size=64, verbose=0), rel=1e-4)


def test_bad_vae():
    for kwargs, name in (({"latent_dim": 0}, "latent_dim"), ({"beta": -1}, "beta")):
        with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
            FusionVAE(4, 5, **kwargs)
    with pytest.raises(ValueError, match=r"`loss` and `loss_weights` must be None"):
        FusionVAE(4, 5, 2).compile("adam", loss="mse")
