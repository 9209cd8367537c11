import dataclasses
from pathlib import Path
from typing import Any

from keras_mmrel.diagnose.finding import Finding


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What `keras_mmrel.diagnose.run` has found.

    Args:
        record: All of it, as `diagnosis.json` has it.
        findings: What is wrong with the data.
        page: Path of the page, `index.html`.

    Example:

    >>> diagnosis = keras_mmrel.diagnose.Diagnosis(
    ...     {"recommendation": {"clean": {"method": "late fusion"}}}
    ... )
    >>> diagnosis.recommended
    'late fusion'
    """

    record: dict[str, Any]
    findings: tuple[Finding, ...] = ()
    page: Path | None = None

    @property
    def recommended(self) -> str:
        """Name of the method for inputs as good as these."""
        return str(self.record["recommendation"]["clean"]["method"])

    @property
    def summary(self) -> list[str]:
        """Sentences, the most important ones first."""
        return list(self.record["summary"])

    def found(self, kind: str) -> list[Finding]:
        """Return the findings of a kind, such as `"duplicates"`."""
        return [f for f in self.findings if f.kind == kind]
