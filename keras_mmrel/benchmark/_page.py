"""One self-contained HTML page."""

import base64
import html
from pathlib import Path

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
  background: #fff; }
thead th { border-bottom: 2px solid #999; vertical-align: bottom; }
td.best { font-weight: 700; }
img { max-width: 100%; } pre { background: #f6f6f6; padding: .8rem;
  overflow-x: auto; font-size: 12px; }
"""


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; cells keep their `**bold**`."""

    def line(cells: list[str]) -> str:
        # Neither may end a cell.
        safe = [" ".join(c.replace("|", "\\|").splitlines()) for c in cells]
        return "| " + " | ".join(safe) + " |"

    return "\n".join(
        [
            line(head),
            "|" + "---|" * len(head),
            *map(line, rows),
        ]
    )


def html_table(head: list[str], rows: list[list[str]]) -> str:
    """The same table in HTML; `**bold**` marks the best cell."""

    def cell(text: str) -> str:
        if text.startswith("**"):
            return f'<td class="best">{html.escape(text.strip("*"))}</td>'
        return f"<td>{html.escape(text)}</td>"

    # The first is a name, whatever it begins with.
    body = "\n".join(
        f"<tr><td>{html.escape(first)}</td>{''.join(map(cell, cells))}</tr>"
        for first, *cells in rows
    )
    top = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


class Page:
    """A text that is written as Markdown and as HTML."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._markdown = [f"# {title}"]
        self._html = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        self._markdown.append(f"## {text}")
        self._html.append(f"<h2>{html.escape(text)}</h2>")

    def subheading(self, text: str) -> None:
        self._markdown.append(f"### {text}")
        self._html.append(f"<h3>{html.escape(text)}</h3>")

    def text(self, text: str) -> None:
        self._markdown.append(text)
        self._html.append(f"<p>{html.escape(text)}</p>")

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        self._markdown.append(markdown_table(head, rows))
        self._html.append(html_table(head, rows))

    def code(self, text: str) -> None:
        self._markdown.append(f"```\n{text}\n```")
        self._html.append(f"<pre>{html.escape(text)}</pre>")

    def figure(self, path: Path, caption: str) -> None:
        """A PNG beside the Markdown file, embedded in the page."""
        data = base64.b64encode(path.read_bytes()).decode()
        self._markdown.append(f"![{caption}]({path.name})")
        self._html.append(
            f'<img alt="{html.escape(caption)}" '
            f'src="data:image/png;base64,{data}">'
        )

    def markdown(self) -> str:
        return "\n\n".join(self._markdown) + "\n"

    def html(self) -> str:
        body = "\n".join(self._html)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{html.escape(self.title)}</title>"
            f"<style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
        )
