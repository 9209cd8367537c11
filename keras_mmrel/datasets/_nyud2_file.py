"""Scene types of NYU Depth V2's HDF5 file, and its split."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.datasets._matlab import read_variables
from keras_mmrel.datasets._media_sets import LIMIT
from keras_mmrel.media._reading import UNREADABLE
from keras_mmrel.optional import require

# The nine types with most pictures; all others are one class.
COMMON = (
    "bathroom",
    "bedroom",
    "bookstore",
    "classroom",
    "dining_room",
    "home_office",
    "kitchen",
    "living_room",
    "office",
)
REST = "rest"
# Parts of the split, whose rows count from 1.
PARTS = ("trainNdxs", "testNdxs")
IMAGES, DEPTHS, SCENES = "images", "depths", "sceneTypes"
SAMPLES, LONGEST = 1_000_000, 200


def scene_of(scene_type: str) -> str:
    """Return which of the ten classes a scene type is in."""
    return scene_type if scene_type in COMMON else REST


def read_scene_types(file: Path) -> list[str]:
    """Return the scene type of each picture; pictures are not read.

    Raises:
        ValueError: If it is no such file.
    """
    h5py = require("h5py", "load_nyud2")
    try:
        with h5py.File(file, "r") as content:
            return _scene_types(content, h5py)
    # HDF5 raises whatever a damage leads it to.
    except (AttributeError, TypeError, *UNREADABLE) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{file} must be the labeled part of NYU Depth V2 as published, "
            f"MATLAB's HDF5 with '{IMAGES}', '{DEPTHS}' and '{SCENES}'. "
            f"Received: {reason}"
        ) from None


def _scene_types(content: Any, h5py: Any) -> list[str]:
    lacking = [n for n in (IMAGES, DEPTHS, SCENES) if n not in content]
    if lacking:
        raise ValueError(f"no '{lacking[0]}'")
    images, depths = content[IMAGES].shape, content[DEPTHS].shape
    references = content[SCENES]
    if h5py.check_ref_dtype(references.dtype) is None:
        raise ValueError(f"'{SCENES}' of {references.dtype}, not references")
    samples = references.size
    if (
        len(images) != 4
        or images[1] != 3
        or depths != (images[0], *images[2:])
        or not 0 < samples == images[0] <= SAMPLES
    ):
        raise ValueError(
            f"'{IMAGES}' of shape {images}, '{DEPTHS}' of {depths} and "
            f"{samples:,} scene types, not (N, 3, W, H), (N, W, H) and N"
        )
    return [_text(content[each]) for each in np.ravel(references[()])]


def _text(characters: Any) -> str:
    if not 0 < characters.size <= LONGEST or characters.dtype.kind not in "ui":
        raise ValueError(f"{characters} in '{SCENES}', which is no name")
    return "".join(map(chr, np.ravel(characters[()])))


def read_split(file: Path, samples: int) -> list[list[int]]:
    """Return the rows of training and of test, from 0.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it is no such file.
    """
    if not file.is_file():
        raise FileNotFoundError(
            "`splits` must be the file 'splits.mat' of NYU Depth V2 with "
            f"{' and '.join(map(repr, PARTS))}; get it from "
            "http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/"
            f"splits.mat. Received: {str(file)!r}, which does not exist"
        )
    try:
        if file.stat().st_size > LIMIT:
            raise ValueError(f"more than {LIMIT:,} bytes")
        content = read_variables(file.read_bytes(), list(PARTS), "load_nyud2")
        parts = [_numbers(name, content[name], samples) for name in PARTS]
        both = set(parts[0]) & set(parts[1])
        if both:
            raise ValueError(f"picture {min(both) + 1} in both parts")
        return parts
    except ValueError as error:
        raise ValueError(
            f"{file} must be the published split, {' and '.join(PARTS)} with "
            f"numbers of pictures from 1. Received: {error}"
        ) from None


def _numbers(name: str, values: Any, samples: int) -> list[int]:
    numbers = np.ravel(values)
    if numbers.dtype.kind not in "fiu" or not numbers.size:
        raise ValueError(f"{numbers.size} of {numbers.dtype} in '{name}'")
    whole = numbers.astype("int64")
    if (whole != numbers).any() or whole.min() < 1 or whole.max() > samples:
        raise ValueError(
            f"{numbers.min():g} to {numbers.max():g} in '{name}', not whole "
            f"numbers from 1 to {samples:,}"
        )
    if len(set(whole.tolist())) < whole.size:
        raise ValueError(f"a picture twice in '{name}'")
    return (whole - 1).tolist()
