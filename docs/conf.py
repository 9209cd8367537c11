"""Sphinx builds the site with this: `python scripts/build_docs.py`."""

import os
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT)]

from extensions import guides  # noqa: E402
from extensions.links import relink  # noqa: E402
from extensions.reference import write_api  # noqa: E402

import keras_mmrel  # noqa: E402

# === Project ===
project = "keras_mmrel"
author = "The keras_mmrel authors"
copyright = "2026, the keras_mmrel authors"
release = version = keras_mmrel.__version__

# === Sources ===
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "extensions.site",
    "extensions.mathml",
]
exclude_patterns = ["results/README.md", "results/**/*.html"]
templates_path = ["templates"]
nitpicky = True
smartquotes = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Outputs are put into the notebooks by `extensions.guides`.
nb_execution_mode = "off"

# === Docstrings ===
autosummary_generate = True
autodoc_default_options = {"members": True, "show-inheritance": True}
# What Keras says of `call` or `build` is no documentation of ours.
autodoc_inherit_docstrings = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
maximum_signature_line_length = 60
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# What is returned is said in words, which are no names of types.
napoleon_use_rtype = False
napoleon_custom_sections = [("Call arguments", "params_style")]

# === Pages ===
html_theme = "furo"
html_title = "keras_mmrel"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_domain_indices = False
html_theme_options = {"top_of_page_buttons": []}


def write_sources(app: Sphinx, config: Config) -> None:
    """Write the pages that are made of guides and of the code."""
    build = Path(os.path.normpath(app.outdir)).parent
    outputs = guides.Outputs(
        build / "guide_outputs", execute=config.execute_guides == "1"
    )
    guides.write_guides(
        ROOT / "guides", DOCS / "guides", outputs, relink, build / "guide_runs"
    )
    write_api(DOCS / "api")


def setup(app: Sphinx) -> None:
    app.add_config_value("execute_guides", "0", "")
    app.connect("config-inited", write_sources)
