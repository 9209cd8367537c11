"""What this site adds to Sphinx: docstrings, names, links, tables."""

import inspect

import keras
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from extensions import links
from extensions import reference
from extensions.docstrings import to_rst
from extensions.public_names import public_names

# Before napoleon, which connects with the priority 500.
EARLY = 400
logger = logging.getLogger(__name__)


def convert_docstring(app, what, name, obj, options, lines) -> None:
    """Turn the Markdown of a docstring into reStructuredText."""
    if name in reference.CONSTANTS:
        lines[:] = constant_lines(name)
    else:
        lines[:] = to_rst(lines)


def constant_lines(name: str) -> list[str]:
    """Say what a constant is, and list what it holds."""
    head, rows = reference.constant_rows(name)
    lines = [*to_rst([reference.CONSTANTS[name]]), ""]
    lines += [".. list-table::", "   :header-rows: 1", ""]
    for row in [head, *rows]:
        for number, cell in enumerate(row):
            start = "   * - " if number == 0 else "     - "
            lines.append(start + " ".join(to_rst([cell])))
    return [*lines, ""]


def own_signature(app, what, name, obj, options, signature, returned):
    """Show the arguments of `__init__`, which Keras' layers hide."""
    if what != "class":
        return None
    parameters = inspect.signature(obj.__init__).parameters.values()
    plain = inspect.Parameter.empty
    own = [p.replace(annotation=plain) for p in parameters][1:]
    return str(inspect.Signature(own)), returned


def name_bases(app, name, obj, options, bases) -> None:
    """Name the nearest public base: ours, or Keras' as users import it."""
    known = {id(value): full for full, value in public_names().items()}
    for base in inspect.getmro(obj)[1:]:
        if id(base) in known:
            bases[:] = [f":py:obj:`~{known[id(base)]}`"]
            return
        if base.__module__.partition(".")[0] == "keras":
            bases[:] = [f"``{keras_name(base)}``"]
            return
    bases[:] = []


def keras_name(base: type) -> str:
    """Return the public name of a class of Keras."""
    for home in ("layers", "losses", "metrics", "callbacks", "utils"):
        if getattr(getattr(keras, home), base.__name__, None) is base:
            return f"keras.{home}.{base.__name__}"
    return f"keras.{base.__name__}"


def check_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every public name that no page describes."""
    described = env.domains.python_domain.objects
    for name in public_names():
        if name not in described:
            logger.warning("%s is public and has no page", name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", convert_docstring, priority=EARLY)
    app.connect("autodoc-process-signature", own_signature)
    app.connect("autodoc-process-bases", name_bases)
    app.connect("env-check-consistency", check_names)
    app.connect("source-read", links.include)
    for transform in (
        links.NamesAsLinks,
        links.GuideFiles,
        links.Typography,
    ):
        app.add_transform(transform)
    for name, directive in reference.DIRECTIVES.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
