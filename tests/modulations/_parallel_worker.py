"""Train on two devices, as users of each backend do, and save the weights.

Run by `test_data_parallel.py` in a process of its own, with PyTorch in two:
`python -m tests.modulations._parallel_worker FOLDER RANK`.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

import keras_mmrel
from keras_mmrel.modulations import AGM
from keras_mmrel.modulations import OGM
from keras_mmrel.modulations import OGMGE
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

CASES = {
    "OGM on gradients": (lambda: OGM(0.5), lambda: keras.optimizers.SGD(0.1)),
    "AGM on updates": (lambda: AGM(1.0), lambda: keras.optimizers.Adam(0.02)),
    "noise": (
        lambda: OGMGE(0.5, kernels="all", seed=0),
        lambda: keras.optimizers.SGD(0.1),
    ),
}

# The halves of every batch of 12 hold their modalities in unequal numbers,
# so that a mean of the halves' means is another number.
MASK = np.ones((24, 2), "float32")
MASK[[0, 1, 2, 3, 12, 13, 14], 0] = 0
MASK[[6, 22], 1] = 0
DATA = {**X, "modality_mask": MASK}


def run(case, rows=None, model=None, batch_size=12, compiled=True):
    """Train one case; return all that the replicas have to agree in."""
    make, optimizer = CASES[case]
    rows = np.arange(24) if rows is None else rows
    model, history = train(
        make(),
        optimizer(),
        model or make_model(modality_loss_weight=0.5),
        compiled,
        x={k: v[rows] for k, v in DATA.items()},
        y=Y[rows],
        batch_size=batch_size,
        epochs=2,
    )
    logs = [np.array(history[f"{name}_coefficient"]) for name in X]
    state = [ops.convert_to_numpy(v) for v in model.modulation.variables]
    return model, [*weights(model), *logs, *state]


def save(folder, rank, case, values):
    np.savez(Path(folder) / f"{case}.{rank}.npz", *values)


def run_jax(folder):
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    devices = keras.distribution.list_devices("cpu")
    assert len(devices) == 2
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )
    for case in CASES:
        model, values = run(case)
        for rank in range(2):
            local = [
                np.asarray(v.value.addressable_shards[rank].data)
                for v in model.trainable_variables
            ]
            save(folder, rank, case, [*local, *values[len(local) :]])


def run_tensorflow(folder):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [device, device])
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for case in CASES:
        with strategy.scope():
            parallel = make_model(modality_loss_weight=0.5)
            model, values = run(case, model=parallel)
        for rank in range(2):
            local = [
                strategy.experimental_local_results(v.value)[rank].numpy()
                for v in model.trainable_variables
            ]
            save(folder, rank, case, [*local, *values[len(local) :]])


def run_torch(folder, rank):
    import torch
    from torch import distributed

    class Parallel(keras_mmrel.ConcatFusion):
        """Average the gradients over the processes, then go on."""

        def modulate_gradients(self, gradients, variables, signals):
            for gradient in gradients:
                distributed.all_reduce(gradient)
                gradient /= distributed.get_world_size()
            return super().modulate_gradients(gradients, variables, signals)

    distributed.init_process_group(
        "gloo",
        init_method=(Path(folder) / "store").absolute().as_uri(),
        rank=rank,
        world_size=2,
    )
    torch.set_num_threads(1)
    rows = np.arange(24).reshape(2, 2, 6)[:, rank].ravel()
    for case in CASES:
        parallel = make_model(model_class=Parallel, modality_loss_weight=0.5)
        _, values = run(case, rows, parallel, batch_size=6, compiled=False)
        save(folder, rank, case, values)
    distributed.destroy_process_group()


if __name__ == "__main__":
    folder, rank = sys.argv[1], int(sys.argv[2])
    if keras.config.backend() == "jax":
        run_jax(folder)
    elif keras.config.backend() == "tensorflow":
        run_tensorflow(folder)
    else:
        run_torch(folder, rank)
