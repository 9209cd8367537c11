"""From a picture of Pillow to an array of one size."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.optional import require

USER = "media"
# More is refused before it takes memory: a small file can announce anything.
MOST_PIXELS = 100_000_000
# Modes of one channel with more than 8 bits, and their largest value.
DEEP = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I;16N": 65535}
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def opened(path: Any) -> Any:
    """Return a picture from a file, upright, its pixels read."""
    pillow = require("PIL.Image", USER)
    try:
        with pillow.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(
                    f"{image.width} x {image.height} pixels, not at most "
                    f"{MOST_PIXELS:,}"
                )
            image.load()
            return require("PIL.ImageOps", USER).exif_transpose(image)
    except pillow.UnidentifiedImageError:
        raise ValueError("no picture that Pillow knows") from None
    except (pillow.DecompressionBombError, SyntaxError) as error:
        raise ValueError(str(error)) from None


def in_folder(folder: Path) -> list[Path]:
    """Return the pictures in a folder, as their names count them."""
    files = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    ]
    if not files:
        raise ValueError("no picture in the folder")
    return sorted(files, key=lambda file: _counted(file.name))


def _counted(name: str) -> list[tuple[int, int | str]]:
    """Return what orders names by the numbers in them."""
    parts = re.findall("[0-9]+|[^0-9]+", name)
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in parts]


def as_array(
    image: Any, size: tuple[int, int], channels: int, fit: str, dtype: str
) -> Array:
    """Return a picture as `(height, width, channels)`.

    Args:
        image: A picture of Pillow.
        size: Height and width.
        channels: 1, 3 or 4.
        fit: As in `media.Image`.
        dtype: "float32" for [0, 1] or "uint8" for 0 to 255.
    """
    deep = image.mode in DEEP or image.mode in ("I", "F")
    if deep:
        values = _scaled(image, dtype == "uint8")
        pillow = require("PIL.Image", USER)
        layers = [_resized(pillow.fromarray(values), size, fit)]
    else:
        layers = [_resized(_in_mode(image, channels), size, fit)]
    made = np.asarray(layers[0])
    made = made[..., None] if made.ndim == 2 else made
    if deep:
        # Grey is the same in every colour; there is nothing behind it.
        made = np.repeat(made, min(channels, 3), axis=2)
        if channels == 4:
            made = np.pad(made, [(0, 0), (0, 0), (0, 1)], constant_values=1)
        made = made.clip(0, 1) if dtype == "uint8" else made
        return made if dtype == "float32" else np.rint(made * 255).astype(dtype)
    return made if dtype == "uint8" else made.astype("float32") / 255


def _scaled(image: Any, as_bytes: bool) -> Array:
    """Values of a picture of more than 8 bits, as float32."""
    values = np.asarray(image, dtype="float32")
    if image.mode in DEEP:
        return values / DEEP[image.mode]
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite")
    # Of 32 bits nobody says which value is white.
    if as_bytes and not 0 <= values.min() <= values.max() <= 1:
        raise ValueError(
            f"values from {values.min():g} to {values.max():g} of a picture "
            'of 32 bits, which `pixels="uint8"` cannot hold'
        )
    return values


def _in_mode(image: Any, channels: int) -> Any:
    """Return a picture of 8 bits with so many channels."""
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    if channels == 4 or not has_alpha:
        return image.convert(MODES[channels])
    image = image.convert("RGBA")
    behind = require("PIL.Image", USER).new("RGBA", image.size, "white")
    behind.alpha_composite(image)
    return behind.convert(MODES[channels])


def _resized(image: Any, size: tuple[int, int], fit: str) -> Any:
    ops = require("PIL.ImageOps", USER)
    method = require("PIL.Image", USER).Resampling.BILINEAR
    width_height = size[::-1]
    if image.size == width_height:
        return image
    if fit == "crop":
        return ops.fit(image, width_height, method)
    if fit == "pad":
        return ops.pad(image, width_height, method)
    return image.resize(width_height, method)
