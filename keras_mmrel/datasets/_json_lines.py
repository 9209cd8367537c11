"""Splits that peers publish as one JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path

from keras_mmrel.datasets._media_sets import read_text


def read_json_lines(file: Path, key: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, and what it says under a key, as text.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If a line is no such object; names the file and the line.
    """
    # Other ends of lines may stand within a text.
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)[key]
        except (IndexError, KeyError, TypeError, ValueError):
            value = None
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ValueError(
                f"Line {number} of {file} must be a JSON object with "
                f"{key!r}. Received: {line.strip()[:80]!r}"
            )
        yield number, str(value)
