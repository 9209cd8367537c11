import os
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from pathlib import PurePosixPath
from typing import Any
from typing import Unpack

from keras_mmrel.archives import GIBIBYTE
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._image_text import LENGTH
from keras_mmrel.datasets._image_text import TOKENIZER
from keras_mmrel.datasets._image_text import FirstLines
from keras_mmrel.datasets._image_text import own_media
from keras_mmrel.datasets._image_text import picture
from keras_mmrel.datasets._media_sets import PATH
from keras_mmrel.datasets._media_sets import Dropped
from keras_mmrel.datasets._media_sets import Preset
from keras_mmrel.datasets._media_sets import RawSet
from keras_mmrel.datasets._media_sets import Row
from keras_mmrel.datasets._media_sets import TableOptions
from keras_mmrel.datasets._media_sets import check_options
from keras_mmrel.datasets._media_sets import drop_absent
from keras_mmrel.datasets._media_sets import drop_repeated
from keras_mmrel.datasets._media_sets import make_tables
from keras_mmrel.datasets._media_sets import read_rows
from keras_mmrel.media import HashingTokenizer
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Medium
from keras_mmrel.media import Text

SET = RawSet(
    "CUB-200-2011",
    "get 'CUB_200_2011.tgz' from https://data.caltech.edu/records/65de6-vp158",
    16 * GIBIBYTE,
)
CAPTIONS = RawSet(
    "the captions of CUB-200-2011",
    "get them from https://github.com/reedscot/cvpr2016, unpack them, and name "
    "the folder 'text_c10'",
)
FILES = (
    "images",
    "images.txt",
    "image_class_labels.txt",
    "train_test_split.txt",
    "classes.txt",
)
BELOW = ("CUB_200_2011", "CUB_200_2011/CUB_200_2011")
# Captions of a picture, and words of one with some to spare.
PUBLISHED, WORDS = 10, 20


@constrained(
    path=PATH,
    captions=Either(PATH, None),
    num_captions=Integer(1, PUBLISHED),
    preset=Preset("crop", "stretch"),
    tokenizer=TOKENIZER,
    length=LENGTH,
)
def load_cub_raw(
    path: str | os.PathLike,
    preset: str | Mapping[str, Medium] = "crop",
    *,
    captions: str | os.PathLike | None = None,
    num_captions: int = PUBLISHED,
    tokenizer: Callable[[Any], Any] | str | None = None,
    length: int | None = None,
    **options: Unpack[TableOptions],
) -> tuple[MediaTable, MediaTable]:
    """Load CUB-200-2011: photographs of 200 kinds of birds, and captions.

    11,788 photographs, 5,994 for training and 5,794 for test as published,
    and ten captions of each. `load_cub` has features of ten of the classes
    instead. A photograph or a text that is not there is a missing modality; a
    sample without both is left out, counted and warned of.

    Nothing is downloaded. An archive is unpacked beside itself, into
    `<archive>.unpacked`, once.

    Args:
        path: The archive `CUB_200_2011.tgz`, or the folder `CUB_200_2011`
            with `images`, `images.txt`, `image_class_labels.txt`,
            `train_test_split.txt` and `classes.txt`, or one that holds it.
        preset: `"crop"`: the shorter side becomes 256, and the middle 224 x
            224 are cut out; `"stretch"` to 224 x 224; or a dict of media of
            your own, of the columns `"image"` and `"text"`, the second one of
            files.
        captions: The folder `text_c10` with `<class>/<image>.txt`, a caption
            a line; by default in `path` or beside it.
        num_captions: How many of the ten captions are read, one after the
            other, as one text.
        tokenizer: As in `keras_mmrel.media.Text`; by default
            `keras_mmrel.media.HashingTokenizer()`.
        length: Tokens of a text, by default 20 a caption.
        **options: Arguments of `keras_mmrel.media.MediaTable`, such as
            `batch_size`, `workers` and `on_error`.

    Returns:
        `train, test`: tables of the modalities `"image"` `(224, 224, 3)`,
        pixels in [0, 1], and `"text"`. The training one is shuffled. Classes
        are named and ordered as in `classes.txt`.

    Raises:
        FileNotFoundError: If a folder or file is not there.
        ValueError: If an annotation file is not as described, or an archive is
            not whole or has more than 16 GiB when unpacked.
        ImportError: If pandas or Pillow is not installed.

    Example:

    ```python
    train, test = load_cub_raw("data/CUB_200_2011", num_captions=1)
    ```

    References:
        - [Wah et al., 2011, The Caltech-UCSD Birds-200-2011
          Dataset](https://www.vision.caltech.edu/datasets/cub_200_2011/)
        - [Reed et al., 2016, Learning Deep Representations of Fine-grained
          Visual Descriptions](https://arxiv.org/abs/1605.05395): the
          captions.
    """
    check_options(options)
    root = SET.folder(path, FILES, BELOW)
    texts = _captions(path, root, captions)
    dropped = Dropped(SET.name)
    rows, names = _rows(root, texts, dropped)
    parts = []
    for flag, part in (("1", "training"), ("0", "test")):
        some = [row for row in rows if row["is_training"] == flag]
        files = ("image", "text")
        parts.append(drop_absent(some, "id", files, root, part, dropped))
    dropped.warn()
    train, test = make_tables(
        parts,
        _media(preset, num_captions, tokenizer, length),
        label="label",
        class_names=names,
        root=root,
        options=options,
    )
    return train, test


def _captions(
    path: str | os.PathLike, root: Path, given: str | os.PathLike | None
) -> Path:
    if given is not None:
        folder = Path(given).expanduser()
        if folder.is_dir() and not (folder / "text_c10").is_dir():
            return folder
        return (
            CAPTIONS.folder(given, ("text_c10",), (), "captions") / "text_c10"
        )
    named = Path(path).expanduser()
    beside = named.parent if named.is_file() else named
    for folder in (beside, root, root.parent):
        if (folder / "text_c10").is_dir():
            return folder / "text_c10"
    return CAPTIONS.folder(beside, ("text_c10",)) / "text_c10"


def _rows(
    root: Path, texts: Path, dropped: Dropped
) -> tuple[list[Row], list[str]]:
    """Return all samples and the names of the classes."""
    classes = _pairs(root / "classes.txt", "name", dropped)
    images = _pairs(root / "images.txt", "path", dropped)
    labels = _pairs(root / "image_class_labels.txt", "class", dropped)
    split = _pairs(root / "train_test_split.txt", "is_training", dropped)
    for name in sorted({*labels, *split} - {*images}):
        dropped.add("whose number is not in 'images.txt'", name)
    rows = []
    for name, image in images.items():
        label = classes.get(labels.get(name, ""))
        is_training = split.get(name)
        if label is None or is_training not in ("0", "1"):
            raise ValueError(
                f"Each image of {root / 'images.txt'} must have a class of "
                "'classes.txt' and a 0 or 1 in 'train_test_split.txt'. "
                f"Received: image {name!r}, {image!r}, with class "
                f"{labels.get(name)!r} and {is_training!r}"
            )
        caption = PurePosixPath(image).with_suffix(".txt")
        rows.append(
            {
                "id": name,
                "image": f"images/{image}",
                "text": str(texts.absolute() / caption),
                "label": label,
                "is_training": is_training,
            }
        )
    return rows, list(classes.values())


def _pairs(file: Path, column: str, dropped: Dropped) -> dict[str, str]:
    """Return number -> what a file says of it."""

    def parse(cells: dict[str, str]) -> Row:
        if not cells["id"].isdecimal():
            raise ValueError(f"{cells['id'][:80]!r} in the place of a number")
        return dict(cells)

    rows = read_rows(file, ("id", column), parse, delimiter=" ", wide=column)
    rows = drop_repeated(rows, "id", column, f"'{file.name}'", dropped)
    return {row["id"]: row[column] for row in rows}


def _media(
    preset: str | Mapping[str, Medium],
    num_captions: int,
    tokenizer: Callable[[Any], Any] | str | None,
    length: int | None,
) -> dict[str, Medium]:
    if not isinstance(preset, str):
        return own_media(preset, tokenizer=tokenizer, length=length)
    return {
        "image": picture("image", preset),
        "text": Text(
            "text",
            tokenizer=tokenizer or HashingTokenizer(),
            length=length or WORDS * num_captions,
            files=True,
            clean=FirstLines(num_captions),
        ),
    }
