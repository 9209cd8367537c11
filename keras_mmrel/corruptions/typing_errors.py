from collections.abc import Sequence
from itertools import pairwise

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.corruptions._texts import TextCorruption
from keras_mmrel.corruptions._texts import share_of
from keras_mmrel.corruptions.corruption import FRACTION

KEYBOARD = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> dict[str, str]:
    """Key -> the keys beside it, above it and below it."""
    near: dict[str, str] = {}
    for row in KEYBOARD:
        for left, right in pairwise(row):
            near[left] = near.get(left, "") + right
            near[right] = near.get(right, "") + left
    for above, below in pairwise(KEYBOARD):
        for upper, lower in zip(above, below, strict=False):
            near[upper] += lower
            near[lower] += upper
    return near


NEIGHBOURS = _neighbours()


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class TypingErrors(TextCorruption):
    """Mistype characters of texts, as quick fingers do.

    A mistyped character becomes one of the keys beside it on an English
    keyboard, is left out, is typed twice, or changes places with the next one,
    each as likely as the others that can be done to it: only Latin letters
    and digits have such keys, and only a different character that is no space
    is changed places with. Spaces are never mistyped, and no text is left
    without a character.

    It acts on strings, before they are tokenised. A column of a table is
    corrupted like this, and then read by a `MediaTable`:

    ```python
    noise = keras_mmrel.corruptions.TypingErrors(0.1, "caption")
    noisy = noise({"caption": table["caption"]}, seed=0)
    test = data.like(table.assign(caption=noisy["caption"]))
    ```

    Args:
        severity: Share in [0, 1] of the characters that are no spaces which
            is mistyped, in each text (rounded, at least one unless it is 0).
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be strings `(samples,)`, where `None` and NaN, the empty
            cells of a table, are missing texts. Token numbers are refused:
            `TokenReplacement` is for them.
        probability: Number in [0, 1] for `target="independent"`.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality
            holds anything but strings.

    Example:

    >>> noise = keras_mmrel.corruptions.TypingErrors(0.2, "note")
    >>> noise({"note": ["the quick brown fox"]}, seed=3)["note"]
    array(['the quicck bbfown fox'], dtype=object)
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
    ) -> None:
        super().__init__(severity, target, probability)

    def corrupt_text(self, text: str, rng: np.random.Generator) -> str:
        typed = [i for i, letter in enumerate(text) if not letter.isspace()]
        if not typed:
            return text
        wrong = set(share_of(np.array(typed), self.severity, rng).tolist())
        # Drawn for every character, so that none hangs on the severity.
        kinds, keys = rng.random((2, len(text)))
        result = []
        place = 0
        while place < len(text):
            letter, following = text[place], text[place + 1 : place + 2]
            place += 1
            if place - 1 not in wrong:
                result.append(letter)
                continue
            ways = self._ways(letter, following, keys[place - 1], len(typed))
            result.append(ways[int(kinds[place - 1] * len(ways))])
            # With another letter in front, two have changed places.
            place += len(result[-1]) == 2 and result[-1][0] != letter
        return "".join(result)

    def _ways(
        self, letter: str, following: str, draw: float, typed: int
    ) -> list[str]:
        """Return what may be typed instead of a character."""
        ways = [letter * 2]
        near = NEIGHBOURS.get(letter.lower(), "")
        if near:
            key = near[int(draw * len(near))]
            ways.append(key.upper() if letter.isupper() else key)
        if typed > 1:
            ways.append("")
        if following.strip() and following != letter:
            ways.append(following + letter)
        return ways
