from pathlib import Path
from typing import Any

import keras

from keras_mmrel.constraints import constrained
from keras_mmrel.encoders.pretrained._package import FOLDER
from keras_mmrel.encoders.pretrained._wordllama import PACKAGE
from keras_mmrel.optional import require

FILE = "tokenizers/l2_supercat_tokenizer_config.json"


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(folder=FOLDER)
class WordLlamaTokenizer:
    """Tokens of a text for `keras_mmrel.encoders.pretrained.wordllama`.

    For `keras_mmrel.media.Text`. Its vocabulary is that of Llama 2, 32,000
    pieces of words and, for what these do not spell, bytes; no token marks the
    beginning or the end. It is read from the package `wordllama` when the
    first text comes, by the package `tokenizers`; so a medium that has been
    saved needs both where it is used again.

    Args:
        folder: Where `wordllama` lies (`pip install --target folder`), or
            `None` for where it is installed.

    Call arguments:
        text: String.

    Returns:
        List of token numbers, from 3 to 31,999.

    Raises:
        ImportError: If one of the packages is not there.
        ValueError: If `folder` does not hold `wordllama`.

    Example:

    ```python
    from keras_mmrel import encoders

    tokenizer = encoders.pretrained.WordLlamaTokenizer()
    tokenizer("a red apple")  # [263, 2654, 26163]
    ```
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = folder
        self._tokenizer: Any = None

    def __call__(self, text: str) -> list[int]:
        if self._tokenizer is None:
            user = "WordLlamaTokenizer"
            tokenizers = require("tokenizers", user)
            content = PACKAGE.read(FILE, user, self.folder)
            made = tokenizers.Tokenizer.from_str(content.decode())
            # What the file says on padding and length is not ours.
            made.no_padding()
            made.no_truncation()
            self._tokenizer = made
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def get_config(self) -> dict[str, Any]:
        folder = self.folder
        return {"folder": None if folder is None else str(folder)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WordLlamaTokenizer":
        return cls(**config)
