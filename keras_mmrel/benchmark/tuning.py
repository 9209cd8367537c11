import dataclasses
import itertools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_mmrel.benchmark._candidate import OPTIONS
from keras_mmrel.benchmark._candidate import Candidate
from keras_mmrel.benchmark._checks import mapping
from keras_mmrel.benchmark._checks import number
from keras_mmrel.benchmark._component import plain
from keras_mmrel.benchmark.training import FIELDS
from keras_mmrel.benchmark.training import overrides
from keras_mmrel.constraints import Integer


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Settings that are chosen on inner validation parts, never on the test.

    The best mean accuracy chooses, of equal ones the best likelihood. With a
    published split that happens once for each method, data set and regime,
    with resampled splits once for each seed too.

    Args:
        fraction: Number in [0.05, 0.9]: how much of the training part
            validates.
        repeats: Number of inner splits.
        grid: Dict of a field of `Training` -> values to try, and of
            `"options"` -> a dict of an option of the model -> values.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> tuning = keras_mmrel.benchmark.Tuning(
    ...     grid={"learning_rate": [1e-3, 1e-2]}
    ... )
    >>> len(tuning.candidates())
    2
    """

    fraction: float = 0.25
    repeats: int = 2
    grid: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        fraction = number("fraction", self.fraction, 0.05, 0.9)
        repeats = Integer(1)("repeats", self.repeats)
        grid = mapping("grid", self.grid, [*FIELDS, OPTIONS])
        checked: dict[str, Any] = {}
        for key, values in grid.items():
            if key == OPTIONS:
                good = isinstance(values, Mapping) and bool(values)
                lists = list(values.values()) if good else []
            else:
                good, lists = True, [values]
            if not good or not all(map(_all_different, lists)):
                raise ValueError(
                    f"`grid.{key}` must list different values to try. "
                    f"Received: {values!r}"
                )
            checked[key] = dict(values) if key == OPTIONS else _values(
                key, values
            )  # fmt: skip
        object.__setattr__(self, "fraction", fraction)
        object.__setattr__(self, "repeats", repeats)
        object.__setattr__(self, "grid", checked)

    @property
    def options(self) -> dict[str, Sequence[Any]]:
        """The grid of the model's options."""
        return self.grid.get(OPTIONS, {})

    def to_dict(self) -> dict[str, Any]:
        return plain(dataclasses.asdict(self))

    def candidates(self) -> list[Candidate]:
        """Return all combinations of the grid."""
        settings = {k: v for k, v in self.grid.items() if k != OPTIONS}
        return [
            Candidate(
                dict(zip(settings, values, strict=True)),
                dict(zip(self.options, options, strict=True)),
            )
            for values in itertools.product(*settings.values())
            for options in itertools.product(*self.options.values())
        ]


def _all_different(values: Any) -> bool:
    if not isinstance(values, list | tuple) or not values:
        return False
    texts = {repr(value) for value in values}
    return len(texts) == len(values)


def _values(key: str, values: Sequence[Any]) -> list[Any]:
    return [overrides("grid", {key: value})[key] for value in values]
