"""One self-contained HTML page."""

import base64
import html
import re
from collections.abc import Sequence

from keras_mmrel.benchmark._names import markdown
from keras_mmrel.benchmark._names import one_line

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b;
  max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.4rem; }
h2, h3 { border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; margin: .8rem 0; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: #fff; white-space: normal; overflow-wrap: anywhere;
  min-width: 9rem; max-width: 24rem; }
thead th { border-bottom: 2px solid #999; vertical-align: bottom; }
td.best { font-weight: 700; }
img { max-width: 100%; } pre { background: #f6f6f6; padding: .8rem;
  overflow-x: auto; font-size: 12px; }
"""


class Best(str):
    """The best cell of a column."""


Cells = Sequence[str]


def markdown_table(head: Cells, rows: Sequence[Cells]) -> str:
    """A Markdown table; the best cells are bold."""

    def cell(text: str) -> str:
        escaped = markdown(text)
        return f"**{escaped}**" if isinstance(text, Best) else escaped

    def line(cells: Cells) -> str:
        return "| " + " | ".join(map(cell, cells)) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def html_table(head: Cells, rows: Sequence[Cells]) -> str:
    """The same table in HTML."""

    def cell(text: str) -> str:
        kind = ' class="best"' if isinstance(text, Best) else ""
        return f"<td{kind}>{escape(text)}</td>"

    body = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def escape(text: str) -> str:
    return html.escape(one_line(text))


class Page:
    """Plain texts that are written as Markdown and as HTML."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._markdown = [f"# {markdown(title)}"]
        self._html = [f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        self._markdown.append(f"## {markdown(text)}")
        self._html.append(f"<h2>{escape(text)}</h2>")

    def subheading(self, text: str) -> None:
        self._markdown.append(f"### {markdown(text)}")
        self._html.append(f"<h3>{escape(text)}</h3>")

    def text(self, text: str) -> None:
        self._markdown.append(markdown(text))
        self._html.append(f"<p>{escape(text)}</p>")

    def table(self, head: Cells, rows: Sequence[Cells]) -> None:
        self._markdown.append(markdown_table(head, rows))
        self._html.append(html_table(head, rows))

    def code(self, text: str) -> None:
        # A fence is longer than any that stands in the text.
        ticks = max(map(len, re.findall("`+", text)), default=0)
        fence = "`" * max(3, ticks + 1)
        self._markdown.append(f"{fence}\n{text}\n{fence}")
        self._html.append(f"<pre>{html.escape(text)}</pre>")

    def figure(self, name: str, content: bytes, caption: str) -> None:
        """A PNG beside the Markdown file, embedded in the page."""
        data = base64.b64encode(content).decode()
        self._markdown.append(f"![{markdown(caption)}]({name})")
        self._html.append(
            f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        )

    def markdown(self) -> str:
        return "\n\n".join(self._markdown) + "\n"

    def html(self) -> str:
        body = "\n".join(self._html)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{escape(self.title)}</title>"
            f"<style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
        )
