import codecs
import unicodedata
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel._presets import PRESET
from keras_mmrel._presets import from_preset
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame
from keras_mmrel.contract import to_numpy
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media._constraints import Encoding
from keras_mmrel.media._reading import UNREADABLE
from keras_mmrel.media._reading import reason_of
from keras_mmrel.media.medium import Medium
from keras_mmrel.media.medium import zeros

TOKENS = "token_ids"
PADDING = "padding_mask"
# Texts that a layer gets at a time, and bytes of one file.
CHUNK = 1024
LARGEST_FILE = 16 * 1024 * 1024


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    column=COLUMN,
    tokenizer=Either(
        Instance(Callable, "a function of a text, or a Keras layer"),  # type: ignore[arg-type]
        PRESET,
    ),
    length=Integer(1, 100_000),
    files=Flag(),
    encodings=Every(Encoding()),
    normalization=Either(Choice("NFC", "NFKC", "NFD", "NFKD"), None),
    pad_id=Integer(0),
    clean=Either(Instance(Callable, "a function of a text"), None),  # type: ignore[arg-type]
)
class Text(Medium):
    """Texts, in the cells of a table or in files, as numbers of tokens.

    Texts are normalised, tokenised and padded once, when the table is made:
    tokenizers are not made for several processes. They take five bytes a
    token of `length` in memory.

    A sample is a dict of `"token_ids"`, `(length,)` in int32, and
    `"padding_mask"`, `(length,)` as booleans, False where nothing stands but
    padding: what keras-hub's backbones take. A tokenizer that returns a dict
    of its own, as keras-hub's preprocessors do, has it kept.

    Args:
        column: Name of the column.
        tokenizer: A function from a string to a sequence of token numbers, or
            a Keras layer that takes a list of strings:
            `keras.layers.TextVectorization` (one that knows no words yet
            learns them from the first table it gets, so let that be the
            training one) or a tokenizer or preprocessor of keras-hub. The
            latter adds the tokens that begin and end a text; neither can be
            read back from a config. Or the name of a preset of keras-hub,
            the one that `keras_mmrel.encoders.TextEncoder` gets: its
            preprocessor makes texts of `length`, without segments.
        length: Tokens of a text; more are cut off. A dict of a tokenizer's
            own must have one length already.
        files: Whether the cells name text files.
        encodings: Encodings of files, tried in this order. "latin-1" reads
            anything, so it comes last. A file that is marked as UTF-16 is
            read as such first.
        normalization: Unicode form, or `None`. By the default the same
            letters are the same characters.
        pad_id: Token number of padding, at the end of texts.
        clean: Function of a text that returns what of it is tokenised, or
            `None`. Where nothing is left, the text is missing.

    Example:

    >>> from keras_mmrel import media
    >>> letters = media.Text("name", tokenizer=lambda t: t.encode(), length=6)
    >>> letters.shape
    {'token_ids': (6,), 'padding_mask': (6,)}
    >>> letters.tokenize(["Ab", "abcdefgh"])["token_ids"]
    array([[ 65,  98,   0,   0,   0,   0],
           [ 97,  98,  99, 100, 101, 102]], dtype=int32)
    """

    def __init__(
        self,
        column: str,
        *,
        tokenizer: Callable[[Any], Any] | str,
        length: int = 64,
        files: bool = False,
        encodings: Sequence[str] = ("utf-8-sig", "latin-1"),
        normalization: str | None = "NFC",
        pad_id: int = 0,
        clean: Callable[[str], str] | None = None,
    ) -> None:
        super().__init__((column,))
        self.column = column
        self.preset = tokenizer if isinstance(tokenizer, str) else None
        self.tokenizer = (
            preprocessor_of(tokenizer, length)
            if isinstance(tokenizer, str)
            else tokenizer
        )
        self.length = length
        self.files = files
        self.encodings = tuple(encodings)
        self.normalization = normalization
        self.pad_id = pad_id
        self.clean = clean
        self._blank: Any = None

    def blank(self) -> Any:
        if self._blank is None:
            made = self.tokenize([""])
            self._blank = {
                name: zeros(value.shape[1:], value.dtype.name)
                for name, value in made.items()
            }
        return self._blank

    def adapt(self, texts: Sequence[str]) -> None:
        """Let a `TextVectorization` that knows no words learn some."""
        layer: Any = self.tokenizer
        learns = isinstance(layer, keras.layers.TextVectorization)
        if learns and layer.vocabulary_size() <= 2:
            layer.adapt([self._normalized(text) for text in texts])

    def read_cells(
        self, table: Frame, paths: Sequence[Path | None]
    ) -> tuple[dict[str, Array], Array, dict[int, str]]:
        texts, unreadable = self.texts(table, paths)
        self.adapt([text for text in texts if text is not None])
        present = np.array([text is not None for text in texts], bool)
        blank = self.blank()
        arrays = {
            name: np.zeros((len(texts), *value.shape), value.dtype)
            for name, value in blank.items()
        }
        rows = np.flatnonzero(present)
        for some in np.split(rows, range(CHUNK, len(rows), CHUNK)):
            for name, value in self.tokenize([texts[i] for i in some]).items():
                arrays[name][some] = value
        if PADDING in arrays:
            # Of a text without a token nothing is there.
            present &= arrays[PADDING].reshape(len(texts), -1).any(axis=1)
        return arrays, present, unreadable

    def texts(
        self, table: Frame, paths: Sequence[Path | None]
    ) -> tuple[list[Any], dict[int, str]]:
        """Return the text of every row, `None` where there is none."""
        if not self.files:
            cells = table[self.column]
            return [
                self._cleaned(str(cell)) if known else None
                for cell, known in zip(cells, cells.notna(), strict=True)
            ], {}
        texts: list[Any] = []
        unreadable = {}
        for row, path in enumerate(paths):
            texts.append(None)
            try:
                if path is not None:
                    texts[row] = self._read(path)
            except UNREADABLE as error:
                unreadable[row] = reason_of(error)
        return texts, unreadable

    def tokenize(self, texts: Sequence[str]) -> dict[str, Array]:
        """Return arrays of some texts, `(texts, length)` each."""
        texts = [self._normalized(text) for text in texts]
        if not texts:
            return {}
        if isinstance(self.tokenizer, keras.layers.Layer):
            made = self.tokenizer(texts)
        else:
            made = [self.tokenizer(text) for text in texts]
            if isinstance(made[0], Mapping):
                made = {k: np.stack([m[k] for m in made]) for k in made[0]}
        if isinstance(made, Mapping):
            names = (TOKENS, PADDING) if self.preset else made
            return {name: to_numpy(made[name]) for name in names}
        tokens = np.full((len(texts), self.length), self.pad_id, "int32")
        for row, ids in enumerate(made):
            ids = self._numbers(ids)[: self.length]
            tokens[row, : len(ids)] = ids
        # Only what follows the last token is padding.
        there = tokens != self.pad_id
        after = np.cumsum(there[:, ::-1], axis=1)[:, ::-1] > 0
        return {TOKENS: tokens, PADDING: after}

    def _numbers(self, ids: Any) -> Array:
        if isinstance(ids, bytes | bytearray):
            ids = list(ids)
        numbers = to_numpy(ids)
        if numbers.ndim != 1 or (
            numbers.size and numbers.dtype.kind not in "iu"
        ):
            raise ValueError(
                "`tokenizer` must return whole numbers, one a token. Received: "
                f"{numbers.dtype} of shape {numbers.shape}"
            )
        return numbers

    def _normalized(self, text: str) -> str:
        if self.normalization is None:
            return text
        return unicodedata.normalize(self.normalization, text)  # type: ignore[arg-type]

    def _read(self, path: Path) -> str | None:
        """Return what a file holds, `None` if that is nothing."""
        if not path.is_file():
            raise ValueError("no file, but a folder or a device")
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"more than {LARGEST_FILE:,} bytes")
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        for encoding in (*["utf-16"] * marked, *self.encodings):
            try:
                return self._cleaned(content.decode(encoding).strip())
            except UnicodeError:
                continue
        raise ValueError(f"text in none of {self.encodings}")

    def _cleaned(self, text: str) -> str | None:
        """Return what is tokenised, `None` if that is nothing."""
        text = text if self.clean is None else self.clean(text)
        return text if text.strip() else None

    def get_config(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "tokenizer": self.preset
            or keras.saving.serialize_keras_object(self.tokenizer),
            "length": self.length,
            "files": self.files,
            "encodings": list(self.encodings),
            "normalization": self.normalization,
            "pad_id": self.pad_id,
            "clean": keras.saving.serialize_keras_object(self.clean),
        }


def preprocessor_of(preset: str, length: int) -> keras.layers.Layer:
    """Return what makes of texts what a preset's backbone takes."""
    return from_preset(
        "tokenizer",
        "a function of a text, a Keras layer",
        preset,
        lambda hub: hub.models.TextClassifierPreprocessor.from_preset(
            preset, sequence_length=length
        ),
    )
