import json
import re
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.evaluation import SCORES
from keras_mmrel.evaluation import RobustnessReport
from keras_mmrel.evaluation import evaluate_robustness
from tests.helpers import vectors

pytestmark = pytest.mark.one_backend

KEYS = ["corruption", "severity", "in_range"]
FILES = {"report.json", "scores.csv", "curves.csv", "report.md"}


def make_report(
    corruptions=("gaussian_one", "missing_unannounced"),
    classes=3,
    seeds=2,
    bad=(),
    **kwargs,
):
    """The report of a model that answers NaN in the calls named `bad`."""
    x, y = vectors(40, {"a": (6,), "b": (4,)}, classes)
    calls = []

    def model(x):
        calls.append(1)
        logits = 3.0 * x["a"][:, :classes] - 2.0 * x["b"][:, :classes]
        if len(calls) - 1 in bad:
            logits[0] = np.nan
        confidence = np.stack([x["a"].std(axis=1), x["b"].std(axis=1)], axis=1)
        return {"logits": logits, "confidence": -confidence}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return evaluate_robustness(
            model, x, y, corruptions, seeds=seeds, verbose=0, **kwargs
        )


def hand_made():
    """Two seeds of a corruption whose means are easy."""
    columns = [*KEYS, "seed", "samples", "accuracy", "ece"]
    rows = [
        ("clean", 0.0, True, 0, 10, 0.9, 0.01),
        ("swap", 2.0, True, 0, 10, 0.5, 0.1),
        ("swap", 2.0, True, 1, 10, 0.7, np.nan),
        ("fog", 1.0, False, 0, 10, 0.8, 0.2),
        ("fog", 1.0, False, 1, 10, 0.8, 0.4),
    ]
    curves = pd.DataFrame(
        columns=["corruption", "severity", "seed", "curve", "x", "y", "samples"]
    )
    scores = [SCORES[name].describe() for name in ("accuracy", "ece")]
    info = {"model": "by_hand", "samples": 10, "scores": scores}
    return RobustnessReport(pd.DataFrame(rows, columns=columns), curves, info)


def same(first, second):
    pd.testing.assert_frame_equal(first.scores, second.scores, check_exact=True)
    pd.testing.assert_frame_equal(first.curves, second.curves, check_exact=True)
    assert first.info == second.info
    return True


def test_summary_has_mean_and_standard_deviation_by_hand():
    table = hand_made().summary()
    assert table[KEYS].values.tolist() == [
        ["clean", 0.0, True],
        ["fog", 1.0, False],
        ["swap", 2.0, True],
    ]
    assert table["seeds"].tolist() == [1, 2, 2]
    np.testing.assert_allclose(table["accuracy"], [0.9, 0.8, 0.6])
    np.testing.assert_allclose(
        table["accuracy std"], [np.nan, 0, 0.1 * np.sqrt(2)], atol=1e-12
    )
    np.testing.assert_allclose(table["ece"], [0.01, 0.3, np.nan])
    np.testing.assert_allclose(
        table["ece std"], [np.nan, 0.1 * np.sqrt(2), np.nan]
    )
    assert not {"samples", "seed", "seed std"} & set(table.columns)


def test_summary_is_that_of_numpy_over_the_seeds():
    report = make_report(seeds=3)
    table = report.summary()
    assert len(table) == 1 + 4 + 2
    for _, row in table.iterrows():
        chosen = report.scores[
            (report.scores["corruption"] == row["corruption"])
            & (report.scores["severity"] == row["severity"])
        ]
        for name in ("accuracy", "nll", "aurc", "confidence/b"):
            np.testing.assert_allclose(row[name], np.mean(chosen[name]))
            if len(chosen) > 1:
                np.testing.assert_allclose(
                    row[f"{name} std"], np.std(chosen[name], ddof=1)
                )


def test_markdown_is_a_table_of_means_and_deviations():
    assert hand_made().to_markdown().split("\n") == [
        "| range | corruption | severity | accuracy in % ↑ | ece ↓ |",
        "|---|---|---|---|---|",
        "|  | clean | 0 | 90.0 | 0.010 |",
        "| outside | fog | 1 | 80.0 ± 0.0 | 0.300 ± 0.141 |",
        "| inside | swap | 2 | 60.0 ± 14.1 | – |",
    ]
    chosen = hand_made().to_markdown(["ece"]).split("\n")
    assert chosen[0] == "| range | corruption | severity | ece ↓ |"
    assert chosen[4] == "| inside | swap | 2 | – |"


def test_markdown_leaves_out_what_is_not_known():
    three = make_report().to_markdown().split("\n")[0]
    assert "accuracy" in three and "corrupted_auroc in" in three
    assert "| auroc in" not in three and "depth" not in three
    two = make_report(classes=2).to_markdown().split("\n")[0]
    assert "| auroc in % ↑ |" in two


def test_bar_in_a_name_does_not_split_a_cell_of_the_table():
    report = hand_made()
    report.scores["corruption"] = ["clean", *["a|b"] * 4]
    assert report.to_markdown().split("\n")[3].startswith(r"| outside | a\|b")


def test_unknown_column_is_refused():
    for columns in (["acuracy"], ["accuracy", "severity"], ["accuracy std"]):
        with pytest.raises(ValueError, match="`columns` must be scores out of"):
            hand_made().to_markdown(columns)


def test_repr_says_whose_report_it_is():
    assert repr(hand_made()) == (
        "<RobustnessReport of 'by_hand': 5 rows, 10 samples>"
    )


def draw(report):
    """Render the plot, warnings being errors, and return its panels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = report.plot()
        figure.canvas.draw()
    return figure, figure.axes


def test_plot_has_four_panels_and_a_legend_of_all_corruptions():
    report = make_report()
    figure, panels = draw(report)
    assert [axis.get_ylabel() for axis in panels] == [
        "accuracy ↑",
        "ece ↓",
        "risk: fraction of errors among them",
        "fraction of it that is right",
    ]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "clean",
        "gaussian_one, 5",
        "missing_unannounced, 1",
    ]
    assert figure.get_suptitle() == report.info["model"]


def test_corruptions_inside_the_range_are_grouped_and_dashed():
    report = make_report(["unaligned", "gaussian_one", "conflict"])
    table = report.scores.groupby("corruption")["in_range"].agg(set)
    assert table.to_dict() == {
        "clean": {True},
        "conflict": {True},
        "gaussian_one": {False},
        "unaligned": {True},
    }
    order = list(dict.fromkeys(report.summary()["corruption"]))
    assert order == ["clean", "gaussian_one", "unaligned", "conflict"]
    rows = report.to_markdown().split("\n")[2:]
    where = [row.split("|")[1].strip() for row in rows]
    assert where == ["", *["outside"] * 4, *["inside"] * 6]
    figure, panels = draw(report)
    for panel in (panels[0], panels[2]):
        lines = [
            line.get_linestyle()
            for line in panel.get_lines()
            if line.get_marker() in ("o", "s", "D", "v", "^", "P", "X", "*")
        ]
        assert lines.count("--") == 2 and lines.count("-") >= 1
    assert "inside the range" in figure.legends[0].get_title().get_text()


def test_plot_shows_the_numbers_of_the_report():
    report = make_report()
    table = report.summary().set_index("corruption")
    _, panels = draw(report)
    for axis, column in zip(panels[:2], ("accuracy", "ece"), strict=True):
        lines = [line for line, *_ in axis.containers]
        for line, name in zip(
            lines, ("gaussian_one", "missing_unannounced"), strict=True
        ):
            np.testing.assert_allclose(
                line.get_ydata().astype("float64"),
                table.loc[["clean", name], column],
            )
    risks = report.curves[
        (report.curves["corruption"] == "gaussian_one")
        & (report.curves["curve"] == "risk_coverage")
        & (report.curves["severity"] == 5)
        & (report.curves["seed"] == 0)
    ]
    line = panels[2].get_lines()[1]
    np.testing.assert_array_equal(line.get_xdata(), risks["x"])
    np.testing.assert_array_equal(line.get_ydata(), risks["y"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"classes": 2},
        {"corruptions": [GaussianNoise(0.5)], "seeds": 1},
        {"corruptions": []},
        {"corruptions": {f"n{i}": GaussianNoise(0.1 * i) for i in range(12)}},
        # Clean data, a severity in one seed, all of a corruption.
        {"bad": [0]},
        {"bad": [3]},
        {"bad": range(1, 9)},
        {"bad": range(99)},
    ],
)
def test_plot_and_markdown_come_without_a_crash(arguments):
    report = make_report(**arguments)
    figure, panels = draw(report)
    assert len(panels) == 4
    names = list(dict.fromkeys(report.scores["corruption"]))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text.split(",")[0] for text in texts] == names
    lines = report.to_markdown().split("\n")
    assert len(lines) == 2 + len(report.summary())


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"classes": 2, "seeds": 1},
        {"bad": [3]},
        {"bad": range(99)},
        {"corruptions": []},
        {"corruptions": {"None": "missing", "5": "missing_unannounced"}},
        {"corruptions": {'a, "b"\nc | d': "missing", "rauschen σ": "missing"}},
    ],
)
def test_saved_report_is_read_back_exactly(tmp_path, arguments):
    report = make_report(**arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.save(tmp_path / "new" / "folder")
        loaded = RobustnessReport.load(str(tmp_path / "new" / "folder"))
    assert type(loaded) is RobustnessReport
    assert same(loaded, report)
    assert loaded.to_markdown() == report.to_markdown()
    pd.testing.assert_frame_equal(loaded.summary(), report.summary())
    assert len(loaded.plot().axes) == 4


def test_folder_holds_four_files_and_no_part_of_one(tmp_path):
    report = make_report()
    report.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert page == (
        f"# {report.info['model']}\n\n{report.to_markdown()}\n\n"
        f"{report.legend()}\n"
    )
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["info"] == report.info


def test_report_in_the_folder_is_replaced_on_demand_only(tmp_path):
    first, second = make_report(), make_report(seeds=1)
    first.save(tmp_path)
    text = f"overwrite=True.*{re.escape(str(tmp_path))}"
    with pytest.raises(FileExistsError, match=text):
        second.save(tmp_path)
    assert same(RobustnessReport.load(tmp_path), first)
    second.save(tmp_path, overwrite=True)
    assert same(RobustnessReport.load(tmp_path), second)
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_other_files_of_the_folder_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    make_report().save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["scores.csv", "curves.csv"])
@pytest.mark.parametrize("change", ["truncated", "edited", "emptied"])
def test_table_that_was_cut_off_or_changed_is_refused(tmp_path, name, change):
    make_report().save(tmp_path)
    text = (tmp_path / name).read_text()
    text = {
        "truncated": text[: text.rindex("\n", 0, -1) + 1],
        "edited": text.replace("0.5", "0.6", 1),
        "emptied": "",
    }[change]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} must be as `save` wrote it"):
        RobustnessReport.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-20],
        lambda text: "",
        lambda text: "[]",
        lambda text: '{"info": {}}',
        lambda text: '{"info": {}, "checksums": {}}',
        lambda text: text.replace('"format": 2', '"format": 3'),
    ],
)
def test_record_that_was_cut_off_or_changed_is_refused(tmp_path, change):
    make_report().save(tmp_path)
    record = tmp_path / "report.json"
    record.write_text(change(record.read_text()))
    with pytest.raises(ValueError, match="report.json must be .* `save`"):
        RobustnessReport.load(tmp_path)


@pytest.mark.parametrize("name", sorted(FILES - {"report.md"}))
def test_folder_without_a_file_is_no_report(tmp_path, name):
    make_report().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"without \['{name}'\]"):
        RobustnessReport.load(tmp_path)


def test_folder_that_is_not_there_is_no_report(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold a saved report"):
        RobustnessReport.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("module", "use", "sentence"),
    [
        (
            "pandas",
            lambda report: report.summary(),
            "`RobustnessReport.summary` needs pandas.*"
            r"`pip install keras-mmrel\[report\]`",
        ),
        (
            "pandas",
            lambda report: make_report(),
            r"`evaluate_robustness` needs pandas.*\[report\]`",
        ),
        (
            "sklearn",
            lambda report: make_report(),
            r"`evaluate_robustness` needs scikit-learn.*\[data\]`",
        ),
        (
            "matplotlib",
            lambda report: report.plot(),
            r"`RobustnessReport.plot` needs matplotlib.*\[report\]`",
        ),
    ],
)
def test_package_that_is_not_there_is_named_with_its_extra(
    monkeypatch, module, use, sentence
):
    report = hand_made()
    for name in [n for n in sys.modules if n.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=sentence):
        use(report)
