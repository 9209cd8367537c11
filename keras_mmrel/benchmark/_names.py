"""Names of a user in every format of a report."""

import re
import unicodedata
from collections.abc import Iterable

# What begins or ends something in Markdown or in GitHub's mathematics; an
# underscore inside a word does not.
MARKDOWN = re.compile(
    r"[\\`*\[\]#|~$]|<(?=[A-Za-z/!?])|&(?=#?\w+;)"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
)
# Characters of a name in a figure, and of a part of a file's name.
FIGURE = 48
FILE = 80


def one_line(text: str) -> str:
    """Return a text without line ends and other control characters."""
    return "".join(
        " " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c
        for c in text
    )


def markdown(text: str) -> str:
    """Return Markdown that shows a text as it is."""
    return MARKDOWN.sub(r"\\\g<0>", one_line(text))


def figure_text(text: str) -> str:
    """Return what matplotlib draws as a text, without mathematics."""
    return one_line(text).replace("$", r"\$")


def figure_names(names: Iterable[str]) -> dict[str, str]:
    """Return name -> a short text of its own for a figure."""
    found: dict[str, str] = {}
    for name in names:
        text = one_line(name)
        if len(text) > FIGURE:
            text = f"{text[: FIGURE - 12]} … {text[-8:]}"
        if text in found.values():
            text = f"{text} ({len(found) + 1})"
        # A legend leaves out what begins with an underscore.
        shown = f" {text}" if text.startswith("_") else text
        found[name] = figure_text(shown)
    return found


def file_stem(text: str) -> str:
    """Return a part of a file's name that every system takes."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:FILE]
