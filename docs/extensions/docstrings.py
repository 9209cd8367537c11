"""Docstrings are Google's form with the inline text of Markdown.

napoleon reads the sections. What stands in them is turned into
reStructuredText here, before: code spans, links, fenced blocks, and lists
without an empty line before them.
"""

import re
from collections.abc import Iterable

FENCE = re.compile(r"^(\s*)```\s*([\w+-]*)\s*$")
ITEM = re.compile(r"^(\s*)([-*]|\d+\.)\s+\S")
INLINE = re.compile(
    r"(?P<code>(?P<ticks>`+)(?!`)(?P<inside>.+?)(?<!`)(?P=ticks)(?!`))"
    r"|\[(?P<text>[^\]\[]+)\]\((?P<target>[^()\s]+)\)"
    r"|(?P<strong>\*\*[^\s*](?:[^*]*[^\s*])?\*\*)"
    r"|(?P<emphasis>(?<![\w*])\*[^\s*](?:[^*]*[^\s*])?\*(?![\w*]))"
    r"|(?P<special>[*|\\]|_(?![A-Za-z0-9]))",
    re.DOTALL,
)


def to_rst(lines: Iterable[str]) -> list[str]:
    """Turn the lines of a docstring into those that napoleon reads."""
    made: list[str] = []
    paragraph: list[str] = []
    rows = iter(lines)
    for line in rows:
        fence = FENCE.match(line)
        if not fence and line.strip() and not _is_doctest(line):
            if _needs_a_gap(line, paragraph):
                made += [*_inline(paragraph), ""]
                paragraph = []
            paragraph.append(line)
            continue
        made += _inline(paragraph)
        paragraph = []
        if fence:
            made += _code_block(fence[1], fence[2], rows)
        elif line.strip():
            made += _doctest(line, rows)
        else:
            made.append(line)
    return made + _inline(paragraph)


def _is_doctest(line: str) -> bool:
    return line.lstrip().startswith(">>>")


def _doctest(line: str, rows: Iterable[str]) -> list[str]:
    """Return an example as it is: it ends with an empty line."""
    block = [line]
    for row in rows:
        block.append(row)
        if not row.strip():
            break
    return block


def _code_block(indent: str, language: str, rows: Iterable[str]) -> list[str]:
    block = [f"{indent}.. code-block:: {language or 'text'}", ""]
    for row in rows:
        if FENCE.match(row):
            break
        block.append(f"    {row}" if row.strip() else row)
    return ["", *block, ""]


def _needs_a_gap(line: str, paragraph: list[str]) -> bool:
    """Tell whether a list begins right below a line of text."""
    item = ITEM.match(line)
    if not item or not paragraph:
        return False
    above = paragraph[-1]
    indents = [len(row) - len(row.lstrip()) for row in (line, above)]
    return (
        not ITEM.match(above)
        and indents[0] == indents[1]
        and not any(ITEM.match(row) for row in paragraph)
    )


def _inline(paragraph: list[str]) -> list[str]:
    if not paragraph:
        return []
    text = "\n".join(paragraph)
    # A bullet is no emphasis.
    bullet = re.compile(r"^(\s*)\*(\s)", re.MULTILINE)
    text = bullet.sub(r"\1-\2", text)
    return INLINE.sub(lambda found: _replace(found, text), text).split("\n")


def _replace(found: re.Match[str], text: str) -> str:
    if found["special"]:
        return _special(found, text)
    if found["strong"] or found["emphasis"]:
        return found[0]
    if found["code"]:
        # reStructuredText takes a backslash in a literal as it is.
        made = f"``{found['inside']}``"
    else:
        words = found["text"].replace("`", "")
        made = f"`{words} <{found['target']}>`__"
    before = text[: found.start()][-1:]
    after = text[found.end() :][:1]
    # Markup stands alone: an escaped space, which is not shown, parts it.
    start = "\\ " if before and (before.isalnum() or before in "=.,;") else ""
    end = "\\ " if after and (after.isalnum() or after in "=(*_`") else ""
    return start + made + end


def _special(found: re.Match[str], text: str) -> str:
    """Escape what has no meaning in Markdown; napoleon does so for `**kwargs`.

    An underscore means something at the end of a word only.
    """
    character = found["special"]
    line_start = text.rfind("\n", 0, found.start()) + 1
    leading = text[line_start : found.start()].strip("* \t") == ""
    if character == "*" and leading:
        return character
    before = text[: found.start()][-1:]
    if character == "_" and not before.isalnum():
        return character
    return f"\\{character}"
