import os
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import Unpack

from keras_mmrel.archives import GIBIBYTE
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._image_text import LENGTH
from keras_mmrel.datasets._image_text import TOKENIZER
from keras_mmrel.datasets._image_text import peers_media
from keras_mmrel.datasets._json_lines import read_json_lines
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
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Medium

SET = RawSet(
    "UPMC FOOD101",
    "its authors' page is gone, a copy with these folders is "
    "https://www.kaggle.com/datasets/gianmarco96/upmcfood101",
    64 * GIBIBYTE,
)
COLUMNS = ("image_path", "text", "label")
ENCODINGS = ("utf-8-sig", "latin-1")


@constrained(
    path=PATH,
    preset=Preset("qmf", "balancebenchmark"),
    tokenizer=TOKENIZER,
    length=LENGTH,
    validation=Either(PATH, None),
)
def load_food101(
    path: str | os.PathLike,
    preset: str | Mapping[str, Medium] = "qmf",
    *,
    tokenizer: Callable[[Any], Any] | str | None = None,
    length: int | None = None,
    validation: str | os.PathLike | None = None,
    **options: Unpack[TableOptions],
) -> tuple[MediaTable, ...]:
    """Load UPMC FOOD101: photographs of dishes and titles of their pages.

    101 classes, about 90,000 pictures from the web, with the published
    training and test part. There is no published validation part;
    `validation` takes one away from training. Two customs of the files of
    titles are read, without a header and with `Image_path,text,label`. A
    picture that is not there, or a row without a title, is a missing
    modality; a sample that repeats an earlier one is left out, counted and
    warned of.

    Nothing is downloaded. An archive is unpacked beside itself, into
    `<archive>.unpacked`, once.

    Args:
        path: The archive, or the folder with
            `images/{train,test}/<class>/<file>.jpg`, `texts/train_titles.csv`
            and `texts/test_titles.csv`.
        preset: Peers' preprocessing. `"qmf"`: the shorter side becomes 256,
            and the middle 224 x 224 are cut out. `"balancebenchmark"`:
            stretched to 224 x 224; a "RT" in front of a title, links and "#"
            are taken out, and 40 tokens are left. Pixels are in [0, 1]; what
            peers subtract and divide by is left to the encoder. Or a dict of
            media of your own, of the columns `"image"` and `"text"`.
        tokenizer: As in `keras_mmrel.media.Text`; by default
            `keras_mmrel.media.HashingTokenizer()`, where peers have BERT's.
        length: Tokens of a title, by default 64 or what the preset says.
        validation: File of JSON lines whose `img` names the training samples
            that are for validation, such as QMF's `dev.jsonl` with 5,000.
        **options: Arguments of `keras_mmrel.media.MediaTable`, such as
            `batch_size`, `workers` and `on_error`.

    Returns:
        `train, test`, or `train, validation, test`: tables of the modalities
        `"image"` `(224, 224, 3)` and `"text"`. The training one is shuffled.
        Classes are the sorted names of their folders.

    Raises:
        FileNotFoundError: If `path` holds no such folders and files.
        ValueError: If a file of titles is not as described, or an archive is
            not whole or has more than 64 GiB when unpacked.
        ImportError: If pandas or Pillow is not installed.

    Example:

    ```python
    train, validation, test = load_food101(
        "data/food101", validation="data/food101/dev.jsonl", batch_size=64
    )
    ```

    References:
        - [Wang et al., 2015, Recipe recognition with large multimodal food
          dataset](https://doi.org/10.1109/ICMEW.2015.7169757)
        - [Zhang et al., 2023, Provable Dynamic Fusion for Low-Quality
          Multimodal Data](https://arxiv.org/abs/2306.02050): QMF.
        - [Xu et al., 2025, BalanceBenchmark](https://arxiv.org/abs/2502.10816)
    """
    check_options(options)
    root = SET.folder(
        path,
        (
            "images/train",
            "images/test",
            "texts/train_titles.csv",
            "texts/test_titles.csv",
        ),
        ("UPMC_Food101", "UPMC-Food-101", "food101"),
    )
    dropped = Dropped(SET.name)
    train = _part(root, "train", "training", dropped)
    test = _part(root, "test", "test", dropped)
    parts = [train, test]
    if validation is not None:
        held_out = _named_in(Path(validation).expanduser(), train)
        parts = [
            [row for row in train if row["image"] not in held_out],
            [row for row in train if row["image"] in held_out],
            test,
        ]
    dropped.warn()
    return make_tables(
        parts,
        peers_media(preset, tokenizer, length),
        label="label",
        class_names=sorted({row["label"] for row in train}),
        root=root,
        options=options,
    )


def _part(root: Path, folder: str, part: str, dropped: Dropped) -> list[Row]:
    def parse(cells: dict[str, str]) -> Row:
        # Some have only the file's name, others a path.
        file = cells["image_path"].replace("\\", "/").rpartition("/")[2]
        if not file.lower().endswith((".jpg", ".jpeg", ".png")):
            raise ValueError(f"{file[:80]!r} in the place of a picture")
        label = cells["label"]
        if label in ("", ".", "..") or "/" in label or "\\" in label:
            raise ValueError(f"{label[:80]!r} in the place of a class")
        if "\n" in cells["text"] and ".jpg," in cells["text"]:
            raise ValueError("a quotation mark that is not closed")
        return {
            "image": f"images/{folder}/{label}/{file}",
            "text": cells["text"],
            "label": label,
        }

    rows = read_rows(
        root / "texts" / f"{folder}_titles.csv",
        COLUMNS,
        parse,
        quoted=True,
        wide="text",
        headers=[COLUMNS],
        encodings=ENCODINGS,
    )
    kept = []
    for row in drop_repeated(rows, "image", "label", part, dropped):
        if row["text"] or (root / row["image"]).exists():
            kept.append(row)
        else:
            dropped.add("without a picture or a title", row["image"])
    return kept


def _named_in(file: Path, rows: list[Row]) -> set[str]:
    """Return which pictures of training a file of JSON lines names."""
    known = {row["image"] for row in rows}
    named = set()
    for number, image in read_json_lines(file, "img"):
        if image not in known:
            raise ValueError(
                "`validation` must name pictures of the training part. "
                f"Received: {image[:80]!r} in line {number} of {file}"
            )
        named.add(image)
    if not 0 < len(named) < len(rows):
        raise ValueError(
            "`validation` must name some of the training samples, not all. "
            f"Received: {len(named):,} of {len(rows):,} in {file}"
        )
    return named
