import hashlib
import os
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import Unpack

from keras_mmrel.archives import MEBIBYTE
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._download import cache_folder
from keras_mmrel.datasets._image_text import LENGTH
from keras_mmrel.datasets._image_text import TOKENIZER
from keras_mmrel.datasets._image_text import own_media
from keras_mmrel.datasets._media_sets import PATH
from keras_mmrel.datasets._media_sets import Dropped
from keras_mmrel.datasets._media_sets import Preset
from keras_mmrel.datasets._media_sets import RawSet
from keras_mmrel.datasets._media_sets import Row
from keras_mmrel.datasets._media_sets import TableOptions
from keras_mmrel.datasets._media_sets import check_options
from keras_mmrel.datasets._media_sets import drop_repeated
from keras_mmrel.datasets._media_sets import make_tables
from keras_mmrel.datasets._media_sets import read_rows
from keras_mmrel.datasets._split import stratified_parts
from keras_mmrel.datasets._unpacking import unpacked
from keras_mmrel.media import HashingTokenizer
from keras_mmrel.media import Image
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Medium
from keras_mmrel.media import Text

SET = RawSet("emoji", "unpack 'emoji.zip' there, or name the archive itself")
ARCHIVE, TABLE = "emoji.zip", "emoji.csv"
COLUMNS = ("image", "name", "keywords", "label")
TEST_SHARE = 0.2
# Tokens: no name has more than 8 words, no list of keywords more than 14.
LENGTHS = {"names": 16, "keywords": 32}
# What the archive holds has 4.5 MB.
MOST = 64 * MEBIBYTE


@constrained(
    path=PATH,
    preset=Preset("names", "keywords"),
    tokenizer=TOKENIZER,
    length=LENGTH,
)
def load_emoji(
    path: str | os.PathLike,
    preset: str | Mapping[str, Medium] = "names",
    *,
    tokenizer: Callable[[Any], Any] | str | None = None,
    length: int | None = None,
    **options: Unpack[TableOptions],
) -> tuple[MediaTable, MediaTable]:
    """Load emoji: small pictures, their names, and the group they are in.

    1,377 pictures of 64 x 64 drawn from Noto Color Emoji, with the names and
    keywords of Unicode, in nine groups of 5 to 261, "Animals & Nature" say.
    There is no published benchmark of them, and no split: the one here, a
    fifth of each group for test, always the same, is this library's own
    choice.

    The archive is unpacked into Keras' cache (`KERAS_HOME`). Nothing is
    downloaded.

    Args:
        path: The archive `emoji.zip`, a folder that holds it, or the folder
            with `emoji.csv` (`image,name,keywords,label`) and `images`.
        preset: The text: `"names"`, or `"keywords"`, which hold the name; or
            a dict of media of your own, of the columns `"image"`, `"name"`
            and `"keywords"`.
        tokenizer: As in `keras_mmrel.media.Text`; by default
            `keras_mmrel.media.HashingTokenizer()`.
        length: Tokens of a text, by default 16 of names, 32 of keywords.
        **options: Arguments of `keras_mmrel.media.MediaTable`, such as
            `batch_size`, `workers` and `on_error`.

    Returns:
        `train, test`: tables of the modalities `"image"` `(64, 64, 3)`,
        pixels in [0, 1], and `"text"`. The training one is shuffled.

    Raises:
        FileNotFoundError: If `path` holds no such files.
        ValueError: If the archive or the table is not as described.
        ImportError: If pandas or Pillow is not installed.

    Example:

    ```python
    train, test = load_emoji("data/emoji", batch_size=64)
    (x, y), (x_test, y_test) = train.arrays(), test.arrays()
    ```

    References:
        - [Unicode Emoji](https://unicode.org/reports/tr51/)
        - [Noto Emoji](https://github.com/googlefonts/noto-emoji)
    """
    check_options(options)
    root = _folder(path)
    dropped = Dropped(SET.name)
    rows = read_rows(
        root / TABLE, COLUMNS, _parse, quoted=True, headers=[COLUMNS]
    )
    rows = drop_repeated(rows, "image", "label", "annotated", dropped)
    dropped.warn()
    parts = stratified_parts([row["label"] for row in rows], [TEST_SHARE])
    train, test = make_tables(
        [[rows[number] for number in part] for part in parts],
        _media(preset, tokenizer, length),
        label="label",
        class_names=sorted({row["label"] for row in rows}),
        root=root,
        options=options,
    )
    return train, test


def _folder(path: str | os.PathLike) -> Path:
    given = Path(path).expanduser()
    archive = given / ARCHIVE if given.is_dir() else given
    if archive.is_file() and not (given / TABLE).is_file():
        with open(archive, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        # It may be where nothing can be written to.
        path = unpacked(archive, MOST, cache_folder("emoji") / digest[:32])
    return SET.folder(path, (TABLE, "images"), ("emoji",))


def _parse(cells: dict[str, str]) -> Row:
    if not cells["image"].lower().endswith(".png"):
        raise ValueError(f"{cells['image'][:80]!r} in the place of a picture")
    if not cells["label"]:
        raise ValueError("no label")
    return dict(cells)


def _media(
    preset: str | Mapping[str, Medium],
    tokenizer: Callable[[Any], Any] | str | None,
    length: int | None,
) -> dict[str, Medium]:
    if not isinstance(preset, str):
        return own_media(preset, tokenizer=tokenizer, length=length)
    return {
        "image": Image("image", size=64),
        "text": Text(
            "name" if preset == "names" else "keywords",
            tokenizer=tokenizer or HashingTokenizer(),
            length=length or LENGTHS[preset],
        ),
    }
