import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from keras_mmrel.archives import GIBIBYTE
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
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
from keras_mmrel.datasets._media_sets import refuse_pointers
from keras_mmrel.datasets._media_sets import refuse_shared
from keras_mmrel.media import Audio
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Medium
from keras_mmrel.media import Spectrogram
from keras_mmrel.media import Video

CREMAD = RawSet(
    "CREMA-D",
    "clone https://github.com/CheyneyComputerScience/CREMA-D with Git LFS",
    64 * GIBIBYTE,
)
SPLIT = RawSet(
    "CREMA-D's split",
    "get it from `data/CREMAD` of https://github.com/GeWu-Lab/OGM-GE_CVPR2022, "
    'or take split="speakers"',
)
CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
CLIP = re.compile(
    rf"([0-9]{{4}})_[A-Z]{{3}}_({'|'.join(CLASSES)})_[A-Z]{{1,2}}"
)
AUDIO = "AudioWAV"
VIDEO = "VideoFlash"
# A folder a clip of one picture a second, as OGM-GE's script makes them.
FRAMES = "Image-01-FPS"
FOLDS = 10


def _media(sample_rate: int, transform: Spectrogram) -> dict[str, Medium]:
    return {
        "audio": Audio(
            "audio",
            sample_rate=sample_rate,
            seconds=3.0,
            padding="repeat",
            transform=transform,
        ),
        "video": Video("video", frames=1, size=224, fit="stretch"),
    }


def _ogm_ge() -> dict[str, Medium]:
    return _media(22_050, Spectrogram(512, 353))


def _di_mml() -> dict[str, Medium]:
    density = Spectrogram(512, 512 - 353, "density", 16_000, standardize=True)
    return _media(16_000, density)


PRESETS = {"ogm_ge": _ogm_ge, "di_mml": _di_mml}


@constrained(
    path=PATH,
    preset=Preset(*PRESETS),
    split=Choice("published", "speakers"),
    fold=Either(Integer(0, FOLDS - 1), None),
    annotations=Either(PATH, None),
)
def load_cremad(
    path: str | os.PathLike,
    preset: str | Mapping[str, Medium] = "ogm_ge",
    *,
    split: str = "published",
    fold: int | None = None,
    annotations: str | os.PathLike | None = None,
    **options: Unpack[TableOptions],
) -> tuple[MediaTable, MediaTable]:
    """Load CREMA-D: six emotions, spoken and seen, as tables of files.

    7,442 clips of 91 actors. The split that papers on balanced learning use,
    6,698 clips for training and 744 for testing, has **every actor in both
    parts**, so it also measures how well voices and faces are remembered.
    `split="speakers"` has no actor in both: the actors 1001, 1011, 1021, ...
    are the test part of fold 0, the actors 1002, 1012, ... that of fold 1.

    Nothing is downloaded. An archive of the folder is unpacked beside itself,
    into `<archive>.unpacked`, once: clips are read from files, batch by
    batch. A clip whose sound or video is not there lacks this modality; one
    of which neither is there is left out. A warning counts both.

    Presets are named after the paper whose preprocessing they follow. Both
    have one frame, from the middle of the clip, of 224 x 224 in [0, 1],
    without these papers' random choice, crops, flips and scaling by
    ImageNet's mean:

    - `"ogm_ge"`: 3 s of sound at 22,050 Hz, repeated where a clip is shorter;
      magnitudes of frames of 512 samples, one every 353: (257, 188).
    - `"di_mml"`: 3 s at 16 kHz; densities of frames of 512 samples that
      overlap by 353, each clip standardised: (257, 299).

    Args:
        path: The repository's folder, or an archive of it, with `AudioWAV`
            and `VideoFlash` (or `Image-01-FPS`, folders of pictures that
            OGM-GE's script makes).
        preset: A name, or a dict of modality name -> medium, for the columns
            `"audio"` and `"video"`.
        split: `"published"`, or `"speakers"` for one without an actor in
            both parts, which is this library's own.
        fold: Which tenth of the actors the test part has, 0 to 9; `None` for
            0. Only with `split="speakers"`.
        annotations: Folder of the published split, `train.csv` and
            `test.csv`; by default `path`.
        **options: Arguments of `keras_mmrel.media.MediaTable`: `batch_size`,
            `shuffle`, `seed`, `on_error`, `cache`, `workers`,
            `use_multiprocessing`, `max_queue_size`. The training part is
            shuffled by default.

    Returns:
        `train, test`, two `MediaTable` of the columns `"clip"`, `"audio"`,
        `"video"`, `"emotion"` and `"actor"`. Classes: 0 NEU, 1 HAP, 2 SAD,
        3 FEA, 4 DIS, 5 ANG.

    Raises:
        FileNotFoundError: If a folder or a file of the split is not there.
        ValueError: If a file of the split is not as published, or an archive
            is not whole or has more than 64 GiB when unpacked.
        ImportError: If the extra `media` is not installed.

    Example:

    ```python
    train, test = load_cremad("CREMA-D", cache="cache", workers=4)
    model = keras_mmrel.ConcatFusion(
        {"audio": (257, 188), "video": my_encoder}, train.num_classes
    )
    model.compile()
    model.fit(train, validation_data=test, epochs=30)
    ```

    References:
        - [Cao et al., 2014, CREMA-D: Crowd-sourced emotional multimodal
          actors dataset](https://doi.org/10.1109/TAFFC.2014.2336244)
        - [Peng et al., 2022, Balanced multimodal learning via on-the-fly
          gradient modulation](https://arxiv.org/abs/2203.15332)
        - [Fan et al., 2024, Detached and interactive multimodal
          learning](https://arxiv.org/abs/2407.19514)
    """
    check_options(options)
    if fold is not None and split == "published":
        raise ValueError(
            '`fold` must only stand with split="speakers". Received: '
            f"fold={fold!r}"
        )
    root = CREMAD.folder(path, (AUDIO, f"{VIDEO}|{FRAMES}"), ("CREMA-D",))
    dropped = Dropped("CREMA-D")
    if split == "published":
        folder = root if annotations is None else annotations
        parts = _published(folder, root, dropped)
    else:
        parts = _by_speakers(root, fold or 0, dropped)
    refuse_shared(parts, "clip")
    kept = [
        drop_absent(rows, "clip", ("audio", "video"), root, part, dropped)
        for part, rows in parts.items()
    ]
    refuse_pointers(kept[0], "audio", root)
    dropped.warn()
    train, test = make_tables(
        kept,
        PRESETS[preset]() if isinstance(preset, str) else preset,
        label="emotion",
        class_names=CLASSES,
        root=root,
        options=options,
    )
    return train, test


def _published(
    folder: str | os.PathLike, root: Path, dropped: Dropped
) -> dict[str, list[Row]]:
    files = {"training": "train.csv", "test": "test.csv"}
    found = SPLIT.folder(folder, tuple(files.values()), argument="annotations")

    def parse(cells: dict[str, str]) -> Row:
        row = _row(cells["clip"], root)
        if row["emotion"] != cells["emotion"]:
            raise ValueError(f"{cells['clip']!r} with {cells['emotion']!r}")
        return row

    return {
        part: drop_repeated(
            read_rows(found / name, ("clip", "emotion"), parse),
            "clip",
            "emotion",
            part,
            dropped,
        )
        for part, name in files.items()
    }


def _by_speakers(
    root: Path, fold: int, dropped: Dropped
) -> dict[str, list[Row]]:
    names = {
        file.stem if file.is_file() else file.name
        for folder in (AUDIO, VIDEO, FRAMES)
        if (root / folder).is_dir()
        for file in (root / folder).iterdir()
        if not file.name.startswith(".")
    }
    parts: dict[str, list[Row]] = {"training": [], "test": []}
    for name in sorted(names):
        if not CLIP.fullmatch(name):
            dropped.add("whose names are those of no clips", name)
            continue
        row = _row(name, root)
        is_test = (int(row["actor"]) - 1001) % FOLDS == fold
        parts["test" if is_test else "training"].append(row)
    return parts


def _row(clip: str, root: Path) -> Row:
    fields = CLIP.fullmatch(clip)
    if not fields:
        raise ValueError(f"{clip!r}, not <actor>_<sentence>_<EMOTION>_<level>")
    video = f"{VIDEO}/{clip}.flv"
    if not (root / video).is_file() and (root / FRAMES).is_dir():
        video = f"{FRAMES}/{clip}"
    return {
        "clip": clip,
        "audio": f"{AUDIO}/{clip}.wav",
        "video": video,
        "emotion": fields[2],
        "actor": fields[1],
    }
