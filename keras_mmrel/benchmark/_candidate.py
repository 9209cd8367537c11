import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_mmrel.benchmark._component import plain

OPTIONS = "options"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One point of a grid."""

    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Candidate":
        """Return what `to_dict` made a dict of."""
        training = dict(settings)
        return cls(options=training.pop(OPTIONS, {}), training=training)

    def to_dict(self) -> dict[str, Any]:
        options = {OPTIONS: plain(self.options)} if self.options else {}
        return {**self.training, **options}
