import os
import re
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from keras_mmrel.archives import GIBIBYTE
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._media_sets import PATH
from keras_mmrel.datasets._media_sets import Dropped
from keras_mmrel.datasets._media_sets import Preset
from keras_mmrel.datasets._media_sets import RawSet
from keras_mmrel.datasets._media_sets import Row
from keras_mmrel.datasets._media_sets import TableOptions
from keras_mmrel.datasets._media_sets import check_options
from keras_mmrel.datasets._media_sets import drop_absent
from keras_mmrel.datasets._media_sets import make_tables
from keras_mmrel.datasets._media_sets import read_rows
from keras_mmrel.media import Audio
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Medium
from keras_mmrel.media import Spectrogram
from keras_mmrel.media import Video
from keras_mmrel.user_warning import warn

AVE = RawSet(
    "AVE",
    "get `AVE_Dataset.zip` from https://github.com/YapengTian/AVE-ECCV18",
    32 * GIBIBYTE,
)
VIDEOS = "AVE"
FILES = {
    "training": "trainSet.txt",
    "validation": "valSet.txt",
    "test": "testSet.txt",
}
COLUMNS = ("category", "id", "quality", "start", "end")
HEADER = ("category", "videoid", "quality", "starttime", "endtime")
ID = re.compile("[A-Za-z0-9_-]{11}")


def _di_mml() -> dict[str, Medium]:
    density = Spectrogram(512, 512 - 353, "density", 16_000, standardize=True)
    audio = Audio(
        "audio",
        sample_rate=16_000,
        seconds=10.0,
        start="start",
        end="end",
        padding="repeat",
        transform=density,
    )
    video = Video(
        "video", frames=4, size=224, start="start", end="end", fit="stretch"
    )
    return {"audio": audio, "video": video}


PRESETS = {"di_mml": _di_mml}


@constrained(
    path=PATH,
    preset=Preset(*PRESETS),
    drop_leaks=Flag(),
    repeated=Choice("keep", "first", "drop"),
)
def load_ave(
    path: str | os.PathLike,
    preset: str | Mapping[str, Medium] = "di_mml",
    *,
    drop_leaks: bool = False,
    repeated: str = "keep",
    **options: Unpack[TableOptions],
) -> tuple[MediaTable, MediaTable, MediaTable]:
    """Load AVE: events that are heard and seen, as tables of files.

    28 classes; 3,338 rows for training, 402 for validation and 402 for
    testing, each a segment of a video of ten seconds. These are 3,311, 401
    and 402 videos: **8 videos of the training part are in the test part,
    too, and 10 in the validation part**, and 45 have two categories, mostly
    two rows of one part. A warning counts what is found of it;
    `drop_leaks=True` leaves the 18 videos out of the training part, and the
    other parts what they are.

    Nothing is downloaded. An archive is unpacked beside itself, into
    `<archive>.unpacked`, once: videos are read from files, batch by batch. A
    row whose video is not there is left out, which a warning counts.

    The preset is named after the paper whose preprocessing it follows,
    `"di_mml"`: the segment's sound at 16 kHz, repeated up to 10 s; densities
    of frames of 512 samples that overlap by 353, each clip standardised:
    (257, 1004). Four frames of the segment, the middles of equal parts, of
    224 x 224 in [0, 1], without its random choice, crops, flips and scaling
    by ImageNet's mean.

    Args:
        path: The archive `AVE_Dataset.zip`, or the folder `AVE_Dataset` with
            the folder `AVE` of MP4 files and `trainSet.txt`, `valSet.txt` and
            `testSet.txt`.
        preset: A name, or a dict of modality name -> medium, for the columns
            `"audio"` and `"video"` (one file), `"start"` and `"end"`
            (seconds).
        drop_leaks: Whether videos that stand in the validation or test part
            are left out of the training part.
        repeated: What becomes of a video that stands in one part with two
            categories: `"keep"` both rows, as published, the `"first"`, or
            `"drop"` both.
        **options: Arguments of `keras_mmrel.media.MediaTable`: `batch_size`,
            `shuffle`, `seed`, `on_error`, `cache`, `workers`,
            `use_multiprocessing`, `max_queue_size`. The training part is
            shuffled by default: its rows come class by class.

    Returns:
        `train, validation, test`, three `MediaTable` of the columns `"id"`,
        `"audio"`, `"video"`, `"category"`, `"quality"`, `"start"` and
        `"end"`. Classes are the sorted categories of all parts.

    Raises:
        FileNotFoundError: If a folder or a file of the split is not there.
        ValueError: If a file of the split is not as published, or an archive
            is not whole or has more than 32 GiB when unpacked.
        ImportError: If the extra `media` is not installed.

    Example:

    ```python
    train, validation, test = load_ave("AVE_Dataset", drop_leaks=True)
    train.shapes  # {"audio": (257, 1004), "video": (4, 224, 224, 3)}
    train.class_names[:2]  # ["Accordion", "Acoustic guitar"]
    ```

    References:
        - [Tian et al., 2018, Audio-visual event localization in unconstrained
          videos](https://arxiv.org/abs/1803.08842)
        - [Fan et al., 2024, Detached and interactive multimodal
          learning](https://arxiv.org/abs/2407.19514)
    """
    check_options(options)
    holds = (VIDEOS, *FILES.values())
    root = AVE.folder(path, holds, ("AVE_Dataset",))
    parts = {part: _read(root / name) for part, name in FILES.items()}
    names = sorted({r["category"] for rows in parts.values() for r in rows})
    dropped = Dropped("AVE")
    leaks = _leaks(parts)
    if drop_leaks:
        parts["training"] = _without(parts["training"], leaks, dropped)
        leaks = {}
    for part, rows in parts.items():
        parts[part] = _once(rows, repeated, part, dropped)
    _tell(parts, leaks)
    kept = []
    for part, rows in parts.items():
        files = ("audio", "video")
        kept.append(drop_absent(rows, "id", files, root, part, dropped))
    dropped.warn()
    train, validation, test = make_tables(
        kept,
        PRESETS[preset]() if isinstance(preset, str) else preset,
        label="category",
        class_names=names,
        root=root,
        options=options,
    )
    return train, validation, test


def _read(file: Path) -> list[Row]:
    return read_rows(file, COLUMNS, _parse, delimiter="&", headers=[HEADER])


def _parse(cells: dict[str, str]) -> Row:
    if not cells["category"] or not ID.fullmatch(cells["id"]):
        raise ValueError(f"{cells['category']!r} with the id {cells['id']!r}")
    start, end = float(cells["start"]), float(cells["end"])
    if not 0 <= start < end <= 3600:
        raise ValueError(f"a segment from {start:g} to {end:g}")
    file = f"{VIDEOS}/{cells['id']}.mp4"
    return {**cells, "audio": file, "video": file, "start": start, "end": end}


def _leaks(parts: Mapping[str, Sequence[Row]]) -> dict[str, set[str]]:
    """Return the videos of the training part that each other part has."""
    ids = {part: {row["id"] for row in rows} for part, rows in parts.items()}
    train = ids.pop("training")
    return {part: train & others for part, others in ids.items()}


def _without(
    rows: Sequence[Row], leaks: Mapping[str, set[str]], dropped: Dropped
) -> list[Row]:
    kept = []
    for row in rows:
        others = [part for part, ids in leaks.items() if row["id"] in ids]
        if others:
            reason = f"of the training part that the {others[0]} part has"
            dropped.add(reason, row["id"])
        else:
            kept.append(row)
    return kept


def _categories(rows: Iterable[Row]) -> dict[str, set[str]]:
    """Return the categories of each video."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row["id"]].add(row["category"])
    return found


def _once(
    rows: Sequence[Row], repeated: str, part: str, dropped: Dropped
) -> list[Row]:
    """Leave out rows that repeat others, and of two categories as is said."""
    categories = _categories(rows)
    kept: dict[tuple, Row] = {}
    seen: set[str] = set()
    for row in rows:
        key = tuple(row[name] for name in COLUMNS)
        has_two = len(categories[row["id"]]) > 1
        if key in kept:
            dropped.add(f"that are in the {part} part already", row["id"])
        elif has_two and (
            repeated == "drop" or (repeated == "first" and row["id"] in seen)
        ):
            reason = f"of the {part} part with a second category of a video"
            dropped.add(reason, row["id"])
        else:
            kept[key] = row
            seen.add(row["id"])
    return list(kept.values())


def _tell(
    parts: Mapping[str, Sequence[Row]], leaks: Mapping[str, set[str]]
) -> None:
    """Warn of videos that are in two parts, or with two categories."""
    counts = {
        f"in the training part and in the {part} part": len(ids)
        for part, ids in leaks.items()
    }
    rows = [row for part in parts.values() for row in part]
    several = [names for names in _categories(rows).values() if len(names) > 1]
    counts["with two categories"] = len(several)
    told = [f"{n} video(s) {where}" for where, n in counts.items() if n]
    if told:
        hint = "; `drop_leaks=True` takes the former out of the training part"
        warn(f"AVE has {' and '.join(told)}{hint * any(leaks.values())}.")
