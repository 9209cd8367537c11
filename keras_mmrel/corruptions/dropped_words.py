from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.corruptions._texts import TextCorruption
from keras_mmrel.corruptions._texts import share_of
from keras_mmrel.corruptions.corruption import FRACTION


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class DroppedWords(TextCorruption):
    """Leave random words of texts out.

    Words are what stands between blanks; those that are left are joined by
    one blank each. A larger severity with the same seed also drops what a
    smaller one did.

    It acts on strings, before they are tokenised. A column of a table is
    corrupted like this, and then read by a `MediaTable`:

    ```python
    noise = keras_mmrel.corruptions.DroppedWords(0.3, "caption")
    noisy = noise({"caption": table["caption"]}, seed=0)
    test = data.like(table.assign(caption=noisy["caption"]))
    ```

    Args:
        severity: Share in [0, 1] of the words of each text that is left out
            (rounded, at least one unless it is 0). A text that loses its last
            word is `""`, which a `MediaTable` takes for a missing one.
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be strings `(samples,)`, where `None` and NaN, the empty
            cells of a table, are missing texts. Token numbers are refused:
            `TokenReplacement` is for them.
        probability: Number in [0, 1] for `target="independent"`.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality
            holds anything but strings.

    Example:

    >>> noise = keras_mmrel.corruptions.DroppedWords(0.5, "note")
    >>> noise({"note": ["the quick brown fox"]})["note"]
    array(['brown fox'], dtype=object)
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
        if not words:
            return text
        gone = set(share_of(np.arange(len(words)), self.severity, rng).tolist())
        return " ".join(w for i, w in enumerate(words) if i not in gone)
