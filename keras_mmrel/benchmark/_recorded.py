"""What only the code of a comparison can make, as a folder knows it."""

from collections.abc import Sequence
from typing import Any

from keras_mmrel.contract import Array
from keras_mmrel.corruptions import Corruption


class Recorded:
    """Stands for a model, a function or a part that is known by name only.

    Objects of a comparison are rebuilt with it when a folder is opened: all
    that a report says of them is there, and nothing of anybody's is imported.

    Args:
        identity: What identifies it in a file.
    """

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise _missing(self.identity)


class RecordedCorruption(Corruption):
    """Stands for a corruption of which a folder keeps the text only."""

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
        text: str = "",
    ) -> None:
        super().__init__(severity, target, probability)
        self.text = text

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "text": self.text}

    def __repr__(self) -> str:
        return self.text

    def corrupt(self, *args: Any, **kwargs: Any) -> Array:
        raise _missing(self.text)


def _missing(identity: str) -> ValueError:
    return ValueError(
        "`comparison` must be made by its own code to run; a folder keeps "
        f"names only. Received: {identity}"
    )
