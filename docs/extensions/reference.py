"""Pages of the API by folder, and tables of typed fields and constants."""

import argparse
import functools
import inspect
import re
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from extensions.guides import write_if_new
from extensions.public_names import members
from extensions.public_names import public_packages
from keras_mmrel.benchmark.__main__ import make_parser
from keras_mmrel.benchmark.comparison import SECTIONS
from keras_mmrel.benchmark.comparison import Comparison
from keras_mmrel.benchmark.dataset import FILES
from keras_mmrel.benchmark.dataset import SOURCES
from keras_mmrel.benchmark.regime import OPTIONS
from keras_mmrel.benchmark.regime import Regime
from keras_mmrel.diagnose.__main__ import make_parser as diagnosis_parser
from keras_mmrel.layers import CorruptionAugmentation

RESULTS = Path(__file__).resolve().parents[1] / "results"
# What a constant of a package is; its page lists what it holds.
CONSTANTS = {
    "keras_mmrel.benchmark.PROBES": "Built-in probes of a comparison, by name.",
    "keras_mmrel.diagnose.LIMITS": (
        "Every limit of a diagnosis with what it decides, by name; all are "
        "this library's own choice."
    ),
    "keras_mmrel.evaluation.NOISE_PROTOCOLS": (
        "Built-in corruptions with their severities, by the name that "
        "`evaluate_robustness` and the benchmark take."
    ),
    "keras_mmrel.evaluation.SCORES": (
        "Built-in scores, by the name that reports and the benchmark take."
    ),
}


def write_api(folder: Path) -> None:
    """Write a page for each public package, with a list of its names."""
    pages = {}
    for full, package in public_packages().items():
        short = full.removeprefix("keras_mmrel.")
        pages[f"{short}.rst"] = _page(full, members(package))
    for old in folder.glob("*.rst"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        write_if_new(folder / name, text)


def _page(full: str, names: dict[str, object]) -> str:
    lines = [full, "=" * len(full), ""]
    lines += [f".. automodule:: {full}", "   :no-members:", ""]
    lines += [f".. currentmodule:: {full}", ""]
    groups = {
        "Classes": [n for n, v in names.items() if inspect.isclass(v)],
        "Functions": [n for n, v in names.items() if inspect.isroutine(v)],
        "Constants": [n for n in names if f"{full}.{n}" in CONSTANTS],
    }
    below = [v.__name__ for v in names.values() if inspect.ismodule(v)]
    if below:
        lines += [".. toctree::", ""]
        lines += [f"   {name.removeprefix('keras_mmrel.')}" for name in below]
        lines += [""]
    left = len(names) - len(below) - sum(map(len, groups.values()))
    if left:
        raise ValueError(
            f"`CONSTANTS` must have every constant of {full}. Received: {left} "
            "that are not there"
        )
    for group, members_ in groups.items():
        if members_:
            lines += [f".. rubric:: {group}", "", ".. autosummary::"]
            lines += ["   :toctree: .", "   :nosignatures:", ""]
            lines += [f"   {name}" for name in sorted(members_)]
            lines += [""]
    return "\n".join(lines)


def arguments(text: str) -> dict[str, str]:
    """Argument -> its text in Markdown, of a docstring's `Args`."""
    section = re.search(
        r"^Args:\n(.*?)(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE
    )
    if section is None:
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in section[1].splitlines():
        begins = re.match(r"    (\w+): (.*)", line)
        if begins:
            name = begins[1]
            found[name] = begins[2]
        elif name:
            found[name] += f" {line.strip()}"
    return {name: value.strip() for name, value in found.items()}


def field_rows(obj: object) -> list[list[str]]:
    """Field, default and meaning of what a typed object may hold."""
    texts = arguments(inspect.cleandoc(obj.__doc__ or ""))
    rows = []
    for name, parameter in inspect.signature(obj).parameters.items():
        default = parameter.default
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if default is inspect.Parameter.empty:
            shown = "needed"
        elif "factory" in repr(default):
            shown = "`{}`"
        else:
            shown = f"`{_yaml(default)}`"
        rows.append([f"`{name}`", shown, texts[name]])
    return rows


def section_rows() -> list[list[str]]:
    """The arguments of `Comparison` that are sections of a file."""
    rows = field_rows(Comparison)
    return [row for row in rows if row[0].strip("`") in SECTIONS]


def regime_rows() -> list[list[str]]:
    """What a regime of a file may hold."""
    rows = field_rows(CorruptionAugmentation)
    texts = arguments(inspect.cleandoc(Regime.__doc__ or ""))
    return [row for row in rows if row[0].strip("`") in OPTIONS] + [
        ["`training`", "`{}`", texts["training"]]
    ]


def source_rows() -> list[list[str]]:
    """Sources of a data set, and the options that each takes."""
    rows = []
    for name, options in SOURCES.items():
        kind = "kind of file" if name in FILES else "loader"
        shown = ", ".join(f"`{option}`" for option in options)
        rows.append([f"`{name}`", kind, shown])
    return rows


def command_lines() -> list[str]:
    """Help texts of the command line, one after the other."""
    lines = []
    parser = make_parser()
    commands = parser._subparsers._group_actions[0].choices
    for name, command in commands.items():
        lines += [f"### `{name}`", "", *help_lines(command), ""]
    return lines


def help_lines(parser: argparse.ArgumentParser) -> list[str]:
    """The help text of a command."""
    parser.formatter_class = functools.partial(argparse.HelpFormatter, width=72)
    return ["```text", *parser.format_help().rstrip().splitlines(), "```"]


def _yaml(value: object) -> str:
    """Return a default as a file would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    if isinstance(value, tuple | list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return str(value)


def constant_rows(full: str) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table of what a constant holds."""
    package, _, name = full.rpartition(".")
    values: Mapping[str, object] = getattr(public_packages()[package], name)
    if name == "SCORES":
        words = {True: "higher", False: "lower", None: ""}
        return ["name", "better", "meaning", "shown unasked"], [
            [
                f"`{key}`",
                words[score.higher_is_better],
                score.description,
                "yes" if score.shown else "",
            ]
            for key, score in values.items()
        ]
    if name == "NOISE_PROTOCOLS":
        return ["name", "severities", "what it does"], [
            [
                f"`{key}`",
                ", ".join(f"{s:g}" for s in protocol.severities),
                protocol.description,
            ]
            for key, protocol in values.items()
        ]
    if name == "LIMITS":
        return ["limit", "value", "what it is"], [
            [f"`{key}`", f"{limit.value:g}", limit.meaning]
            for key, limit in values.items()
        ]
    rows = []
    for key, value in values.items():
        rows.append([f"`{key}`", _first_line(value)])
    return ["name", "what it computes"], rows


def _first_line(value: object) -> str:
    return (
        inspect.cleandoc(value.__doc__ or "")
        .split("\n\n")[0]
        .replace("\n", " ")
    )


def overall_rows(report: str, wanted: Sequence[str]) -> list[str]:
    """Return the table over all data sets of a report, or rows of it.

    Raises:
        ValueError: If the report has no such table or row.
    """
    section = re.search(
        r"^## All data sets.*?\n(\|.*?)\n\n", report, re.DOTALL | re.MULTILINE
    )
    if section is None:
        raise ValueError("`report` must have a table over all data sets.")
    head, line, *rows = section[1].splitlines()
    named = {row.split("|")[1].strip(): row for row in rows}
    if not set(wanted) <= set(named):
        raise ValueError(
            f"`wanted` must be rows out of {list(named)}. Received: {wanted}"
        )
    kept = [named[name] for name in wanted or named]
    return [head.replace("|  |", "| accuracy in % |", 1), line, *kept]


def markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"
        for row in cells
    ]


class FromCode(SphinxDirective):
    """A part of a page in Markdown that is made of the code.

    A directive of a page is a subclass with `lines`.
    """

    def lines(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        holder = nodes.container()
        self.state.nested_parse(
            StringList(self.lines(), self.name),
            self.content_offset,
            holder,
            match_titles=True,
        )
        return holder.children


class Fields(FromCode):
    """`{fields} keras_mmrel.benchmark.Training`: key, default, meaning."""

    required_arguments = 1

    def lines(self) -> list[str]:
        package, _, name = self.arguments[0].rpartition(".")
        value = getattr(public_packages()[package], name)
        rows = section_rows() if value is Comparison else field_rows(value)
        return markdown_table(["key", "default", "meaning"], rows)


class Constant(FromCode):
    """`{constant} keras_mmrel.evaluation.SCORES`: what it holds."""

    required_arguments = 1

    def lines(self) -> list[str]:
        return markdown_table(*constant_rows(self.arguments[0]))


class RegimeKeys(FromCode):
    def lines(self) -> list[str]:
        return markdown_table(["key", "default", "meaning"], regime_rows())


class Sources(FromCode):
    def lines(self) -> list[str]:
        return markdown_table(["source", "kind", "options"], source_rows())


class CommandLine(FromCode):
    def lines(self) -> list[str]:
        return command_lines()


class DiagnosisLine(FromCode):
    def lines(self) -> list[str]:
        return help_lines(diagnosis_parser())


class Results(FromCode):
    """`{results} field`: its rows in the content, or all, as they are.

    Figures of a page are read from a report, so that they are those of it.
    """

    required_arguments = 1
    has_content = True

    def lines(self) -> list[str]:
        path = RESULTS / self.arguments[0] / "report.md"
        self.env.note_dependency(str(path))
        wanted = [line.strip() for line in self.content if line.strip()]
        return overall_rows(path.read_text(), wanted)


DIRECTIVES = {
    "fields": Fields,
    "constant": Constant,
    "regime": RegimeKeys,
    "sources": Sources,
    "command": CommandLine,
    "diagnosis": DiagnosisLine,
    "results": Results,
}
