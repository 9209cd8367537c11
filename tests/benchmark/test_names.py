"""Whatever something is called, it cannot end or spoil a report."""

import json
import warnings

import numpy as np
import pytest
from markdown_it import MarkdownIt

from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark import report
from keras_mmrel.benchmark._job import Job
from keras_mmrel.benchmark._names import figure_names
from keras_mmrel.benchmark._names import file_stem
from keras_mmrel.benchmark._names import markdown
from keras_mmrel.benchmark._names import one_line
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.evaluation import Score
from tests.benchmark.helpers import lines
from tests.benchmark.made_runs import Page
from tests.benchmark.made_runs import make_folder
from tests.benchmark.made_runs import make_run
from tests.benchmark.made_runs import runs_of

pytestmark = [
    pytest.mark.one_backend,
    pytest.mark.filterwarnings("ignore:Glyph"),
]

NAMES = [
    "$x_1$",
    "$",
    "a$b",
    r"\$x\$",
    r"$\frac{1}$",
    "pipe | name",
    r"a\|b",
    "||",
    "<b>bold</b>",
    "<script>alert(1)</script>",
    "<!-- ",
    "a < b & c > d",
    "&amp;",
    "&lt;",
    "**stars**",
    "*one*",
    "* item",
    "_under_",
    "__init__",
    "snake_case_name",
    "`tick`",
    "``two``",
    "```",
    "~~gone~~",
    "[link](x)",
    "![image](y)",
    "# head",
    "head #",
    "- item",
    "1. item",
    "> quote",
    "---",
    "===",
    "two\nlines",
    "two\r\nlines",
    "\ttab\t",
    "a\u2028b",
    "nul\x00bell\x07",
    "back\\slash",
    "C:\\path\\",
    "../../up",
    "/etc/passwd",
    "a/b",
    "con",
    ".",
    "..",
    "%s %d {0}",
    "{x}",
    "'quotes'",
    '"quotes"',
    "</td></table>",
    "</style>",
    "{{x}}",
    "Größe, Übung",
    "模型",
    "مرحبا",
    "😀",
    "e\u0301",
    "\u200b.",
    "x" * 200,
    "y" * 199 + "|",
    "ü" * 200,
    "模" * 200,
    "long $ name _ " * 20,
]


def rendered(text):
    """The texts that a renderer of Markdown shows, by kind of block."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    found, kind = {}, None
    for token in parser.parse(text):
        if token.type.endswith("_open"):
            kind = token.tag
        elif token.type == "inline":
            assert not any(
                child.type.startswith(("link", "html", "code", "em", "s_"))
                for child in token.children
            ), token.content
            shown = "".join(
                child.content
                for child in token.children
                if child.type in ("text", "text_special")
            )
            found.setdefault(kind, []).append(shown)
        else:
            assert "html" not in token.type
    return found


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_shown_as_it_is(name):
    text = f"A {markdown(name)} b\n\n| x |\n|---|\n| {markdown(name)} |\n"
    shown = rendered(text)
    expected = one_line(name)
    assert shown["p"] == [f"A {expected} b"]
    assert shown["td"] == [expected.strip()]


def test_file_names_are_of_letters_every_system_has():
    for name in NAMES:
        assert file_stem(name).encode("ascii").decode().isidentifier() or all(
            c.isalnum() or c == "_" for c in file_stem(name)
        )
        assert len(Job(0, name, None, name, name).id) < 100
    ids = {Job(0, "d", None, "r", name).id for name in NAMES}
    assert len(ids) == len(NAMES)


def test_names_in_a_figure_are_short_and_different():
    names = [*NAMES, "x" * 199 + "!", "x" * 100 + "-" + "x" * 99]
    found = figure_names(names)
    assert len(set(found.values())) == len(names)
    assert max(map(len, found.values())) < 70
    assert not any(text.startswith("_") for text in found.values())


def test_a_report_of_methods_with_such_names_is_whole(tmp_path):
    runs = runs_of(NAMES, seeds=[0, 1])
    folder = make_folder(tmp_path / "f", runs, title="$t|<i>\n**x**")
    paths = report(folder)
    assert all(path.stat().st_size for path in paths)
    shown = rendered((folder / "report.md").read_text("utf-8"))
    page = Page((folder / "report.html").read_text("utf-8"))
    assert page.open == []
    assert not {"script", "b", "i"} & set(page.tags)
    for name in NAMES:
        assert shown["td"].count(one_line(name).strip()) >= 4
        assert page.cells.count(one_line(name)) >= 4
    assert shown["h1"] == ["$t|<i> **x**"]


def test_a_report_of_data_and_regimes_with_such_names_is_whole(tmp_path):
    names = NAMES[::4]
    runs = [make_run("A", 0, dataset=n, regime=n) for n in names]
    folder = make_folder(tmp_path / "f", runs)
    paths = report(folder)
    assert len({path.name.lower() for path in paths}) == len(paths)
    assert all(path.parent == folder for path in paths)
    assert all(path.name.isascii() for path in paths)
    shown = rendered((folder / "report.md").read_text("utf-8"))
    for name in names:
        title = f"{one_line(name)}, {one_line(name)} training"
        assert title.strip() in shown["h2"]
        assert one_line(name).strip() in shown["td"]


def test_a_comparison_with_such_names_runs_and_reports(tmp_path):
    awful = "$|<b>*_`\n" + "ü" * 200
    y = np.arange(40) % 2
    names = ["$x|y$", "<b>*_`\n", "a/b c", "a_b_c", "ü" * 200]
    values = np.random.default_rng(0).normal(size=(40, 3)) + y[:, None]
    x = dict.fromkeys(names, values.astype("float32"))
    comparison = Comparison(
        title=awful,
        datasets={awful: lambda: (x, y)},
        methods={
            awful: {"model": "LateFusion", "inputs": "clipped"},
            "QADMNet": {"encoder": {"hidden_units": [4]}},
        },
        regimes={awful: {"noise_probability": 0.5}},
        seeds=1,
        training={"epochs": 1},
        evaluation={
            "corruptions": {awful: GaussianNoise(1.0)},
            "scores": [
                "accuracy",
                Score(awful, lambda p: p.right.mean(), True, awful),
            ],
            "probes": {awful: lambda model, x, y: {awful: 1.0}},
        },
    )
    comparison.run(tmp_path, verbose=0)
    assert len(lines(tmp_path, "run")) == 2
    with warnings.catch_warnings():
        # Constrained layouts that collapse, and mathematics that is none.
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Glyph")
        paths = comparison.report(tmp_path)
    assert all(path.stat().st_size for path in paths)
    shown = rendered((tmp_path / "report.md").read_text("utf-8"))
    expected = one_line(awful)
    assert shown["td"].count(expected) >= 3
    assert f"{expected}/{expected}".replace("_", " ") in shown["th"]
    # Somebody else's command goes on in the folder.
    comparison.run(tmp_path, verbose=0)
    assert len(lines(tmp_path, "run")) == 2
    config = json.loads((tmp_path / "config.json").read_text())
    assert awful in config["methods"]


@pytest.mark.parametrize("name", ["", " ", "\n", "half \ud800"])
def test_a_name_that_cannot_be_written_is_refused(name):
    with pytest.raises(ValueError, match="`methods` must have names that can"):
        Comparison(datasets={"d": len}, methods={name: {"model": "TMC"}})
