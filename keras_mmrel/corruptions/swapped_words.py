from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.corruptions._texts import TextCorruption
from keras_mmrel.corruptions.corruption import FRACTION


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class SwappedWords(TextCorruption):
    """Let random words of texts change places.

    Words are what stands between blanks, and are joined by one blank each.
    None is lost: a model that only counts words sees no difference. Each of
    the chosen words moves to the place of another one.

    It acts on strings, before they are tokenised. A column of a table is
    corrupted like this, and then read by a `MediaTable`:

    ```python
    noise = keras_mmrel.corruptions.SwappedWords(0.3, "caption")
    noisy = noise({"caption": table["caption"]}, seed=0)
    test = data.like(table.assign(caption=noisy["caption"]))
    ```

    Args:
        severity: Share in [0, 1] of the words of each text that is moved
            (rounded, at least two unless it is 0). A text of one word stays
            as it is.
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be strings `(samples,)`, where `None` and NaN, the empty
            cells of a table, are missing texts. Token numbers are refused:
            `TokenReplacement` is for them.
        probability: Number in [0, 1] for `target="independent"`.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality
            holds anything but strings.

    Example:

    >>> noise = keras_mmrel.corruptions.SwappedWords(0.5, "note")
    >>> noise({"note": ["the quick brown fox"]})["note"]
    array(['fox quick brown the'], dtype=object)
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
    ) -> None:
        super().__init__(severity, target, probability)

    def corrupt_text(self, text: str, rng: np.random.Generator) -> str:
        words = text.split()
        if len(words) < 2:
            return text
        count = max(2, round(self.severity * len(words)))
        places = rng.permutation(len(words))[:count]
        moved = list(words)
        # In a circle, so that none of them stays.
        for old, new in zip(places, np.roll(places, 1), strict=True):
            moved[new] = words[old]
        return " ".join(moved)
