import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

LEVELS = ("error", "warning", "note")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a diagnosis has found in the data.

    Args:
        kind: What it is, such as `"duplicates"` or `"leak"`.
        level: `"error"`: figures cannot be believed while it is so;
            `"warning"`: look at it; `"note"`: good to know.
        text: A sentence with its number.
        modality: Name of the modality, or `None` for all.
        rows: Numbers of some of the rows, from 0, in the order of the data.
        columns: Names or numbers of some of the features.
        numbers: Name -> number behind the sentence.

    Example:

    >>> finding = keras_mmrel.diagnose.Finding(
    ...     "constant", "note", "1 feature of 'a' is constant.", "a"
    ... )
    >>> finding.to_dict()["kind"]
    'constant'
    """

    kind: str
    level: str
    text: str
    modality: str | None = None
    rows: Sequence[int] = ()
    columns: Sequence[str] = ()
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes."""
        return {
            "kind": self.kind,
            "level": self.level,
            "text": self.text,
            "modality": self.modality,
            "rows": [int(row) for row in self.rows],
            "columns": [str(name) for name in self.columns],
            "numbers": {k: float(v) for k, v in self.numbers.items()},
        }
