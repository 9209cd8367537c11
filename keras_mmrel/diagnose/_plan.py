"""How much is trained: chosen from the number of samples, and stated."""

import dataclasses
import math

import numpy as np

# Steps of a training, and epochs that it has at least and at most.
STEPS = 160
EPOCHS = (8, 100)
BATCHES = (32, 512)
# Batches of an epoch that are aimed at.
AIM = 6
# Up to so many samples there are so many folds.
FOLDS = ((1000, 4), (math.inf, 3))
LEARNING_RATE = 3e-3


@dataclasses.dataclass(frozen=True)
class Plan:
    """Folds, epochs and size of batches."""

    folds: int
    epochs: int
    batch_size: int
    learning_rate: float = LEARNING_RATE

    @property
    def text(self) -> str:
        return (
            f"{self.folds} folds, {self.epochs} epochs in batches of "
            f"{self.batch_size}, AdamW from a rate of {self.learning_rate:g}"
        )


def make_plan(
    samples: int, folds: int | None = None, epochs: int | None = None
) -> Plan:
    """Choose what fits the time: about 160 steps a training.

    Args:
        samples: Number of samples outside the test part.
        folds: Instead of what follows from them, likewise `epochs`.
        epochs: See `folds`.
    """
    if folds is None:
        folds = next(f for most, f in FOLDS if samples <= most)
    training = samples * (folds - 1) / folds
    size = 2 ** round(math.log2(max(1.0, training / AIM)))
    size = int(np.clip(size, *BATCHES))
    if epochs is None:
        steps = math.ceil(training / size)
        epochs = int(np.clip(round(STEPS / steps), *EPOCHS))
    return Plan(folds, epochs, size)
