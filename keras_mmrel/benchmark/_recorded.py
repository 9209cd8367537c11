"""What only the code of a comparison can make, as a folder knows it."""

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

    def __init__(self, text: str, severity: float = 1.0) -> None:
        super().__init__(severity)
        self.text = text

    def get_config(self) -> dict[str, Any]:
        return {"text": self.text, "severity": self.severity}

    def __repr__(self) -> str:
        return self.text

    def corrupt(self, *args: Any, **kwargs: Any) -> Array:
        raise _missing(self.text)


def _missing(identity: str) -> ValueError:
    return ValueError(
        "`comparison` must be made by its own code to run; a folder keeps "
        f"names only. Received: {identity}"
    )
