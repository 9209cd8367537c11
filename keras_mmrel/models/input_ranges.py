from collections.abc import Mapping

from keras_mmrel.user_warning import warn

# How many times as large, or as small, as any value of training data: no
# noise that is simulated does that, and a forgotten scaling does.
LARGER, SMALLER = 15.0, 1 / 100.0
# Samples of which a small one must be among the training data, too.
ENOUGH = 8


class InputRanges:
    """Size of the values that a model was trained on, and a word about others.

    Pixels from 0 to 255, or decibels, for a model that was trained on [0, 1]
    would be taken for very unusual inputs, silently. A modality is warned of
    once by a model, and once for each thing that is said.

    Attributes:
        largest: Modality name -> size of the largest value that was trained
            on, 0 where that says nothing (numbers of tokens).
    """

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        # What was said, and of which modality.
        self.said: set[tuple[str, str]] = set()

    def see(self, largest: Mapping[str, float]) -> None:
        """Take what data hold that a `fit` has been given."""
        self.seen = dict(largest)

    def keep(self) -> None:
        """Remember what was seen, once a training begins."""
        for name, value in self.seen.items():
            self.largest[name] = max(self.largest.get(name, 0.0), value)

    def hint(self, name: str, largest: float) -> None:
        """Warn, once a modality, of training data that look unscaled."""
        if self._first("unscaled", name):
            warn(
                f"Modality '{name}' holds values up to {largest:.4g}: "
                "scale each feature, to [0, 1] say, by what the training "
                "samples have."
            )

    def compare(self, largest: Mapping[str, float], count: int) -> None:
        """Warn, once a modality, of data that are of another size.

        Args:
            largest: Of the data.
            count: Number of samples.
        """
        for name, value in largest.items():
            known = self.largest.get(name, 0.0)
            above = value > LARGER * known
            below = count >= ENOUGH and value < SMALLER * known
            if not known or not value or not (above or below):
                continue
            if self._first("other size", name):
                warn(
                    f"Modality '{name}' holds values up to {value:.4g} where "
                    f"those of training went up to {known:.4g}: scale it as "
                    "the training data were scaled."
                )

    def _first(self, kind: str, name: str) -> bool:
        """Whether this has not been said of a modality; from now on it has."""
        first = (kind, name) not in self.said
        self.said.add((kind, name))
        return first
