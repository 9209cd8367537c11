"""What the site is made of; `scripts/build_docs.py` builds all of it."""

import ast
import io
import re
import sys
import textwrap

import pytest
import yaml

import keras_mmrel
from keras_mmrel import benchmark
from tests.test_examples import ROOT
from tests.test_guides import GUIDES
from tests.test_packaging import public_objects

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
sys.path.insert(0, str(ROOT / "docs"))

import nbformat
from docutils.core import publish_doctree
from extensions import reference
from extensions.docstrings import to_rst
from extensions.guides import Guide
from extensions.guides import Outputs
from extensions.guides import tidy
from extensions.links import relink
from extensions.public_names import exists
from extensions.public_names import public_name
from extensions.public_names import public_names
from sphinx.application import Sphinx

pytestmark = pytest.mark.one_backend


def test_every_public_name_has_a_page(tmp_path):
    reference.write_api(tmp_path)
    listed = {
        f"{path.stem}.{line.strip()}"
        for path in tmp_path.glob("*.rst")
        for line in path.read_text().splitlines()
        if re.fullmatch(r"   \w+", line)
    }
    pages = {f"keras_mmrel.{name}" for name in listed}
    objects = {
        name: value
        for name, value in public_objects().items()
        if ".backend." not in name
    }
    # The root has models a second time.
    described = [id(public_names()[name]) for name in pages]
    assert [n for n, v in objects.items() if id(v) not in described] == []
    assert pages == set(public_names())
    assert "keras_mmrel.encoders.pretrained.wordllama" in pages


def test_every_package_stands_in_the_table_of_contents(tmp_path):
    reference.write_api(tmp_path)
    contents = (ROOT / "docs/api.md").read_text()
    nested = (tmp_path / "encoders.rst").read_text()
    for path in tmp_path.glob("*.rst"):
        listed = f"\napi/{path.stem}\n" in contents
        assert listed or f"\n   {path.stem}\n" in nested, path.stem


def test_a_constant_without_a_text_is_no_page():
    with pytest.raises(ValueError, match="`CONSTANTS` must have every"):
        reference._page("keras_mmrel.layers", {"NEW": 3})


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("takes `x`s and `f(x)`.", "takes ``x``\\ s and ``f(x)``."),
        ("`max |x_y|`, |x| and x_", "``max |x_y|``, \\|x\\| and x\\_"),
        ("of `(batch,\nd)`", "of ``(batch,\nd)``"),
        ("see [it](https://a.b/c_d)", "see `it <https://a.b/c_d>`__"),
        ("**two** *words*, 2 * 3", "**two** *words*, 2 \\* 3"),
        ("**kwargs: Arguments.", "**kwargs: Arguments."),
        ("below:\n- a\n- b", "below:\n\n- a\n- b"),
        (
            ">>> print(`x` * y_)\n| x_",
            ">>> print(`x` * y_)\n| x_",
        ),
        (
            "Like:\n```python\na = `b`\n```\nand",
            "Like:\n\n.. code-block:: python\n\n    a = `b`\n\nand",
        ),
    ],
)
def test_markdown_of_a_docstring_becomes_restructured_text(markdown, expected):
    made = to_rst(markdown.split("\n"))
    assert re.sub("\n\n+", "\n\n", "\n".join(made)) == expected


@pytest.mark.parametrize("name", public_objects())
def test_the_text_of_a_docstring_is_sound_markup(name):
    """Without its sections, which napoleon reads: those come indented."""
    text = textwrap.dedent(public_objects()[name].__doc__.expandtabs())
    first, _, rest = public_objects()[name].__doc__.partition("\n")
    text = first + "\n" + textwrap.dedent(rest)
    text = re.split(r"^[A-Z][a-z]+( [a-z]+)?:\n", text, flags=re.M)[0]
    warnings = io.StringIO()
    publish_doctree(
        "\n".join(to_rst(text.split("\n"))).replace("code-block::", "code::"),
        settings_overrides={"warning_stream": warnings, "report_level": 2},
    )
    assert warnings.getvalue() == ""


def test_a_name_is_linked_where_it_means_one_thing():
    assert public_name("QADMNet") == "keras_mmrel.models.QADMNet"
    assert public_name("keras_mmrel.QADMNet") == "keras_mmrel.models.QADMNet"
    assert public_name("keras_mmrel.models.Clock.plan()") == (
        "keras_mmrel.models.Clock"
    )
    for word in ("run", "fit", "x", "keras.Model", "keras_mmrel.contract"):
        assert public_name(word) is None
    assert exists("keras_mmrel.models.Clock.plan")
    assert exists("keras_mmrel.contract.MASK")
    assert not exists("keras_mmrel.layers.InputQualty")


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_a_guide_becomes_a_notebook_of_all_its_code_and_text(path):
    cells = Guide.read(path).notebook().cells
    code = "\n".join(c.source for c in cells if c.cell_type == "code")
    statements = [
        node
        for node in ast.parse(path.read_text()).body
        if not isinstance(node, ast.Expr)
        or not isinstance(node.value, ast.Constant)
    ]
    made = [ast.dump(node) for node in ast.parse(code).body]
    assert made == [ast.dump(node) for node in statements]
    texts = [c.source for c in cells if c.cell_type == "markdown"]
    assert texts[0].startswith("# ") and len(texts) > 5
    # The header is a title, and no text cell.
    assert "Accelerator" not in "".join(texts)


GUIDE = '''"""
Title: One
Description: Two.
"""

"""
## Print
"""

print(1 + 1)
'''


def test_a_guide_runs_once(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(GUIDE)
    folder, place = tmp_path / "cache", tmp_path / "one.ipynb"
    fresh = Guide.read(path).notebook()
    assert not Outputs(folder, execute=False).into(fresh, place)
    assert Outputs(folder, execute=True).into(fresh, place)
    assert fresh.cells[-1].outputs[0].text == "2\n"
    # Its text may change, its code may not.
    path.write_text(GUIDE.replace("## Print", "## Write"))
    again = Guide.read(path).notebook()
    assert Outputs(folder, execute=False).into(again, place)
    assert again.cells[-1].outputs[0].text == "2\n"
    path.write_text(GUIDE.replace("1 + 1", "1 + 2"))
    other = Guide.read(path).notebook()
    assert not Outputs(folder, execute=False).into(other, place)


def test_what_a_cell_printed_in_parts_is_one_text():
    printed = [("stdout", "a\n"), ("stderr", "warned"), ("stdout", "b\n")]
    outputs = tidy(
        [
            nbformat.v4.new_output("stream", name=name, text=text)
            for name, text in printed
        ]
    )
    assert [output.text for output in outputs] == ["a\nb\n"]


def test_links_of_the_repository_become_links_of_the_site():
    text = (
        "[a](guides/micinet.py) [b](docs/results/README.md#how-to-read-it) "
        "[c](examples) [d](LICENSE) [e](nothing.md) [f](https://a.b)"
    )
    assert relink(text, ROOT / "README.md", "start") == (
        "[a](/guides/micinet.ipynb) [b](/results/index.md#how-to-read-it) "
        "c [d](../LICENSE) [e](nothing.md) [f](https://a.b)"
    )


def test_what_a_page_of_the_repository_links_to_is_there():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        if "_build" not in page.parts
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if not re.match(r"[a-z]+:|/", target)
        # The build writes a notebook from every guide.
        and not target.endswith(".ipynb")
        and not (page.parent / target).exists()
    ]
    assert len(pages) > 20 and broken == []


def test_figures_of_a_page_are_those_of_a_report():
    report = (ROOT / "docs/results/field/report.md").read_text()
    rows = reference.overall_rows(report, ["QADM-Net"])
    assert len(rows) == 3 and rows[-1] in report
    with pytest.raises(ValueError, match="`wanted` must be rows"):
        reference.overall_rows(report, ["no such row"])
    with pytest.raises(ValueError, match="must have a table"):
        reference.overall_rows("# Nothing", [])


def test_the_reference_of_the_benchmark_has_every_key_and_a_true_example():
    for value in (
        benchmark.Comparison, benchmark.Dataset, benchmark.Method,
        benchmark.Training, benchmark.Tuning, benchmark.Evaluation,
    ):  # fmt: skip
        assert all(text for *_, text in reference.field_rows(value))
    defaults = {row[0]: row[1] for row in reference.field_rows(
        benchmark.Training
    )}  # fmt: skip
    assert defaults["`batch_size`"] == "`128`"
    assert defaults["`whole_batches`"] == "`false`"
    keys = {row[0].strip("`") for row in reference.section_rows()}
    assert keys == set(reference.SECTIONS)
    page = (ROOT / "docs/benchmark.md").read_text()
    example = re.search("```yaml\n(.*?)```", page, re.DOTALL)[1]
    comparison = benchmark.Comparison(**yaml.safe_load(example))
    assert list(comparison.methods) == ["late fusion, range control", "MICINet"]


PAGE = """# Page

See [there]({link}), `keras_mmrel.layers.{name}` and $x {operator} y$.

```{{constant}} keras_mmrel.evaluation.SCORES
```
"""


@pytest.mark.parametrize(
    ("link", "name", "operator", "warning"),
    [
        ("index.md", "InputQuality", "+", None),
        ("nothing.md", "InputQuality", "+", "nothing.md"),
        ("index.md", "InputQualty", "+", "InputQualty' is no name"),
        ("index.md", "InputQuality", r"\nonsense", "nonsense"),
    ],
)
def test_a_build_warns_of_what_is_wrong(
    link, name, operator, warning, tmp_path
):
    page = PAGE.format(link=link, name=name, operator=operator)
    (tmp_path / "index.md").write_text(page)
    (tmp_path / "conf.py").write_text("")
    warnings = io.StringIO()
    Sphinx(
        tmp_path, tmp_path, tmp_path / "out", tmp_path / "trees", "html",
        confoverrides={
            "extensions": ["myst_nb", "extensions.mathml", "extensions.site"],
            "html_math_renderer": "mathml",
            "myst_enable_extensions": ["dollarmath"],
        },
        status=None, warning=warnings,
    ).build()  # fmt: skip
    told = warnings.getvalue()
    # Names have no pages here, and that is told of each. A second Sphinx in
    # one process says that it has its parts already.
    known = ("has no page", "py:obj reference target", "already registered")
    assert "keras_mmrel.layers.InputQuality is public and has no page" in told
    assert warning is None or warning in told
    expected = 0 if warning is None else 1
    lines = [
        line
        for line in told.splitlines()
        if not any(text in line for text in known)
    ]
    assert len(lines) == expected, lines
    html = (tmp_path / "out/index.html").read_text()
    assert "area under the risk-coverage curve" in html
    assert "<math" in html or operator != "+"


def test_the_version_of_the_site_is_that_of_the_library():
    source = (ROOT / "docs/conf.py").read_text()
    assert "release = version = keras_mmrel.__version__" in source
    assert keras_mmrel.__version__
