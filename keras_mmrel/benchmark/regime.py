import dataclasses
import inspect
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras

from keras_mmrel.benchmark._checks import attempt
from keras_mmrel.benchmark._checks import mapping
from keras_mmrel.benchmark._checks import within
from keras_mmrel.benchmark._component import own
from keras_mmrel.benchmark._component import plain
from keras_mmrel.benchmark._component import recorded
from keras_mmrel.benchmark.training import overrides
from keras_mmrel.layers import CorruptionAugmentation

# Each run gives the augmentation its own seed.
OPTIONS = tuple(
    name
    for name in inspect.signature(CorruptionAugmentation).parameters
    if name not in ("seed", "kwargs")
)


@dataclasses.dataclass(frozen=True)
class Regime:
    """What the training data of every row go through.

    Every row of a regime sees the same corruption in the same unit: it acts
    on the inputs, before any standardising. A model that takes
    `augmentation` gets the layer, and keeps its statistics of clean samples;
    the training batches of any other are corrupted before it sees them.

    Args:
        augmentation: `None` for clean training; options of
            `keras_mmrel.layers.CorruptionAugmentation`; or a function of a
            seed that returns a layer.
        training: Dict of fields of `Training` that this regime replaces.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> noisy = keras_mmrel.benchmark.Regime({"noise_probability": 0.5})
    >>> noisy.make(seed=0).noise_probability
    0.5
    """

    augmentation: Mapping[str, Any] | Callable | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "training", overrides("training", self.training)
        )
        chosen = self.augmentation
        if chosen is None or callable(chosen):
            return
        options = mapping("augmentation", chosen, OPTIONS)
        attempt(
            "augmentation", lambda: CorruptionAugmentation(**options), options
        )
        # Nothing is asked for: clean training.
        object.__setattr__(self, "augmentation", options or None)

    def make(self, seed: int) -> keras.layers.Layer | None:
        """Return the layer of one run, or `None`."""
        if self.augmentation is None:
            return None
        if callable(self.augmentation):
            return self.augmentation(seed)
        return CorruptionAugmentation(seed=seed, **self.augmentation)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Regime":
        """Rebuild what `to_dict` described, own functions as names."""
        return cls(recorded(record["augmentation"]), record["training"])

    def to_dict(self) -> dict[str, Any]:
        layer = self.augmentation
        return {
            "augmentation": own(layer) if callable(layer) else plain(layer),
            "training": dict(self.training),
        }


def as_regime(where: str, name: str, entry: Any) -> Regime:
    """Take a regime, a function of a seed, or options with `training`."""
    if isinstance(entry, Regime):
        return entry
    if callable(entry):
        return Regime(entry)
    given = mapping(where, entry, [*OPTIONS, "training"])
    training = given.pop("training", None)
    with within(where):
        return Regime(given, training or {})
