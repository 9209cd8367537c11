import csv
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._download import PATH
from keras_mmrel.datasets._fsdd import FORMAT
from keras_mmrel.datasets._fsdd import Clip
from keras_mmrel.datasets._fsdd import load_clips
from keras_mmrel.datasets.av_digits import SEED
from keras_mmrel.datasets.av_digits import draw_parts
from keras_mmrel.datasets.av_digits import put
from keras_mmrel.datasets.av_digits import split_images
from keras_mmrel.datasets.av_digits import split_speakers
from keras_mmrel.optional import require

USER = "write_av_digits"
COLUMNS = ("audio", "video", "digit", "speaker")
CANVAS = 16
# How far a digit moves at most, in pixels of the canvas.
WAY = 3
# Pixels of the film for one of the canvas: what codecs are made for.
ENLARGED = 4
FRAMES_A_SECOND = 8
BIT_RATE = 2_000_000
# Of full scale: speakers are as loud as each other, and nothing is cut off.
PEAK = 0.9


@constrained(
    path=PATH,
    fold=Integer(0),
    clips=Integer(1),
    image_noise=Number(0),
    distractor=Flag(),
)
def write_av_digits(
    folder: str | os.PathLike,
    path: str | os.PathLike | None = None,
    fold: int = 0,
    clips: int = 50,
    image_noise: float = 0.2,
    distractor: bool = True,
) -> dict[str, Path]:
    """Write AV-digits as files: WAV, MP4, and a table of them for each split.

    The same spoken digits and the same splits as in `load_av_digits`, neither
    speakers nor images in two of them, but raw, as a user has them: so noise
    may get into the waveform, and a picture be blurred, before any front end.

    **Audio**: a clip of FSDD as it is, a third of a second to two, 8 kHz, one
    channel, 16 bits; its peak is at 0.9 of full scale.

    **Video**: one second of 8 grey frames, 64 x 64 pixels, by the codec MPEG-4.
    A random image of the digit moves across a canvas of 16 x 16, on which
    each pixel is a square of 4 x 4 in the film, by up to 3 in each direction.
    A 3 x 3 crop of another image stands still, and every frame has noise of
    its own.

    **Tables**: `train.csv`, `val.csv` and `test.csv` with the columns `audio`
    and `video`, paths relative to the folder, `digit` and `speaker`: what
    `keras_mmrel.media.MediaTable` takes.

    Everything random comes from a generator with the seed `1000 + fold`.
    Files that are there are written over. Pairing, movement and difficulty are
    this library's own choice.

    Args:
        folder: Where to; it is made if it is not there.
        path: Where FSDD is, as in `load_av_digits`.
        fold: Which speakers are for the test, as in `load_av_digits`.
        clips: Most clips of each digit of each speaker, of 50 in FSDD: the
            first ones in the order of the file names.
        image_noise: As in `load_av_digits`.
        distractor: As in `load_av_digits`.

    Returns:
        Dict of `"train"`, `"val"` and `"test"` to the path of the table.

    Raises:
        FileNotFoundError: If there is neither an archive nor a WAV file in
            `path`.
        OSError: If the download fails, or a file cannot be written.
        ValueError: If FSDD is not as published, or an option out of range.
        ImportError: If PyAV, soundfile or scikit-learn is not installed.

    Example:

    ```python
    from keras_mmrel import datasets, media

    tables = datasets.write_av_digits("av_digits", clips=20)
    train = media.MediaTable(
        tables["train"],
        {
            "audio": media.Audio("audio", sample_rate=8000, seconds=1.0),
            "video": media.Video("video", frames=4, size=16, channels=1),
        },
        label="digit",
    )
    ```

    References:
        - As of `keras_mmrel.datasets.load_av_digits`.
    """
    load_digits = require("sklearn.datasets", USER).load_digits
    chosen = _first(load_clips(path), clips)
    split_of = split_speakers(chosen, fold)
    digits = load_digits()
    rng = np.random.default_rng(SEED + fold)
    images = split_images(digits.images / 16, digits.target, rng)
    root = Path(folder)
    for part in ("audio", "video"):
        (root / part).mkdir(parents=True, exist_ok=True)
    tables = {}
    for split in ("train", "val", "test"):
        rows: list[tuple] = []
        for clip in chosen:
            if split_of[clip.speaker] != split:
                continue
            name = f"{split}_{len(rows):04}"
            row = (f"audio/{name}.wav", f"video/{name}.mp4")
            film = _film(
                *images[split], clip.digit, image_noise, distractor, rng
            )
            _write_sound(root / row[0], clip)
            _write_film(root / row[1], film)
            rows.append((*row, clip.digit, clip.speaker))
        tables[split] = root / f"{split}.csv"
        with open(tables[split], "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    return tables


def _first(clips: list[Clip], count: int) -> list[Clip]:
    """Return so many clips of each digit of each speaker, in their order."""
    seen: Counter[tuple[str, int]] = Counter()
    chosen = []
    for clip in clips:
        seen[clip.speaker, clip.digit] += 1
        if seen[clip.speaker, clip.digit] <= count:
            chosen.append(clip)
    return chosen


def _film(
    images: np.ndarray,
    labels: np.ndarray,
    digit: int,
    image_noise: float,
    distractor: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return frames in [0, 1]; the draws are the same for all options."""
    image, crop, crop_place, begin = draw_parts(
        images, labels, digit, CANVAS, rng
    )
    way = rng.integers(-WAY, WAY + 1, size=2)
    end = np.clip(begin + way, 0, CANVAS - len(image))
    noise = rng.standard_normal((FRAMES_A_SECOND, CANVAS, CANVAS))

    film = np.zeros_like(noise)
    places = np.linspace(begin, end, FRAMES_A_SECOND).round().astype(int)
    for frame, place in zip(film, places, strict=True):
        if distractor:
            put(frame, crop, *crop_place)
        put(frame, image, *place)
    return np.clip(film + image_noise * noise, 0, 1)


def _write_sound(path: Path, clip: Clip) -> None:
    samples = clip.samples * (PEAK / np.abs(clip.samples).max())
    soundfile = require("soundfile", USER)
    soundfile.write(path, samples, FORMAT[0], subtype="PCM_16")


def _write_film(path: Path, film: np.ndarray) -> None:
    av: Any = require("av", USER)
    pixels = np.rint(film * 255).astype("uint8")
    pixels = pixels.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=FRAMES_A_SECOND)
        stream.height, stream.width = pixels.shape[1:]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = BIT_RATE
        for grey in pixels:
            frame = av.VideoFrame.from_ndarray(grey, format="gray")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
