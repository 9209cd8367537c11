"""The published split files of raw data sets, where they are."""

import os
from pathlib import Path

import pytest


def published_split(name):
    """The folder of a data set's split files, or skip the test."""
    folder = os.environ.get("KERAS_MMREL_DATA")
    if not folder:
        pytest.skip("KERAS_MMREL_DATA names no folder with data sets")
    found = Path(folder) / "splits" / name
    if not found.is_dir():
        pytest.skip(f"KERAS_MMREL_DATA holds no `splits/{name}`")
    return found


def touch(folder, names):
    """Empty files, which are enough for what is there and what is not."""
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
