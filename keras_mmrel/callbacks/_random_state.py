"""The generators that decide in which order Keras takes the samples.

Keras shuffles arrays by NumPy under JAX, by torch under PyTorch and by an
operation of TensorFlow there, which begins anew every epoch from the global
seed; batches of a `PyDataset` by Python's generator.
"""

import random
import sys
from typing import Any

import numpy as np

from keras_mmrel.backend import upstream
from keras_mmrel.contract import to_numpy

# What TensorFlow answers where no global seed was set.
UNSEEDED = 87654321


def random_state() -> dict[str, Any]:
    """Return the state of all global generators as plain values."""
    python = random.getstate()
    state = {
        "python": python,
        "numpy": tuple(np.random.get_state()),
        "keras": to_numpy(upstream.global_seed_generator().state),
    }
    # Keras' generator draws its seed when it is first asked for.
    random.setstate(python)
    torch = sys.modules.get("torch")
    if torch is not None:
        state["torch"] = torch.get_rng_state().numpy()
        if torch.cuda.is_initialized():
            state["cuda"] = [s.numpy() for s in torch.cuda.get_rng_state_all()]
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the global generators back to where they were."""
    upstream.global_seed_generator().state.assign(state["keras"])
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.set_rng_state(torch.from_numpy(state["torch"]))
    if torch is not None and "cuda" in state:
        torch.cuda.set_rng_state_all([*map(torch.from_numpy, state["cuda"])])


def seed_random_state(seed: int) -> None:
    """Let all global generators begin with a seed, from 0 to 2**31 - 1.

    As `keras.utils.set_random_seed`, which imports TensorFlow on every
    backend where it is installed.
    """
    state = upstream.global_seed_generator().state
    state.assign(np.array([seed, 0], "uint32"))
    random.seed(seed)
    np.random.seed(seed)
    torch, tensorflow = map(sys.modules.get, ("torch", "tensorflow"))
    if torch is not None:
        torch.manual_seed(seed)
    if tensorflow is not None:
        tensorflow.random.set_seed(seed)


def tensorflow_seed() -> int | None:
    """Return TensorFlow's global seed, `None` without one or TensorFlow."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return None
    seed = int(tensorflow.compat.v1.get_seed(1)[0])
    return None if seed == UNSEEDED else seed


def restore_tensorflow_seed(seed: int | None) -> None:
    """Give TensorFlow the global seed that a training began with."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and seed not in (None, tensorflow_seed()):
        tensorflow.random.set_seed(seed)
