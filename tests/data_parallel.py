"""Train on two devices, as users of each backend do.

A worker is a module of tests with a function
`run(case, rows=None, batch_size=12, compiled=True, parallel=None)` that trains
one of its cases on the rows of its 24 samples in fixed order, and returns the
model and a list of further arrays. A module of tests names it as `WORKER` and
takes `case` and the fixture `replicas`: the cases of all selected tests are
trained together, in one process of their own, with PyTorch in two:
`python -m tests.data_parallel FOLDER RANK WORKER:CASE ...`. It saves all
variables of each replica.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

from tests.quick_compiler import use_quick_compiler

ROOT = Path(__file__).parents[1]


# -- What the tests call ------------------------------------------------------


def asked_for(session):
    """Cases that selected tests take, as `(worker, case)`, in order."""
    return list(
        dict.fromkeys(
            (item.module.WORKER.__name__, item.callspec.params["case"])
            for item in session.items
            if "replicas" in getattr(item, "fixturenames", ())
        )
    )


def train_on_two(folder, cases):
    """Run `(worker, case)`; return two lists of arrays for each."""
    backend = keras.config.backend()
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
        + " --xla_force_host_platform_device_count=2",
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), str(rank)]
            + [f"{worker}:{case}" for worker, case in cases],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2 if backend == "torch" else 1)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in processes:
            process.kill()
    return {
        (worker, case): [
            list(np.load(folder / f"{worker}:{case}.{rank}.npz").values())
            for rank in range(2)
        ]
        for worker, case in cases
    }


def train_on_one(worker, case, **kwargs):
    """Run a case here, on one device; return the list of arrays."""
    jax = keras.config.backend() == "jax"
    model, extra = worker.run(case, compiled=jax, **kwargs)
    return [*(ops.convert_to_numpy(v) for v in model.variables), *extra]


# -- What runs there ----------------------------------------------------------


def run(case, *args, **kwargs):
    worker, case = case.split(":")
    return importlib.import_module(worker).run(case, *args, **kwargs)


def main():
    use_quick_compiler()
    folder, rank, *cases = sys.argv[1:]
    if keras.config.backend() == "jax":
        run_jax(folder, cases)
    elif keras.config.backend() == "tensorflow":
        run_tensorflow(folder, cases)
    else:
        run_torch(folder, int(rank), cases)


def save(folder, rank, case, values):
    np.savez(Path(folder) / f"{case}.{rank}.npz", *values)


def run_jax(folder, cases):
    devices = keras.distribution.list_devices("cpu")
    assert len(devices) == 2
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )
    for case in cases:
        model, extra = run(case)
        for rank in range(2):
            local = [
                np.asarray(v.value.addressable_shards[rank].data)
                for v in model.variables
            ]
            save(folder, rank, case, [*local, *extra])


def run_tensorflow(folder, cases):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [device, device])
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for case in cases:
        with strategy.scope():
            model, extra = run(case)
        for rank in range(2):
            local = [
                strategy.experimental_local_results(v.value)[rank].numpy()
                for v in model.variables
            ]
            save(folder, rank, case, [*local, *extra])


def run_torch(folder, rank, cases):
    import torch
    from torch import distributed

    def parallel(model_class):
        class Parallel(model_class):
            """Average the gradients over the processes, then go on."""

            def modulate_gradients(self, gradients, variables, signals):
                added = signals.get("added_gradients") or ()
                for gradient in (*gradients, *added):
                    if gradient is not None:
                        distributed.all_reduce(gradient)
                        gradient /= distributed.get_world_size()
                return super().modulate_gradients(gradients, variables, signals)

        return Parallel

    distributed.init_process_group(
        "gloo",
        init_method=(Path(folder) / "store").absolute().as_uri(),
        rank=rank,
        world_size=2,
    )
    torch.set_num_threads(1)
    rows = np.arange(24).reshape(2, 2, 6)[:, rank].ravel()
    for case in cases:
        model, extra = run(
            case, rows, batch_size=6, compiled=False, parallel=parallel
        )
        local = [ops.convert_to_numpy(v) for v in model.variables]
        save(folder, rank, case, [*local, *extra])
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
