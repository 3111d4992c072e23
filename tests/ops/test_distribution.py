"""Gathering over replicas: nothing alone, everything with company, gradients included."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from keras_zoo.ops import all_gather
from tests.harness import BACKEND, assert_close

TWO_REPLICAS = {
    "tensorflow": """
        import tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
        from keras_zoo.ops import all_gather
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

        @tf.function
        def step():
            def replica():
                i = tf.distribute.get_replica_context().replica_id_in_sync_group
                x = tf.cast(tf.stack([i, i + 10]), "float32")[:, None]
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = all_gather(x)
                    value = tf.reduce_sum(y ** 2)
                return y, tape.gradient(value, x)
            return strategy.run(replica)

        y, g = step()
        for part in strategy.experimental_local_results(y):
            assert part.numpy().ravel().tolist() == [0, 10, 1, 11], part
        # Each replica's loss depends on each replica's rows: the gradients add up.
        assert [p.numpy().ravel().tolist() for p in strategy.experimental_local_results(g)] == [
            [0, 40], [4, 44]]
    """,
    "torch": """
        import sys, tempfile, os
        import torch
        import torch.multiprocessing as mp

        def work(rank, store):
            from keras_zoo.ops import all_gather
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{store}", rank=rank, world_size=2)
            x = torch.tensor([[float(rank)], [rank + 10.0]], requires_grad=True)
            y = all_gather(x)
            assert y.detach().numpy().ravel().tolist() == [0, 10, 1, 11], y
            (y ** 2).sum().backward()
            assert x.grad.numpy().ravel().tolist() == [4 * rank, 4 * (rank + 10)], x.grad
            torch.distributed.destroy_process_group()

        if __name__ == "__main__":
            mp.spawn(work, args=(os.path.join(tempfile.mkdtemp(), "store"),), nprocs=2)
    """,
    "jax": """
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
        import jax, keras, numpy as np
        from keras_zoo.ops import all_gather
        devices = keras.distribution.list_devices()
        assert len(devices) == 2
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
        spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
        x = jax.device_put(np.array([[0.0], [10], [1], [11]], "float32"), spec)
        gradient = jax.grad(lambda x: (all_gather(x) ** 2).sum())
        y, g = jax.jit(lambda x: (all_gather(x), gradient(x)))(x)
        assert np.asarray(y).ravel().tolist() == [0, 10, 1, 11]
        assert np.asarray(g).ravel().tolist() == [0, 20, 2, 22]
    """,
}


def test_alone_it_is_the_identity():
    x = np.arange(6, dtype="float32").reshape(3, 2)
    assert_close(all_gather(x), x)


@pytest.mark.slow
def test_two_replicas(tmp_path):
    script = tmp_path / "replicas.py"
    script.write_text(textwrap.dedent(TWO_REPLICAS[BACKEND]))
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
