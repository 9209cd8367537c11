"""What draws has a seed, so that its state can be saved."""

import random


def known_seed(seed: int | None) -> int:
    """Return `seed`, or draw one where it is `None`.

    It is drawn from Python's generator, as Keras draws the seeds of its own
    layers, so that `keras.utils.set_random_seed` decides on it.
    """
    return random.randint(1, 10**9) if seed is None else seed
