import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class DriftReport:
    """Whether the confidences of a stream are those of calibration.

    Made by `keras_mmrel.evaluation.Decision.drift`; `str` gives it in a few
    lines. All sequences have one entry a modality.

    Args:
        modality_names: Names of the modalities.
        p_values: P-values, adjusted after Holm for the number of modalities;
            `None` for one that no sample of the stream has.
        before: Mean confidence of the calibration samples that have the
            modality.
        now: Mean confidence of those of the stream, or `None`.
        samples: Number of samples of the stream that have the modality.
        level: Probability with which an unchanged stream is said to have
            changed in any modality.

    Example:

    >>> report = keras_mmrel.evaluation.DriftReport(
    ...     ["image", "sound"], [0.004, 0.7], [0.9, 0.8], [0.4, 0.81],
    ...     samples=[300, 300], level=0.05,
    ... )
    >>> report.changed
    ['image']
    >>> print(report)
    Changed (level 0.05): 'image'.
      image: mean confidence 0.900 -> 0.400, p = 0.004, 300 samples *
      sound: mean confidence 0.800 -> 0.810, p = 0.7, 300 samples
    """

    modality_names: Sequence[str]
    p_values: Sequence[float | None]
    before: Sequence[float | None]
    now: Sequence[float | None]
    samples: Sequence[int]
    level: float

    @property
    def changed(self) -> list[str]:
        """Names of the modalities whose confidence has changed."""
        return [
            name
            for name, p in zip(self.modality_names, self.p_values, strict=True)
            if p is not None and p <= self.level
        ]

    def describe(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return {
            **{k: _plain(v) for k, v in dataclasses.asdict(self).items()},
            "changed": self.changed,
        }

    def __str__(self) -> str:
        changed = ", ".join(f"'{name}'" for name in self.changed)
        verdict = f"Changed (level {self.level:g}): {changed}."
        if not changed:
            verdict = f"No change found (level {self.level:g})."
        rows = zip(
            self.modality_names,
            self.p_values,
            self.before,
            self.now,
            self.samples,
            strict=True,
        )
        return "\n".join([verdict, *(self._row(*row) for row in rows)])

    def _row(
        self,
        name: str,
        p: float | None,
        before: float | None,
        now: float | None,
        samples: int,
    ) -> str:
        if p is None:
            return f"  {name}: not compared, {samples} samples"
        star = " *" if name in self.changed else ""
        return (
            f"  {name}: mean confidence {before:.3f} -> {now:.3f}, "
            f"p = {p:.3g}, {samples} samples{star}"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
