import dataclasses
import re
import zlib
from typing import Any

import keras

from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained

WORD = re.compile(r"\w+")


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(vocabulary_size=Integer(2, 10**7))
@dataclasses.dataclass(frozen=True)
class HashingTokenizer:
    """Words as numbers by a hash: a tokenizer that has nothing to learn.

    A word is what stands between characters that are neither letters, digits
    nor "_", in lower case. Its number, from 1, follows from its letters alone,
    the same in every process and on every machine; 0 is left for padding.
    With a small vocabulary different words share a number. Scripts without
    spaces between words need another tokenizer.

    Args:
        vocabulary_size: Numbers there are, with that of padding: `input_dim`
            of an embedding of them.

    Example:

    >>> from keras_mmrel import media
    >>> words = media.HashingTokenizer(1000)
    >>> words("Grinning face, GRINNING cat")
    [320, 705, 320, 470]
    """

    vocabulary_size: int = 16_384

    def __call__(self, text: str) -> list[int]:
        numbers = self.vocabulary_size - 1
        return [
            1 + zlib.crc32(word.encode()) % numbers
            for word in WORD.findall(text.lower())
        ]

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> "HashingTokenizer":
        return cls(**config)
