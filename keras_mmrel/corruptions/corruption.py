import zlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Self

import numpy as np

from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import map_parts
from keras_mmrel.contract import to_numpy
from keras_mmrel.corruptions._inputs import TARGET
from keras_mmrel.corruptions._inputs import as_given
from keras_mmrel.corruptions._inputs import is_numbers
from keras_mmrel.corruptions._inputs import read_inputs
from keras_mmrel.corruptions._inputs import read_labels

FRACTION = Number(0, 1)
RANDOM = ("all", "one", "independent")
SEED_OF_A_CALL = Integer(0)


@constrained(severity=Number(0), target=TARGET, probability=FRACTION)
class Corruption:
    """Base of every corruption: from a dict of arrays to a corrupted dict.

    A corruption is called on NumPy arrays, before a model sees them, and
    says with `corrupted` which modality of which sample it corrupts. A severity
    of 0 changes nothing. Integers become floats, but for bytes of pictures,
    which stay bytes, rounded: a model takes them for another scale.

    The seed decides alone who is corrupted and what is drawn, so the results
    of two severities with one seed differ in severity only. Every class and
    every modality name has its own random stream: adding a modality or
    changing the order leaves the draws of the others as they are.

    A subclass defines `corrupt`, and `corrupted_fraction` if it takes only a
    fraction of the samples. It says about itself, as an attribute of the
    class or a property:

    - `announced`: whether the mask tells a model what is corrupted;
    - `in_range`: whether every corrupted feature stays between its lowest and
      its highest clean value, so that no check of ranges can find it;
      `evaluate_robustness` measures whether that is so on its data;
    - `needs_labels`: whether a call needs `labels`, which `corrupt` then gets
      as a further argument;
    - `whole`: whether it takes or moves whole modalities of samples, whatever
      these hold. Then `corrupt` may get the numbers of the samples as values.

    What a corruption cannot be applied to passes unchanged, unless it is
    targeted by its name: noise leaves texts alone, and what has several arrays
    (numbers of tokens and the mask of their padding); `whole` ones take these
    too. `applies_to` names those that it takes.

    Args:
        severity: Finite number of at least 0; its unit is the subclass's.
        target: Which modalities are corrupted, always among those that are
            present and that the corruption takes: `"all"`; the name of one,
            or a sequence of names; `"one"`, a random one of each sample;
            `"independent"`, each one of each sample with `probability`. A
            modality that is called `"all"`, `"one"` or `"independent"` is
            targeted by a sequence, `["one"]`.
        probability: Number in [0, 1] for `target="independent"`.

    Call arguments:
        inputs: Dict of modality name -> array `(samples, ...)` of any rank,
            and optionally `"modality_mask"` `(samples, modalities)`, 1 for
            present and 0 for missing. A missing modality is never corrupted,
            and is the only place where NaN may stand. A modality may be a
            dict of arrays, each of which keeps its dtype, or strings
            `(samples,)`, which become objects.
        seed: Non-negative integer. Same seed, same result.
        labels: Class numbers `(samples,)` or one-hot rows, for a corruption
            that needs them.

    Returns:
        A new dict with the same keys in the same order. Floating arrays keep
        their dtype, integers become float32; `inputs` is left as it is.

    Raises:
        ValueError: If an argument is not as above, or `target` names a
            modality that `inputs` does not have or the corruption does not
            take, or it takes none.

    Example:

    >>> class Dimmed(keras_mmrel.corruptions.Corruption):
    ...     def corrupt(self, values, corrupted, present, rng):
    ...         values[corrupted] /= 1.0 + self.severity
    ...         return values
    >>> Dimmed(1.0, target="image")({"image": np.ones((1, 2))})
    {'image': array([[0.5, 0.5]])}
    """

    in_range = False
    needs_labels = False
    whole = False
    # What follows "must name modalities of" in the error about others.
    medium = "numbers, one array (samples, ...)"

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
    ) -> None:
        self.severity = severity
        self.target = target
        self.probability = probability

    @property
    def announced(self) -> bool:
        """Whether the mask tells a model what is corrupted."""
        return False

    def __call__(
        self, inputs: Modalities, seed: int = 0, labels: Labels | None = None
    ) -> dict[str, Array]:
        arrays, present, labels = self._read(inputs, labels)
        extra = self._labels(labels, len(present))
        taken = self._taken(arrays, present)
        corrupted = self._select(list(arrays), taken, seed, **extra)
        for column, name in enumerate(arrays):
            if corrupted[:, column].any():
                whole = self.whole and not is_numbers(arrays[name])
                function = self.corrupt_whole if whole else self.corrupt
                unit = self.unit(inputs[name])
                if unit != 1.0:
                    arrays[name] = arrays[name] / unit
                arrays[name] = function(
                    arrays[name],
                    corrupted[:, column],
                    present[:, column],
                    self._rng(seed, "values", name),
                    **extra,
                )
                if unit != 1.0:
                    arrays[name] = arrays[name] * unit
        return self._results(arrays, inputs)

    @staticmethod
    def _results(
        arrays: dict[str, Any], inputs: Modalities
    ) -> dict[str, Array]:
        """Return arrays in the form and the order of the inputs."""
        return {
            name: as_given(arrays[name], inputs[name])
            if name != MASK
            else np.array(to_numpy(inputs[MASK]))
            for name in inputs
        }

    def corrupted(
        self, inputs: Modalities, seed: int = 0, labels: Labels | None = None
    ) -> Array:
        """Return which modality of which sample the same call corrupts.

        Returns:
            Boolean array `(samples, modalities)`, columns in the order of
            `inputs`.
        """
        arrays, present, labels = self._read(inputs, labels)
        extra = self._labels(labels, len(present))
        taken = self._taken(arrays, present)
        return self._select(list(arrays), taken, seed, **extra)

    def applies_to(self, inputs: Modalities) -> list[str]:
        """Return the names of the modalities that a call may corrupt."""
        arrays, _, _ = self._read(inputs, None)
        return [
            n for n in self._targeted(list(arrays)) if self.takes(arrays[n])
        ]

    def unit(self, given: Any) -> float:
        """Return what is one in the values of a modality, as they are given.

        They reach `corrupt` divided by it. Of noise it is white for pixels in
        bytes, so that a severity means the same as for floats.

        Args:
            given: The modality, as the call was given it.
        """
        return 1.0

    def takes(self, values: Any) -> bool:
        """Return whether a modality is one that this can be applied to.

        Args:
            values: Floating array `(samples, ...)`, array of objects for
                texts, or a dict of arrays.
        """
        return self.whole or is_numbers(values)

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        """Return one modality, corrupted.

        Args:
            values: Array `(samples, ...)`, a copy that may be written to.
            corrupted: Boolean array `(samples,)`, true at least once.
            present: Boolean array `(samples,)`.
            rng: The modality's own random stream.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `corrupt`"
        )

    def corrupt_whole(
        self,
        values: Any,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
        **extra: Array,
    ) -> Any:
        """Return a modality of texts or of several arrays, corrupted.

        Each sample gets all that the one has whose number `corrupt` puts in
        the place of its own.
        """
        numbers = np.arange(len(corrupted))
        rows = self.corrupt(numbers, corrupted, present, rng, **extra)
        return map_parts(lambda array: array[rows], values)

    def corrupted_fraction(self) -> float:
        """Return the fraction of the samples that is taken, 1 by default."""
        return 1.0

    def _read(
        self, inputs: Modalities, labels: Labels | None
    ) -> tuple[dict[str, Any], Array, Labels | None]:
        """Return new arrays of the modalities, who is present, and labels."""
        arrays, present, labels = read_inputs(inputs, labels)
        names = list(arrays)
        unfit = [n for n in self._targeted(names) if not self.takes(arrays[n])]
        random = self.target in RANDOM
        if unfit and (len(unfit) == len(names) or not random):
            received = {n: _form(arrays[n]) for n in unfit}
            raise ValueError(
                f"`target` of `{type(self).__name__}` must name modalities of "
                f"{self.medium}. Received: target={self.target!r}, which takes "
                f"in others: {received}"
            )
        return arrays, present, labels

    def _taken(self, arrays: dict[str, Any], present: Array) -> Array:
        """Return which present modalities can be corrupted."""
        return present & [self.takes(values) for values in arrays.values()]

    def _select(
        self,
        names: list[str],
        present: Array,
        seed: int,
        labels: Array | None = None,
    ) -> Array:
        scores = np.stack(
            [self._rng(seed, "target", n).random(len(present)) for n in names],
            axis=1,
        )
        if self.target == "all":
            candidates = corrupted = present
        elif self.target == "one":
            candidates = present
            first = np.where(present, scores, -1.0).argmax(axis=1)
            corrupted = present & (first[:, None] == np.arange(len(names)))
        elif self.target == "independent":
            candidates = present
            corrupted = present & (scores < self.probability)
        else:
            named = np.isin(names, self._known(names))
            candidates = corrupted = present & named
        if self.severity == 0:
            return np.zeros_like(present)
        rows = np.flatnonzero(candidates.any(axis=1))
        order = self._rng(seed, "samples").permutation(rows)
        chosen = order[: round(self.corrupted_fraction() * len(rows))]
        return corrupted & np.isin(np.arange(len(present)), chosen)[:, None]

    def _labels(self, labels: Labels | None, samples: int) -> dict[str, Array]:
        if not self.needs_labels:
            if labels is not None and np.shape(labels)[:1] != (samples,):
                raise ValueError(
                    "`labels` must have one label a sample. Received: "
                    f"labels.shape={np.shape(labels)} for {samples} samples"
                )
            return {}
        if labels is None:
            raise ValueError(
                f"`{type(self).__name__}` must be called with `labels=y`. "
                "Received: labels=None"
            )
        return {"labels": read_labels(labels, samples)}

    def _targeted(self, names: list[str]) -> list[str]:
        """Return the modalities that may be corrupted."""
        return names if self.target in RANDOM else self._known(names)

    def _known(self, names: list[str]) -> list[str]:
        target = [self.target] if isinstance(self.target, str) else self.target
        unknown = [name for name in target if name not in names]
        if unknown:
            raise ValueError(
                "`target` must be 'all', 'one', 'independent' or modalities "
                f"of the inputs, {names}. Received: target={self.target!r} "
                f"(unknown: {unknown})"
            )
        return list(target)

    def _rng(self, seed: int, *stream: str) -> np.random.Generator:
        words = [zlib.crc32(w.encode()) for w in (type(self).__name__, *stream)]
        return np.random.default_rng([SEED_OF_A_CALL("seed", seed), *words])

    def __repr__(self) -> str:
        config = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({config})"

    def get_config(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "target": self.target,
            "probability": self.probability,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


def _form(values: Any) -> Any:
    """What a message says of the values of a modality."""
    if isinstance(values, Mapping):
        return f"a dict of {list(values)}"
    return values.shape if is_numbers(values) else "texts"


def choose_features(
    shape: tuple[int, ...], fraction: float, rng: np.random.Generator
) -> Array:
    """Return a boolean array with the same fraction of true in every sample.

    The count is rounded and at least one; a larger fraction with the same
    stream includes what a smaller one chose.
    """
    scores = rng.random((shape[0], int(np.prod(shape[1:]))))
    last = max(1, round(fraction * scores.shape[1])) - 1
    limit = np.partition(scores, last, axis=1)[:, last, None]
    return (scores <= limit).reshape(shape)
