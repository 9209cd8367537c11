"""Guides, which are Python files with text cells, as notebooks.

A text cell is a string in three double quotes at the top level of a file, as
in the guides of keras.io; what stands between two of them is a code cell. The
first text cell is the header.
"""

import ast
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient

QUOTES = '"""'
TIMEOUT = 3600


@dataclasses.dataclass(frozen=True)
class Guide:
    """A guide in its parts.

    Args:
        name: Name of its file without the ending.
        header: What its first text cell says: `Title`, `Description`, ...
        cells: `("markdown" or "code", source)` each.
    """

    name: str
    header: dict[str, str]
    cells: list[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> "Guide":
        """Read a guide's file."""
        source = path.read_text()
        lines = source.splitlines()
        cells: list[tuple[str, str]] = []
        end = 0
        for node in ast.parse(source).body:
            text = _text_of(node)
            if text is None or not lines[node.lineno - 1].startswith(QUOTES):
                continue
            cells.append(("code", "\n".join(lines[end : node.lineno - 1])))
            cells.append(("markdown", text))
            end = node.end_lineno or node.lineno
        cells.append(("code", "\n".join(lines[end:])))
        cells = [(kind, text.strip("\n")) for kind, text in cells]
        cells = [cell for cell in cells if cell[1].strip()]
        header = dict(
            line.split(": ", 1)
            for line in cells.pop(0)[1].splitlines()
            if ": " in line
        )
        return cls(path.stem, header, cells)

    def notebook(self) -> nbformat.NotebookNode:
        """Return the guide as a notebook without outputs."""
        head = f"# {self.header['Title']}\n\n*{self.header['Description']}*"
        make = {
            "code": nbformat.v4.new_code_cell,
            "markdown": nbformat.v4.new_markdown_cell,
        }
        made = nbformat.v4.new_notebook()
        made.cells = [
            make[kind](source, id=f"{self.name}-{number}".replace("_", "-"))
            for number, (kind, source) in enumerate(
                [("markdown", head), *self.cells]
            )
        ]
        made.metadata = {
            "kernelspec": {
                "name": "python3",
                "display_name": "Python 3",
                "language": "python",
            },
            "language_info": {"name": "python", "file_extension": ".py"},
        }
        return made


def _text_of(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        if isinstance(node.value.value, str):
            return node.value.value
    return None


class Outputs:
    """What guides print and draw, kept in a folder.

    A guide whose code is the same as when it ran is not run again. The text
    of a guide and the library may have changed: delete the folder then.

    Args:
        folder: Folder of the cache.
        execute: Whether a guide that is not in it is run.
    """

    def __init__(self, folder: Path, execute: bool) -> None:
        self.cache = get_cache(folder)
        self.execute = execute

    def into(self, notebook: nbformat.NotebookNode, path: Path) -> bool:
        """Put outputs into a notebook, if there are any."""
        key = _code_alone(notebook)
        try:
            _, done = self.cache.merge_match_into_notebook(key)
        except KeyError:
            if not self.execute:
                return False
            done = _run(key, path)
            bundle = CacheBundleIn(done, str(path))
            self.cache.cache_notebook_bundle(
                bundle, check_validity=False, overwrite=True
            )
        outputs = iter([c for c in done.cells if c.cell_type == "code"])
        for cell in notebook.cells:
            if cell.cell_type == "code":
                ran = next(outputs)
                cell.outputs = tidy(ran.outputs)
                cell.execution_count = ran.execution_count
        return True


def _code_alone(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    made = nbformat.from_dict(notebook)
    made.cells = [c for c in made.cells if c.cell_type == "code"]
    return made


def _run(notebook: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    """Run a notebook as somebody who opens it does, in an empty folder."""
    environment = {
        name: value
        for name, value in os.environ.items()
        # The kernel's own draws into the notebook; a guide says itself on
        # which backend it runs.
        if name not in ("MPLBACKEND", "KERAS_BACKEND")
    }
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    folder = path.parent / f"run_{path.stem}"
    folder.mkdir(parents=True, exist_ok=True)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        # Times in a cell would make it another one to the cache.
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    return client.nb


def tidy(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Leave out what programs say to themselves; join what came in parts."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        printed = output.output_type == "stream"
        if printed and output.name == "stderr":
            continue
        if printed and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(nbformat.from_dict(output))
    return kept


def write_guides(
    source: Path,
    target: Path,
    outputs: Outputs,
    relink: Callable[[str, Path, str], str],
    runs: Path,
) -> list[Guide]:
    """Write every guide as a notebook; only what changed is written.

    Args:
        source: Folder of the guides.
        target: Folder of the notebooks.
        outputs: What guides print and draw.
        relink: Makes links of the site of those of a file; it takes a text,
            the file and the page.
        runs: Folder in which guides run.
    """
    guides = [Guide.read(path) for path in sorted(source.glob("*.py"))]
    target.mkdir(exist_ok=True)
    for old in target.glob("*.ipynb"):
        if old.stem not in {guide.name for guide in guides}:
            old.unlink()
    for guide in guides:
        notebook = guide.notebook()
        outputs.into(notebook, runs / f"{guide.name}.ipynb")
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                file = source / f"{guide.name}.py"
                cell.source = relink(cell.source, file, f"guides/{guide.name}")
        write_if_new(target / f"{guide.name}.ipynb", nbformat.writes(notebook))
    return guides


def write_if_new(path: Path, text: str) -> None:
    """Write a file unless it holds that text already."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
