import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import keras

from keras_mmrel.benchmark._checks import choice
from keras_mmrel.benchmark._checks import mapping
from keras_mmrel.benchmark._checks import number
from keras_mmrel.benchmark._checks import within
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "step", "constant")


@dataclasses.dataclass(frozen=True)
class Training:
    """How every row is trained, for the whole number of epochs.

    Args:
        epochs: Positive integer.
        batch_size: Positive integer, or `"full"` for the whole training part.
        learning_rate: Number of at least 0.
        weight_decay: Number of at least 0, decoupled.
        optimizer: `"adamw"`, `"adam"` or `"sgd"`.
        momentum: Number in [0, 1], of `"sgd"`.
        schedule: `"cosine"`, down to 5 % of the learning rate; `"step"`, to
            `step_factor` of it after `step_at` of the steps; `"constant"`.
        step_at: Fraction of the steps.
        step_factor: Number of at least 0.
        whole_batches: Whether samples are left out, others with each seed, so
            that no batch is smaller than the rest.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> keras_mmrel.benchmark.Training(epochs=30).batch_size
    128
    """

    epochs: int = 100
    batch_size: int | str = 128
    learning_rate: float = 1e-3
    weight_decay: float = 4e-3
    optimizer: str = "adamw"
    momentum: float = 0.0
    schedule: str = "cosine"
    step_at: float = 0.7
    step_factor: float = 0.1
    whole_batches: bool = False

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        put("epochs", Integer(1)("epochs", self.epochs))
        size = Either(Integer(1), "full")("batch_size", self.batch_size)
        put("batch_size", size)
        for name in ("learning_rate", "weight_decay", "step_factor"):
            put(name, number(name, getattr(self, name), 0))
        for name in ("momentum", "step_at"):
            put(name, number(name, getattr(self, name), 0, 1))
        choice("optimizer", self.optimizer, OPTIMIZERS)
        choice("schedule", self.schedule, SCHEDULES)
        Flag()("whole_batches", self.whole_batches)

    def size(self, samples: int) -> int:
        """Return the number of samples of a batch."""
        if isinstance(self.batch_size, str):
            return samples
        return min(self.batch_size, samples)

    def make_optimizer(self, samples: int) -> keras.optimizers.Optimizer:
        """Return a new optimizer for a training part of so many samples."""
        steps = self.epochs * math.ceil(samples / self.size(samples))
        rate: Any = self.learning_rate
        schedules = keras.optimizers.schedules
        if self.schedule == "cosine":
            rate = schedules.CosineDecay(rate, steps, alpha=0.05)
        elif self.schedule == "step":
            rate = schedules.PiecewiseConstantDecay(
                [max(1, round(self.step_at * steps))],
                [rate, rate * self.step_factor],
            )
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(
                rate, momentum=self.momentum, weight_decay=self.weight_decay
            )
        kinds = {
            "adamw": keras.optimizers.AdamW,
            "adam": keras.optimizers.Adam,
        }
        return kinds[self.optimizer](rate, weight_decay=self.weight_decay)


FIELDS = tuple(field.name for field in dataclasses.fields(Training))


def overrides(where: str, entry: Any) -> Mapping[str, Any]:
    """Check the training settings that somebody's own replace."""
    given = mapping(where, entry, FIELDS)
    # The values as the object has them: 1e-3 is a number.
    with within(where):
        made = Training(**given)
    return {name: getattr(made, name) for name in given}
