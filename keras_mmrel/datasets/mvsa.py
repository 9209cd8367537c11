import os
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import Unpack

from keras_mmrel.archives import GIBIBYTE
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._image_text import ENCODINGS
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
from keras_mmrel.datasets._media_sets import drop_absent
from keras_mmrel.datasets._media_sets import drop_repeated
from keras_mmrel.datasets._media_sets import make_tables
from keras_mmrel.datasets._media_sets import read_rows
from keras_mmrel.datasets._split import stratified_parts
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Medium

SET = RawSet(
    "MVSA-Single",
    "get it from its authors at http://mcrlab.net/research/mvsa-sentiment-"
    "analysis-on-multi-view-social-data",
    8 * GIBIBYTE,
)
CLASSES = ("negative", "neutral", "positive")
PARTS = ("train", "dev", "test")
# Shares of validation and of test, QMF's.
SHARES = (0.2, 0.2)


@constrained(
    path=PATH,
    labels=Choice("merge", "agree"),
    preset=Preset("qmf", "balancebenchmark"),
    tokenizer=TOKENIZER,
    length=LENGTH,
    splits=Either(PATH, None),
)
def load_mvsa(
    path: str | os.PathLike,
    preset: str | Mapping[str, Medium] = "qmf",
    *,
    labels: str = "merge",
    tokenizer: Callable[[Any], Any] | str | None = None,
    length: int | None = None,
    splits: str | os.PathLike | None = None,
    **options: Unpack[TableOptions],
) -> tuple[MediaTable, MediaTable, MediaTable]:
    """Load MVSA-Single: tweets of a picture and a text, and their sentiment.

    4,869 pairs, each of which has one label of the text and one of the
    picture. **Two customs make one of the two**, which give other data: by
    `"merge"` a neutral one gives way, and pairs whose labels are opposite are
    left out (358; 2,683 positive, 1,358 negative and 470 neutral stay);
    `"agree"` keeps the 2,592 pairs with the same label twice. What is left
    out is counted and warned of, and so is a pair without any file; where
    only one of the two files is there, the other is a missing modality.

    No split is published. The one here, 60 % for training, 20 % for
    validation and 20 % for test of each class, always the same, is this
    library's own choice; `splits` takes another.

    Nothing is downloaded. An archive is unpacked beside itself, into
    `<archive>.unpacked`, once.

    Args:
        path: The archive, or the folder with `labelResultAll.txt`,
            `data/<ID>.jpg` and `data/<ID>.txt`.
        preset: Peers' preprocessing, as in `load_food101`: `"qmf"`,
            `"balancebenchmark"`, or media of your own, of the columns
            `"image"` and `"text"`, the second one of files. Texts are read
            as UTF-8, or else as GB18030, or else as Latin-1.
        labels: `"merge"` or `"agree"`.
        tokenizer: As in `keras_mmrel.media.Text`; by default
            `keras_mmrel.media.HashingTokenizer()`, where peers have BERT's.
        length: Tokens of a text, by default 64 or what the preset says.
        splits: Folder with `train.jsonl`, `dev.jsonl` and `test.jsonl` whose
            `id` names the pairs of each part, as QMF publishes for
            `labels="agree"` (1,555, 518 and 519).
        **options: Arguments of `keras_mmrel.media.MediaTable`, such as
            `batch_size`, `workers` and `on_error`.

    Returns:
        `train, validation, test`: tables of the modalities `"image"`
        `(224, 224, 3)` and `"text"`, and of the classes negative, neutral and
        positive. The training one is shuffled.

    Raises:
        FileNotFoundError: If `path` or `splits` holds no such files.
        ValueError: If a file is not as described, no file of any pair is
            there, or an archive is not whole or has more than 8 GiB when
            unpacked.
        ImportError: If pandas or Pillow is not installed.

    Example:

    ```python
    train, validation, test = load_mvsa("data/MVSA_Single", labels="agree")
    ```

    References:
        - [Niu et al., 2016, Sentiment Analysis on Multi-View Social
          Data](https://doi.org/10.1007/978-3-319-27674-8_2)
        - [Zhang et al., 2023, Provable Dynamic Fusion for Low-Quality
          Multimodal Data](https://arxiv.org/abs/2306.02050): QMF.
    """
    check_options(options)
    root = SET.folder(
        path, ("labelResultAll.txt", "data"), ("MVSA_Single", "MVSA-single")
    )
    dropped = Dropped(SET.name)
    rows = _labelled(_read(root / "labelResultAll.txt"), labels, dropped)
    rows = drop_repeated(rows, "id", "label", "annotated", dropped)
    if splits is None:
        parts = [
            [rows[n] for n in some]
            for some in stratified_parts([r["label"] for r in rows], SHARES)
        ]
    else:
        parts = _split_by(Path(splits).expanduser(), rows, dropped)
    names = ("training", "validation", "test")
    parts = [
        drop_absent(part, "id", ("image", "text"), root, name, dropped)
        for name, part in zip(names, parts, strict=True)
    ]
    dropped.warn()
    train, validation, test = make_tables(
        parts,
        peers_media(preset, tokenizer, length, files=True, encodings=ENCODINGS),
        label="label",
        class_names=CLASSES,
        root=root,
        options=options,
    )
    return train, validation, test


def _read(file: Path) -> list[Row]:
    """Return the labels of all pairs, of each modality alone."""

    def parse(cells: dict[str, str]) -> Row:
        name, found = cells["id"], cells["text,image"].split(",")
        both = [label.strip().lower() for label in found]
        if not name.isdecimal():
            raise ValueError(f"{name[:80]!r} in the place of a number")
        if len(both) != 2 or not set(both) <= set(CLASSES):
            raise ValueError(f"{cells['text,image'][:80]!r}, not two labels")
        return {
            "id": name,
            "image": f"data/{name}.jpg",
            "text": f"data/{name}.txt",
            "text_label": both[0],
            "image_label": both[1],
        }

    return read_rows(
        file,
        ("id", "text,image"),
        parse,
        delimiter="\t",
        headers=[("id", "text,image")],
    )


def _labelled(rows: list[Row], custom: str, dropped: Dropped) -> list[Row]:
    """Return the rows that have a label by a custom, with it."""
    kept = []
    for row in rows:
        pair = [row["text_label"], row["image_label"]]
        polar = sorted({label for label in pair if label != "neutral"})
        if custom == "agree" and pair[0] != pair[1]:
            dropped.add("whose two labels differ", row["id"])
        elif len(polar) > 1:
            dropped.add("whose two labels are opposite", row["id"])
        else:
            kept.append({**row, "label": polar[0] if polar else "neutral"})
    return kept


def _split_by(
    folder: Path, rows: list[Row], dropped: Dropped
) -> list[list[Row]]:
    """Return the rows that three files of JSON lines name."""
    left = {row["id"]: row for row in rows}
    known, parts = set(left), []
    for name in PARTS:
        file, part = folder / f"{name}.jsonl", []
        for number, sample in read_json_lines(file, "id"):
            if sample not in left:
                why = "named before" if sample in known else "without a label"
                raise ValueError(
                    "`splits` must name pairs that have a label by `labels`, "
                    f"each once. Received: {sample[:80]!r} in line {number} "
                    f"of {file}, {why}"
                )
            part.append(left.pop(sample))
        parts.append(part)
    for sample in left:
        dropped.add("in none of the `splits`", sample)
    return parts
