import os
import re
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from keras_mmrel.archives import GIBIBYTE
from keras_mmrel.constraints import ClassNames
from keras_mmrel.constraints import Either
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
from keras_mmrel.datasets._media_sets import refuse_shared
from keras_mmrel.media import Audio
from keras_mmrel.media import KaldiFilterBank
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Medium
from keras_mmrel.media import Spectrogram
from keras_mmrel.media import Video

CLIPS = RawSet(
    "Kinetics-Sounds",
    "get clips from https://github.com/cvdfoundation/kinetics-dataset",
    512 * GIBIBYTE,
)
SPLIT = RawSet(
    "Kinetics-Sounds' split",
    "get it from `data/KineticSound` of "
    "https://github.com/GeWu-Lab/OGM-GE_CVPR2022",
)
FILES = {"training": "my_train.txt", "test": "my_test.txt"}
ID = re.compile("[A-Za-z0-9_-]{11}(_[0-9]+)+")
NUM_CLASSES = 31
# Mean and standard deviation by which OGM-GE's script scales the bank.
MEAN, STD = -4.503877, 5.141276
SOUNDS = {".wav", ".flac"}
VIDEOS = {".avi", ".flv", ".mkv", ".mp4", ".webm"}
PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
# What a clip has, by the kind of file; the earlier is taken.
COLUMNS = {"audio": ("sound", "video"), "video": ("frames", "video")}

NOTHING = dict.fromkeys(COLUMNS, "")


def _frames() -> Video:
    return Video("video", frames=3, size=224, fit="stretch")


def _ogm_ge(training: bool) -> Mapping[str, Medium]:
    bank = KaldiFilterBank(16_000, 128, 1024, MEAN, 2 * STD)
    audio = Audio("audio", sample_rate=16_000, seconds=10.0, transform=bank)
    return {"audio": audio, "video": _frames()}


def _stft(training: bool) -> Mapping[str, Medium]:
    audio = Audio(
        "audio",
        sample_rate=16_000,
        seconds=5.0,
        start="random" if training else "middle",
        padding="repeat",
        transform=Spectrogram(256, 128),
    )
    return {"audio": audio, "video": _frames()}


PRESETS = {"ogm_ge": _ogm_ge, "stft": _stft}


@constrained(
    path=PATH,
    preset=Preset(*PRESETS),
    class_names=Either(ClassNames(), None),
    annotations=Either(PATH, None),
)
def load_kinetics_sounds(
    path: str | os.PathLike,
    preset: str | Mapping[str, Medium] = "ogm_ge",
    *,
    class_names: Sequence[str] | None = None,
    annotations: str | os.PathLike | None = None,
    **options: Unpack[TableOptions],
) -> tuple[MediaTable, MediaTable]:
    """Load Kinetics-Sounds: 31 actions, heard and seen, as tables of files.

    The split of OGM-GE: 14,799 clips of ten seconds for training and 2,597
    for testing. Its labels are the numbers 0 to 30; what they are called is
    not published with it, so names are the user's to give.

    Clips are found by their ids (`--4-0ihtnBU_000058_000068`), wherever they
    are below `path`, in folders of classes or of parts, say: `<id>.wav` (or
    FLAC) for the sound, a folder `<id>` of pictures, one a second, or
    `<id>.mp4` (or AVI, FLV, MKV, WebM) for the video, whose own sound is
    taken where there is no other file of it. Nothing is downloaded. An
    archive is unpacked beside itself, into `<archive>.unpacked`, once. A clip
    that lacks sound or video lacks this modality; one of which nothing is
    there is left out, which is usual: many videos have gone from where they
    were. A warning counts both.

    Presets follow the preprocessing of other papers. Both have three frames,
    the middles of three equal parts, of 224 x 224 in [0, 1], without these
    papers' random moments, crops, flips and scaling by ImageNet's mean:

    - `"ogm_ge"`, that of OGM-GE: 10 s of sound at 16 kHz, silence where a
      clip is shorter; Kaldi's filter bank of 128 triangles, 1,024 frames of
      10 ms, scaled by mean -4.503877 and twice the standard deviation
      5.141276: (1024, 128).
    - `"stft"`, that of several others: 5 s at 16 kHz, from a random place in
      training and from the middle in testing, repeated where a clip is
      shorter; magnitudes of frames of 256 samples, one every 128: (129, 626).
      What is random is not cached.

    Args:
        path: A folder of clips, or an archive of it.
        preset: A name, or a dict of modality name -> medium, for the columns
            `"audio"` and `"video"`.
        class_names: Names of the 31 classes in the order of their numbers; by
            default their numbers, as texts.
        annotations: Folder of the split, `my_train.txt` and `my_test.txt`; by
            default `path`.
        **options: Arguments of `keras_mmrel.media.MediaTable`: `batch_size`,
            `shuffle`, `seed`, `on_error`, `cache`, `workers`,
            `use_multiprocessing`, `max_queue_size`. The training part is
            shuffled by default.

    Returns:
        `train, test`, two `MediaTable` of the columns `"id"`, `"audio"`,
        `"video"` and `"label"`.

    Raises:
        FileNotFoundError: If the folder or a file of the split is not there.
        ValueError: If a file of the split is not as published, two clips have
            one id, or an archive is not whole or has more than 512 GiB when
            unpacked.
        ImportError: If the extra `media` is not installed.

    Example:

    ```python
    train, test = load_kinetics_sounds("kinetics", "stft", annotations="ks")
    train.shapes  # {"audio": (129, 626), "video": (3, 224, 224, 3)}
    ```

    References:
        - [Arandjelovic and Zisserman, 2017, Look, listen and
          learn](https://arxiv.org/abs/1705.08168)
        - [Peng et al., 2022, Balanced multimodal learning via on-the-fly
          gradient modulation](https://arxiv.org/abs/2203.15332)
    """
    check_options(options)
    if class_names is not None and len(class_names) != NUM_CLASSES:
        raise ValueError(
            f"`class_names` must be {NUM_CLASSES} names. Received: "
            f"{len(class_names)}"
        )
    root = CLIPS.folder(path, ())
    folder = SPLIT.folder(
        root if annotations is None else annotations,
        tuple(FILES.values()),
        argument="annotations",
    )
    dropped = Dropped("Kinetics-Sounds")
    parts = {
        part: drop_repeated(
            read_rows(folder / name, ("id", "seconds", "label"), _parse),
            "id",
            "label",
            part,
            dropped,
        )
        for part, name in FILES.items()
    }
    refuse_shared(parts, "id")
    clips = _find(root, {row["id"] for rows in parts.values() for row in rows})
    kept = []
    for part, rows in parts.items():
        found = [{**row, **clips.get(row["id"], NOTHING)} for row in rows]
        files = tuple(COLUMNS)
        kept.append(drop_absent(found, "id", files, root, part, dropped))
    dropped.warn()
    if isinstance(preset, str):
        media, test_media = (PRESETS[preset](on) for on in (True, False))
    else:
        media = test_media = preset
    train, test = make_tables(
        kept,
        media,
        label="label",
        class_names=class_names or [str(i) for i in range(NUM_CLASSES)],
        root=root,
        options=options,
        test_modalities=test_media,
    )
    return train, test


def _parse(cells: dict[str, str]) -> Row:
    if not ID.fullmatch(cells["id"]):
        raise ValueError(f"the id {cells['id']!r}")
    if not 0 <= float(cells["seconds"]) <= 3600:
        raise ValueError(f"{cells['seconds']!r} seconds")
    label = int(cells["label"])
    if not 0 <= label < NUM_CLASSES:
        raise ValueError(f"the label {label}, not from 0 to {NUM_CLASSES - 1}")
    return {"id": cells["id"], "label": label}


def _find(root: Path, ids: set[str]) -> dict[str, dict[str, str]]:
    """Return what there is of each clip, relative to the root."""
    found: dict[str, dict[str, str]] = {}

    def add(clip: str, kind: str, path: Path) -> None:
        kinds = found.setdefault(clip, {})
        relative = path.relative_to(root).as_posix()
        if kind in kinds:
            raise ValueError(
                f"Each clip must be below {root} once. Received: "
                f"{kinds[kind]!r} and {relative!r}"
            )
        kinds[kind] = relative

    for name, _, files in os.walk(root, followlinks=True):
        folder = Path(name)
        suffixes = {Path(file).suffix.lower() for file in files}
        if folder.name in ids and suffixes & PICTURES:
            add(folder.name, "frames", folder)
        for file in files:
            stem, suffix = os.path.splitext(file)
            if stem in ids and suffix.lower() in SOUNDS | VIDEOS:
                kind = "sound" if suffix.lower() in SOUNDS else "video"
                add(stem, kind, folder / file)
    return {
        clip: {
            column: next((has[k] for k in kinds if k in has), "")
            for column, kinds in COLUMNS.items()
        }
        for clip, has in found.items()
    }
