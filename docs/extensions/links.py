"""Links between files of the repository and pages, and names as links."""

import os
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

from extensions.public_names import exists
from extensions.public_names import public_name

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((?!https?:|#|mailto:|/)([^()\s]+)\)")
# Where a file of the repository stands on the site.
PAGES = {
    "README.md": "/start.md",
    "CONTRIBUTING.md": "/contributing.md",
    "CHANGELOG.md": "/changelog.md",
    "docs/results/README.md": "/results/index.md",
}
# The files that a page shows as they are.
INCLUDED = {
    "contributing": ROOT / "CONTRIBUTING.md",
    "changelog": ROOT / "CHANGELOG.md",
    "results/index": DOCS / "results" / "README.md",
}
logger = logging.getLogger(__name__)


def relink(text: str, file: Path, page: str) -> str:
    """Turn the links of a file in Markdown into those of a page.

    Pages link to pages, other files are for download, and a folder is named
    without a link. What is not there stays, and is a warning of the build.
    """

    def replace(found: re.Match[str]) -> str:
        path, _, anchor = found[2].partition("#")
        target = Path(os.path.normpath(file.parent / path))
        if not target.is_relative_to(ROOT) or not target.exists():
            return found[0]
        name = target.relative_to(ROOT).as_posix()
        hash_ = f"#{anchor}" if anchor else ""
        if name in PAGES:
            return f"[{found[1]}]({PAGES[name]}{hash_})"
        if name.startswith("guides/") and target.suffix == ".py":
            return f"[{found[1]}](/guides/{target.stem}.ipynb{hash_})"
        if target.is_dir():
            return found[1]
        if target.is_relative_to(DOCS) and target.suffix == ".md":
            return f"[{found[1]}](/{target.relative_to(DOCS)}{hash_})"
        back = os.path.relpath(target, (DOCS / page).parent)
        return f"[{found[1]}]({back})"

    return LINK.sub(replace, text)


def include(app: Sphinx, page: str, content: list[str]) -> None:
    """Put a file of the repository in the place of `<!-- FILE -->`."""
    if page in INCLUDED:
        file = INCLUDED[page]
        app.env.note_dependency(str(file), docname=page)
        text = relink(file.read_text(), file, page)
        content[0] = content[0].replace("<!-- FILE -->", text)


class NamesAsLinks(SphinxTransform):
    """A public name in a literal becomes a link to its page.

    A dotted name of the package that does not exist is a warning.
    """

    default_priority = 5

    def apply(self) -> None:
        page = self.env.docname
        if page in ("changelog",) or page.endswith("/report"):
            # History speaks of what has gone, reports of rows.
            return
        own = page.rpartition("/")[2] if page.startswith("api/") else ""
        package = own.rpartition(".")[0]
        for literal in list(self.document.findall(nodes.literal)):
            text = literal.astext()
            if not re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", text):
                continue
            if _within(literal, (nodes.reference, nodes.title)) or _within(
                literal, (addnodes.pending_xref,)
            ):
                continue
            full = public_name(text, (package,))
            if full == own:
                continue
            if full is not None:
                literal.replace_self(_reference(literal, full, page))
            elif text.startswith("keras_mmrel.") and not exists(text):
                logger.warning(
                    "%r is no name of the library", text, location=literal
                )


def _within(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, kinds):
            return True
        parent = parent.parent
    return False


def _reference(
    literal: nodes.literal, full: str, page: str
) -> addnodes.pending_xref:
    made = addnodes.pending_xref(
        "",
        refdomain="py",
        reftype="obj",
        reftarget=full,
        refdoc=page,
        refexplicit=True,
        refwarn=True,
    )
    made += literal.deepcopy()
    made.source, made.line = literal.source, literal.line
    return made


class GuideFiles(SphinxTransform):
    """A guide is there for download, as a notebook and as a script."""

    default_priority = 400

    def apply(self) -> None:
        page = self.env.docname
        if not page.startswith("guides/"):
            return
        name = page.removeprefix("guides/")
        title = next(iter(self.document.findall(nodes.title)), None)
        if title is None:
            return
        line = nodes.paragraph(classes=["guide-files"])
        for text, target in (
            ("Notebook", f"/guides/{name}.ipynb"),
            ("Script", f"/../guides/{name}.py"),
        ):
            link = addnodes.download_reference(
                "", "", refdoc=page, reftarget=target, refdomain=""
            )
            link += nodes.literal(text, text, classes=["xref", "download"])
            line += [link, nodes.Text(" ")]
        if not any("cell_output" in n["classes"] for n in self.containers()):
            line += nodes.Text("(built without running it)")
        title.parent.insert(title.parent.index(title) + 1, line)

    def containers(self) -> list[nodes.container]:
        return list(self.document.findall(nodes.container))


class Typography(SphinxTransform):
    """A number and its error stay on one line; a dash of arguments is one."""

    default_priority = 410

    def apply(self) -> None:
        self.replace(nodes.entry, " ± ", "\u00a0±\u00a0")
        self.replace(nodes.field_body, " -- ", " – ")

    def replace(self, kind: type[nodes.Element], old: str, new: str) -> None:
        for place in self.document.findall(kind):
            for text in list(place.findall(nodes.Text)):
                if old in text:
                    made = nodes.Text(text.replace(old, new))
                    text.parent.replace(text, made)
