"""Small archives in the layouts of published raw data sets."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def published(name):
    """A file or folder of `KERAS_MMREL_DATA`; without it a test is skipped."""
    folder = os.environ.get("KERAS_MMREL_DATA")
    if not folder:
        pytest.skip("KERAS_MMREL_DATA names no folder with data sets")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"KERAS_MMREL_DATA holds no `{name}`")
    return path


def write_picture(path, colour=(255, 0, 0), size=(32, 24), **options):
    """A picture of one colour; its size is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def write_noise(path, size=(32, 24), seed=0):
    """A picture that cannot be compressed away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), "uint8")
    Image.fromarray(pixels).save(path)
    return path


def write_text(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def packed(folder, kind="zip"):
    """An archive of a folder, beside it; the folder itself is gone."""
    archive = shutil.make_archive(str(folder), kind, folder.parent, folder.name)
    shutil.rmtree(folder)
    return Path(archive)


def cut(path, share=0.5):
    """Leave the beginning of a file, as a broken copy has it."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
