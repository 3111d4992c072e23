"""Losses over a whole batch, where the batch is spread over devices."""

import subprocess
import sys

import pytest

from tests.harness import BACKEND

FOUR_DEVICES = """
import os
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"
import jax, keras, numpy as np
from tests.generic.subjects import LOSSES, name

keras.distribution.set_distribution(keras.distribution.DataParallel())
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
whole = [case for case in LOSSES if not case.separable]
assert len(jax.devices()) == 4 and len(whole) > 10

for case in whole:
    rows = len(case.y_true) // 4 * 4
    y_true, y_pred = case.y_true[:rows].astype("float32"), case.y_pred[:rows]
    loss = case.cls(**case.kwargs)
    step = jax.jit(jax.value_and_grad(lambda p, t: loss(t, p)))
    value, grad = step(y_pred, y_true)
    found, found_grad = step(*(jax.device_put(v, spread) for v in (y_pred, y_true)))
    assert not found_grad.sharding.is_fully_replicated, name(case)
    np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-6, err_msg=name(case))
    np.testing.assert_allclose(found_grad, grad, rtol=1e-6, atol=1e-6, err_msg=name(case))

# And through `fit`: one step of gradient descent at rate 1 moves the kernel by the gradient.
case = next(case for case in whole if name(case) == "MultiSimilarityLoss")
x, y = np.random.default_rng(0).normal(size=(8, 5)).astype("float32"), case.y_true[:8]
kernel = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, use_bias=False)])
model.set_weights([kernel])
loss = case.cls()
model.compile(keras.optimizers.SGD(1.0), loss=loss)
model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
grad = jax.grad(lambda k: loss(y.astype("float32"), x @ k))(kernel)
np.testing.assert_allclose(kernel - model.get_weights()[0], grad, rtol=1e-5, atol=1e-6)
print("as on one device:", len(whole))
"""


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "jax", reason="`keras.distribution` spreads a batch on JAX alone")
def test_four_devices_give_what_one_gives():
    run = [sys.executable, "-c", FOUR_DEVICES]
    done = subprocess.run(run, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "as on one device" in done.stdout
