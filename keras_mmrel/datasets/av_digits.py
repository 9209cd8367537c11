import os

import numpy as np

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._download import PATH
from keras_mmrel.datasets._fsdd import Clip
from keras_mmrel.datasets._fsdd import load_clips
from keras_mmrel.datasets._spectrogram import log_mel
from keras_mmrel.optional import require

IMAGE_SPLITS = {"test": 600, "val": 300, "train": 897}
CANVAS = 12
PATCH = 3
SEED = 1000


@constrained(
    path=PATH, fold=Integer(0), image_noise=Number(0), distractor=Flag()
)
def load_av_digits(
    path: str | os.PathLike | None = None,
    fold: int = 0,
    image_noise: float = 0.2,
    distractor: bool = True,
) -> tuple:
    """Load AV-digits: spoken digits paired with handwritten ones.

    A small audio-visual set on which modality imbalance really happens: with
    small convolutional encoders that are trained jointly, the image encoder
    stays behind what it reaches alone, and the audio encoder does not. Earlier
    figures of that are withdrawn, as no report of the benchmark has them.

    **Audio**: the 3,000 clips of FSDD, 6 speakers x 10 digits x 50. A clip is
    divided by its peak, cut or padded with zeros to 1 s, and becomes 32
    frames of 32 log-mel values by `keras.layers.MelSpectrogram`: 256 samples
    each 250 at 8 kHz, 60 to 4000 Hz, `log(mean power + 1e-4)`. Values agree to
    about 1e-4 over the backends.

    **Image**: each clip gets a random image of its digit out of the 1,797
    that ship with scikit-learn: 8 x 8 pixels at a random place of a 12 x 12
    canvas, made harder by `distractor` and `image_noise`. Images are drawn
    with replacement and once for all epochs, there is no augmentation; first
    for the training clips, then for validation and test, each split in the
    order of the file names as text.

    **Splits** share neither speakers nor images. Speakers are sorted by name
    and shifted cyclically by two per fold: the first two are for the test
    (1,000 clips), the next for validation (500), the last three for training
    (1,500). The 1,797 images are shuffled: 600, 300 and 897 for the same
    splits. Both modalities are standardised by the mean and standard
    deviation of all their training values.

    Everything random comes from a generator with the seed `1000 + fold`, and
    is drawn whatever the options are: the same `fold` always pairs the same
    clips and images. The pairing, the difficulty and the splits are this
    library's own choice.

    Without `path` the published archive (16 MB) is downloaded once into
    Keras' cache, `~/.keras` or the folder that the environment variable
    `KERAS_HOME` names. Every clip is read and the clips of each speaker and
    digit are counted before the download is kept, and its SHA-256 digest is
    remembered, so that a later truncation or change is found. A `path` may
    hold a part of FSDD: three or more speakers, with as many clips of each
    digit of each speaker. Of `n` speakers, `n // 3` are for the test,
    `max(n // 6, 1)` for validation, and a fold shifts by those of the test.

    Args:
        path: FSDD's archive (`.zip`, it is not unpacked), a folder that holds
            `free-spoken-digit-dataset-master.zip`, the folder `recordings` of
            WAV files or the one above it, or `None` to download the archive.
        fold: Which speakers are for the test: 0, 1 or 2, each speaker once.
            With `n` speakers, from 0 to `n // (n // 3) - 1`.
        image_noise: Standard deviation of the normal noise on a canvas whose
            pixels are in [0, 1], at least 0.
        distractor: Whether a canvas also shows a 3 x 3 crop of a random image
            of the split at a random place; the brighter pixel wins where it
            meets the digit.

    Returns:
        `(x_train, y_train), (x_val, y_val), (x_test, y_test)`. `x` is a dict
        of `"audio"`, `(samples, 32, 32)` as (frames, mel bins), and
        `"image"`, `(samples, 12, 12, 1)`, both in float32; `y` is
        `(samples,)` in int32, digits 0 to 9. Samples are sorted by digit:
        shuffle before batching.

    Raises:
        FileNotFoundError: If there is neither an archive nor a WAV file in
            `path`.
        OSError: If the download fails or ends early; nothing of it is kept.
        ValueError: If a clip has another name or format than published or is
            unreadable, if clips are missing, if a download is not the
            published set, or if an option is out of range.
        ImportError: If scikit-learn is not installed.

    Example:

    >>> train, val, test = load_av_digits()  # doctest: +SKIP
    >>> x_train, y_train = train  # doctest: +SKIP
    >>> {name: x.shape for name, x in x_train.items()}  # doctest: +SKIP
    {'audio': (1500, 32, 32), 'image': (1500, 12, 12, 1)}

    References:
        - [Jackson et al., Free Spoken Digit Dataset, CC BY-SA
          4.0](https://github.com/Jakobovski/free-spoken-digit-dataset)
        - [Alpaydin and Kaynak, 1998, Optical Recognition of Handwritten
          Digits](https://doi.org/10.24432/C50P49)
    """
    load_digits = require("sklearn.datasets", "load_av_digits").load_digits
    clips = load_clips(path)
    split_of = split_speakers(clips, fold)
    digits = load_digits()
    rng = np.random.default_rng(SEED + fold)
    images = split_images(digits.images / 16, digits.target, rng)
    audio = log_mel(clip.samples for clip in clips)
    labels = np.array([clip.digit for clip in clips], dtype="int32")

    splits = []
    for split in ("train", "val", "test"):
        rows = [split_of[clip.speaker] == split for clip in clips]
        y = labels[rows]
        image = np.stack(
            [
                _canvas(*images[split], digit, image_noise, distractor, rng)
                for digit in y
            ]
        )
        splits.append(({"audio": audio[rows], "image": image[..., None]}, y))
    for modality in ("audio", "image"):
        _standardise([x for x, _ in splits], modality)
    return tuple(splits)


def split_speakers(clips: list[Clip], fold: int) -> dict[str, str]:
    """Return speaker -> split."""
    speakers = sorted({clip.speaker for clip in clips})
    test = len(speakers) // 3
    val = max(len(speakers) // 6, 1)
    folds = len(speakers) // test
    if fold >= folds:
        raise ValueError(
            f"`fold` must be in [0, {folds}) with {len(speakers)} speakers. "
            f"Received: fold={fold!r}"
        )
    train = len(speakers) - test - val
    splits = ["test"] * test + ["val"] * val + ["train"] * train
    order = np.roll(speakers, -test * fold).tolist()
    return dict(zip(order, splits, strict=True))


def split_images(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return split -> its images and their labels."""
    order = rng.permutation(len(labels))
    ends = np.cumsum(list(IMAGE_SPLITS.values()))[:-1]
    parts = np.split(order, ends)
    return {
        split: (images[part], labels[part])
        for split, part in zip(IMAGE_SPLITS, parts, strict=True)
    }


def _canvas(
    images: np.ndarray,
    labels: np.ndarray,
    digit: int,
    image_noise: float,
    distractor: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return one canvas; the draws are the same for all options."""
    image, crop, crop_place, place = draw_parts(
        images, labels, digit, CANVAS, rng
    )
    noise = rng.standard_normal((CANVAS, CANVAS))

    canvas = np.zeros((CANVAS, CANVAS))
    if distractor:
        put(canvas, crop, *crop_place)
    put(canvas, image, *place)
    return canvas + image_noise * noise


def draw_parts(
    images: np.ndarray,
    labels: np.ndarray,
    digit: int,
    canvas: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw what a square canvas of some size shows, and where.

    Returns:
        A random image of the digit, a crop of any image, the place of the
        crop, and that of the image: rows and columns of their upper left
        corners.
    """
    size = images.shape[1]
    image = images[rng.choice(np.flatnonzero(labels == digit))]
    other = images[rng.integers(len(images))]
    row, column = rng.integers(size - PATCH + 1, size=2)
    crop = other[row : row + PATCH, column : column + PATCH]
    crop_place = rng.integers(canvas - PATCH + 1, size=2)
    place = rng.integers(canvas - size + 1, size=2)
    return image, crop, crop_place, place


def put(canvas: np.ndarray, image: np.ndarray, row: int, column: int) -> None:
    """Draw an image on a canvas, where the brighter pixel wins."""
    height, width = image.shape
    area = canvas[row : row + height, column : column + width]
    np.maximum(area, image, out=area)


def _standardise(splits: list[dict[str, np.ndarray]], modality: str) -> None:
    """Standardise a modality by all its values in the first split."""
    train = splits[0][modality].astype("float64")
    mean, deviation = train.mean(), train.std()
    for x in splits:
        x[modality] = ((x[modality] - mean) / deviation).astype("float32")
