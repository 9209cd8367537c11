import zlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.corruptions.checks import MASK
from keras_mmrel.corruptions.checks import check_number
from keras_mmrel.corruptions.checks import check_seed
from keras_mmrel.corruptions.checks import check_share
from keras_mmrel.corruptions.checks import check_target
from keras_mmrel.corruptions.checks import read_inputs


class Corruption:
    """Base of every corruption: from a dict of arrays to a corrupted dict.

    A corruption is called on NumPy arrays, before a model sees them, and
    says with `hits` which modality of which sample it corrupts. A severity of
    0 changes nothing.

    The seed decides alone who is hit and what is drawn, so the results of two
    severities with one seed differ in severity only. Every class and every
    modality name has its own random stream: adding a modality or changing the
    order leaves the draws of the others as they are.

    A subclass defines `corrupt`, and `samples_hit` if it takes only a share
    of the samples.

    Args:
        severity: Finite number of at least 0; its unit is the subclass's.
        target: Which modalities are hit, always among the present ones:
            `"all"`; the name of one, or a sequence of names; `"one"`, a
            random one of each sample; `"independent"`, each one of each
            sample with `probability`. A modality that is called `"all"`,
            `"one"` or `"independent"` is targeted by a sequence, `["one"]`.
        probability: Number in [0, 1] for `target="independent"`.

    Call arguments:
        inputs: Dict of modality name -> array `(samples, ...)` of any rank,
            and optionally `"modality_mask"` `(samples, modalities)`, 1 for
            present and 0 for missing. A missing modality is never hit, and
            is the only place where NaN may stand.
        seed: Non-negative integer. Same seed, same result.

    Returns:
        A new dict with the same keys in the same order. Floating arrays keep
        their dtype, integers become float32; `inputs` is left as it is.

    Raises:
        ValueError: If an argument is not as above, or `target` names a
            modality that `inputs` does not have.

    Example:

    >>> class Dimmed(keras_mmrel.corruptions.Corruption):
    ...     def corrupt(self, values, hit, present, rng):
    ...         values[hit] /= 1.0 + self.severity
    ...         return values
    >>> Dimmed(1.0, target="image")({"image": np.ones((1, 2))})
    {'image': array([[0.5, 0.5]])}
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
    ) -> None:
        self.severity = check_number("severity", severity, low=0)
        self.target = check_target(target)
        self.probability = check_share("probability", probability)

    def __call__(
        self, inputs: Mapping[str, Any], seed: int = 0
    ) -> dict[str, np.ndarray]:
        arrays, present = read_inputs(inputs)
        hits = self._select(list(arrays), present, seed)
        for column, name in enumerate(arrays):
            if hits[:, column].any():
                arrays[name] = self.corrupt(
                    arrays[name],
                    hits[:, column],
                    present[:, column],
                    self._rng(seed, "values", name),
                )
        return {
            name: np.array(inputs[MASK]) if name == MASK else arrays[name]
            for name in inputs
        }

    def hits(self, inputs: Mapping[str, Any], seed: int = 0) -> np.ndarray:
        """Return which modality of which sample the same call corrupts.

        Returns:
            Boolean array `(samples, modalities)`, columns in the order of
            `inputs`.
        """
        arrays, present = read_inputs(inputs)
        return self._select(list(arrays), present, seed)

    def corrupt(
        self,
        values: np.ndarray,
        hit: np.ndarray,
        present: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return one modality with its hit samples corrupted.

        Args:
            values: Array `(samples, ...)`, a copy that may be written to.
            hit: Boolean array `(samples,)`, true at least once.
            present: Boolean array `(samples,)`.
            rng: The modality's own random stream.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `corrupt`"
        )

    def samples_hit(self) -> float:
        """Return the share of the samples that is hit, 1 unless redefined."""
        return 1.0

    def _select(
        self, names: list[str], present: np.ndarray, seed: int
    ) -> np.ndarray:
        scores = np.stack(
            [self._rng(seed, "target", n).random(len(present)) for n in names],
            axis=1,
        )
        if self.target == "all":
            candidates = hits = present
        elif self.target == "one":
            candidates = present
            first = np.where(present, scores, -1.0).argmax(axis=1)
            hits = present & (first[:, None] == np.arange(len(names)))
        elif self.target == "independent":
            candidates = present
            hits = present & (scores < self.probability)
        else:
            candidates = hits = present & np.isin(names, self._known(names))
        if self.severity == 0:
            return np.zeros_like(present)
        rows = np.flatnonzero(candidates.any(axis=1))
        order = self._rng(seed, "samples").permutation(rows)
        chosen = order[: round(self.samples_hit() * len(rows))]
        return hits & np.isin(np.arange(len(present)), chosen)[:, None]

    def _known(self, names: list[str]) -> list[str]:
        target = [self.target] if isinstance(self.target, str) else self.target
        unknown = [name for name in target if name not in names]
        if unknown:
            raise ValueError(
                "`target` must be 'all', 'one', 'independent' or modalities "
                f"of the inputs, {names}. Received: target={self.target!r} "
                f"(unknown: {unknown})"
            )
        return target

    def _rng(self, seed: int, *stream: str) -> np.random.Generator:
        words = [zlib.crc32(w.encode()) for w in (type(self).__name__, *stream)]
        return np.random.default_rng([check_seed(seed), *words])

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
    def from_config(cls, config: dict[str, Any]) -> "Corruption":
        return cls(**config)


def choose_features(
    shape: tuple[int, ...], share: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a boolean array with the same share of true in every sample.

    The count is rounded and at least one; a larger share with the same
    stream includes what a smaller one chose.
    """
    scores = rng.random((shape[0], int(np.prod(shape[1:]))))
    last = max(1, round(share * scores.shape[1])) - 1
    limit = np.partition(scores, last, axis=1)[:, last, None]
    return (scores <= limit).reshape(shape)
