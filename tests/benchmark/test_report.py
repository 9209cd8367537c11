"""A page of a folder of runs: whole, self-contained, and honest."""

import json
import re

import numpy as np
import pandas
import pytest
from scipy import stats

from keras_mmrel.benchmark import report
from keras_mmrel.benchmark._block import condition_scores
from keras_mmrel.benchmark._recorded import Recorded
from keras_mmrel.benchmark._records import Run
from tests.benchmark.helpers import lines
from tests.benchmark.made_runs import CONDITIONS
from tests.benchmark.made_runs import NAMES
from tests.benchmark.made_runs import Page
from tests.benchmark.made_runs import make_folder
from tests.benchmark.made_runs import make_run
from tests.benchmark.made_runs import runs_of

pytestmark = pytest.mark.one_backend

PNG = b"\x89PNG\r\n\x1a\n"


def section(folder, heading):
    """Text of `report.md` under a heading."""
    text = (folder / "report.md").read_text("utf-8")
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def plain(markdown):
    """What a text in Markdown shows."""
    return re.sub(r"\\([^A-Za-z0-9\s])", r"\1", markdown)


def tables(text):
    """The tables of a Markdown text: first cell -> column -> cell."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.M):
        head, _, *rows = [
            [plain(c.strip()) for c in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.strip().splitlines()
        ]
        found.append({r[0]: dict(zip(head, r, strict=True)) for r in rows})
    return found


def recomputed(folder):
    """Mean over severities, from the lines of the folder and pandas alone."""
    frames = []
    for r in lines(folder, "run"):
        frame = pandas.DataFrame(r["scores"])
        for key in ("dataset", "regime", "method"):
            frame[key] = r[key]
        frame["seed"] = r["seed"]
        frames.append(frame)
    keys = ["dataset", "regime", "method", "seed", "corruption"]
    return pandas.concat(frames).groupby(keys)[list(NAMES)].mean()


def part(folder, heading, subheading):
    """Text under a heading of the second level and one of the third."""
    text = section(folder, heading)
    return text.split(f"\n### {subheading}")[1].split("\n### ")[0]


def shown(folder, score, corruption):
    """Method -> cell of a score, wherever the report has it."""
    title = "d, clean training"
    if corruption == "clean":
        table = tables(part(folder, title, "Clean data"))[0]
        column = next(c for c in table["A"] if c.split(" ")[0] == score)
        return {m: row[column] for m, row in table.items()}
    where = "outside" if corruption == "gaussian_one" else "inside"
    text = part(folder, title, f"Corruptions {where}")
    name = score.replace("_", " ")
    text = re.split(rf"\n{name} [↑↓]:\n", text)[1]
    return {m: row[corruption] for m, row in tables(text)[0].items()}


def differences(folder, corruption="clean", heading="d, clean training"):
    subheading = "Clean data" if corruption == "clean" else "Corruptions "
    if corruption != "clean":
        outside = corruption == "gaussian_one"
        subheading += "outside" if outside else "inside"
    text = part(folder, heading, subheading)
    return tables(text.split("\nPaired difference")[1])[0]


@pytest.mark.parametrize("split", ["published", "resampled"])
def test_means_and_errors_are_those_of_pandas(tmp_path, split):
    runs = runs_of(["A", "BB", "CCC"], split=split)
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    values = recomputed(folder).loc["d", "clean"]
    ratio = 30 / 60 if split == "resampled" else 0.0
    for score, corruption, scale, digits in (
        ("accuracy", "clean", 100, 1),
        ("nll", "clean", 1, 3),
        ("aurc", "clean", 1, 3),
        ("accuracy", "gaussian_one", 100, 1),
        ("accuracy", "missing", 100, 1),
        ("ece", "missing", 1, 3),
        ("corrupted_auroc", "gaussian_one", 100, 1),
    ):
        cells = shown(folder, score, corruption)
        assert list(cells) == ["A", "BB", "CCC"]
        means = {}
        for method, cell in cells.items():
            v = scale * values.loc[method, :, corruption][score].to_numpy()
            assert len(v) == 3
            error = np.sqrt(v.var(ddof=1) * (1 / 3 + ratio))
            text = f"{v.mean():.{digits}f} ± {error:.{digits}f}"
            assert cell.strip("*") == text
            means[method] = v.mean()
        down = score in ("nll", "ece", "aurc")
        winner = (min if down else max)(means, key=means.__getitem__)
        bold = [m for m, cell in cells.items() if cell.startswith("**")]
        assert bold == [winner]
    text = section(folder, "d, clean training")
    assert "corrupted auroc ↑" not in part(
        folder, "d, clean training", "Corruptions inside"
    )
    assert ("Nadeau" in text) == (split == "resampled")


def test_parameters_and_the_time_of_a_training_stand_in_the_table(tmp_path):
    folder = make_folder(tmp_path / "f", runs_of(["A", "BB"]))
    report(folder)
    table = tables(section(folder, "d, clean training"))[0]
    assert {m: row["parameters"] for m, row in table.items()} == {
        "A": "10",
        "BB": "20",
    }
    assert {row["training"] for row in table.values()} == {"1.2 s"}


def test_folds_are_the_units_and_not_the_runs(tmp_path):
    runs = [
        make_run(m, seed, fold=fold, split="published")
        for m in ("A", "BB")
        for seed in range(4)
        for fold in (0, 1, 2)
    ]
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    units = {}
    for method in ("A", "BB"):
        folds = [
            np.mean(
                [
                    r["scores"]["accuracy"][0]
                    for r in runs
                    if (r["method"], r["fold"]) == (method, fold)
                ]
            )
            for fold in (0, 1, 2)
        ]
        units[method] = 100 * np.array(folds)
        # Three folds, whose training parts share samples.
        error = np.sqrt(units[method].var(ddof=1) * (1 / 3 + 30 / 60))
        cell = shown(folder, "accuracy", "clean")[method].strip("*")
        assert cell == f"{units[method].mean():.1f} ± {error:.1f}"
    d = units["BB"] - units["A"]
    error = np.sqrt(d.var(ddof=1) * (1 / 3 + 30 / 60))
    cell = differences(folder)["BB"]["accuracy ↑"].strip("*")
    assert cell == f"{d.mean():+.1f} ± {error:.1f}"
    assert "Errors are over folds" in section(folder, "d, clean training")


@pytest.mark.parametrize("split", ["published", "resampled"])
def test_differences_and_stars_are_those_of_scipy(tmp_path, split):
    runs = runs_of(["A", "BB", "CCC"], seeds=range(6), split=split)
    for r in runs:
        if r["method"] == "CCC":
            # A clear difference that has a star.
            paired = make_run("A", r["seed"])["scores"]["accuracy"]
            noise = 1e-4 * r["seed"]
            r["scores"]["accuracy"] = [v + 0.1 + noise for v in paired]
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    table = differences(folder, "gaussian_one")
    assert list(table) == ["BB", "CCC"]
    values = recomputed(folder).loc["d", "clean"]
    ratio = 30 / 60 if split == "resampled" else 0.0
    p, cells = {}, {}
    for method in table:
        a, b = (
            values.loc[m, :, "gaussian_one"]["accuracy"].to_numpy()
            for m in (method, "A")
        )
        d = a - b
        error = np.sqrt((1 / 6 + ratio) * d.var(ddof=1))
        p[method] = 2 * stats.t.sf(abs(d.mean()) / error, 5)
        cells[method] = f"{100 * d.mean():+.1f} ± {100 * error:.1f}"
        if not ratio:
            assert p[method] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    smaller = min(p, key=p.__getitem__)
    adjusted = {
        m: 2 * v if m == smaller else max(v, 2 * p[smaller])
        for m, v in p.items()
    }
    assert adjusted["CCC"] < 0.05
    for method, row in table.items():
        # On one test part the error over seeds is no test: what its samples
        # add is not known here, without predictions.
        known = split == "resampled"
        star = "*" if known and adjusted[method] < 0.05 else ""
        assert row["gaussian_one"] == cells[method] + star


def test_ranks_are_means_over_blocks(tmp_path):
    runs = []
    order = {("d", "clean"): "A BB CCC", ("d", "noisy"): "BB A CCC",
             ("e", "clean"): "A CCC BB"}  # fmt: skip
    for (dataset, regime), best in order.items():
        for place, method in enumerate(best.split()):
            r = make_run(method, 0, regime, dataset)
            for name in NAMES[:-1]:
                up = name in ("accuracy", "f1_macro", "auroc")
                value = 0.9 - place / 10 if up else 0.1 + place / 10
                r["scores"][name] = [value] * len(CONDITIONS)
            runs.append(r)
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    (ranks,) = tables(section(folder, "Mean ranks"))
    for column in (
        "accuracy ↑", "accuracy ↑, inside", "accuracy ↑, outside", "nll ↓",
        "ece ↓", "aurc ↓",
    ):  # fmt: skip
        assert {m: row[column] for m, row in ranks.items()} == {
            "A": "1.3", "BB": "2.0", "CCC": "2.7",
        }  # fmt: skip


def test_one_table_over_all_data_sets(tmp_path):
    """Means, ranks and counts that are computed here by hand."""
    # Data set -> method -> accuracy of the seeds, the same in all conditions.
    made = {
        "d": {"A": (0.9, 0.8), "BB": (0.8, 0.7), "CCC": (0.2, 0.4)},
        "e": {"A": (0.5, 0.5), "BB": (0.7, 0.3), "CCC": (0.5, 0.6)},
    }
    runs = []
    for dataset, methods in made.items():
        for method, values in methods.items():
            for seed, value in enumerate(values):
                run = make_run(method, seed, dataset=dataset)
                run["scores"]["accuracy"] = [value] * len(CONDITIONS)
                runs.append(run)
    # Without one of the data sets a mean would be another one.
    runs.append(make_run("DDDD", 0, dataset="d"))
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    (table,) = tables(section(folder, "All data sets, clean training"))
    # Test parts of 30, training parts of 60, two seeds.
    factor = np.sqrt(0.5 + 0.5)
    for group in ("clean", "mean, inside", "mean, outside"):
        for method, row in table.items():
            values = [made[dataset][method] for dataset in made]
            spread = np.hypot(*np.std(values, axis=1, ddof=1))
            text = f"{100 * np.mean(values):.1f} ± "
            text += f"{100 * factor / 2 * spread:.1f}"
            assert row[group].strip("*") == text
        assert table["A"][group].startswith("**")
    # A is first in d, and 0.05 behind CCC in e, by differences of 0 and 0.1:
    # not more than their error.
    assert list(table) == ["A", "BB", "CCC"]
    assert [row["behind"] for row in table.values()] == [
        "0 of 6", "3 of 6", "3 of 6",
    ]  # fmt: skip
    assert [row["mean rank"] for row in table.values()] == ["1.8", "2.2", "2.0"]


def test_ranks_over_data_sets_and_what_they_tell_apart(tmp_path):
    # Method -> accuracy on three data sets: ranks 1 1 1, 2 3 2.5, 3 2 2.5.
    made = {"A": (0.9, 0.8, 0.7), "BB": (0.8, 0.3, 0.2), "C": (0.2, 0.4, 0.2)}
    runs = []
    for method, values in made.items():
        for dataset, value in zip("def", values, strict=True):
            run = make_run(method, 0, dataset=dataset)
            run["scores"]["accuracy"] = [value] * len(CONDITIONS)
            runs.append(run)
    # Not on all data sets: it has no rank, and moves nobody's.
    runs.append(make_run("DDDD", 0, dataset="d"))
    folder = make_folder(tmp_path / "f", runs)
    files = report(folder)
    text = section(folder, "Ranks over 3 data sets, clean training")
    (table,) = tables(text)
    assert list(table) == ["A", "BB", "C", "p (Friedman)"]
    for group in ("clean", "mean, inside", "mean, outside"):
        found = [row[group] for row in table.values()]
        # Kendall's W is 1.5 / (5.5 / 3), with a tie: F = 9 on 2 and 4.
        p = stats.f.sf(9.0, 2, 4)
        assert found == ["1.0", "2.5", "2.5", f"{p:.2g}"]
    # 2.343 sqrt(3 * 4 / (6 * 3)): more than any of these differences.
    assert "critical difference of 3 methods is 1.9 ranks" in text
    assert folder / "all_clean_ranks.png" in files


def test_two_data_sets_have_no_ranks(tmp_path):
    runs = [make_run(m, 0, dataset=d) for m in ("A", "B", "C") for d in "de"]
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    assert "Ranks over" not in (folder / "report.md").read_text()


def test_one_data_set_has_no_table_over_all(tmp_path):
    folder = make_folder(tmp_path / "f", runs_of(["A", "BB"]))
    report(folder)
    assert "All data sets" not in (folder / "report.md").read_text()


def test_the_page_is_self_contained_and_names_are_texts(tmp_path):
    names = ["<b>bold</b>", "pipe | name", "**stars**", "plain & simple"]
    folder = make_folder(tmp_path / "f", runs_of(names))
    report(folder)
    text = (folder / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "b"} & set(page.tags)
    assert len(page.links) == 2
    assert all(v.startswith("data:image/png;base64,") for v in page.links)
    assert "http" not in text and "url(" not in text
    for name in names:
        assert page.cells.count(name) >= 3
    markdown = (folder / "report.md").read_text("utf-8")
    means = tables(section(folder, "d, clean training"))[0]
    assert list(means) == names
    assert r"# A \<comparison> & more" in markdown
    assert "<title>A &lt;comparison&gt; &amp; more</title>" in text


def test_notes_stand_before_the_first_table(tmp_path):
    notes = ["Row A was chosen on test data."]
    folder = make_folder(tmp_path / "f", runs_of(["A", "B"]), notes=notes)
    report(folder)
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text("utf-8")
        place = text.index(notes[0])
        assert place < text.index("clean training")


def test_all_files_are_there_and_returned(tmp_path):
    runs = runs_of(["A", "BB"]) + runs_of(["A", "BB"], regime="noisy")
    folder = make_folder(tmp_path / "f", runs)
    paths = report(folder)
    assert {p.name for p in paths} == {
        "report.md", "report.html", "d_clean_accuracy.png",
        "d_clean_differences.png", "d_noisy_accuracy.png",
        "d_noisy_differences.png",
    }  # fmt: skip
    kept = {"config.json", "runs.jsonl"}
    assert {p.name for p in folder.iterdir()} == kept | {p.name for p in paths}
    markdown = (folder / "report.md").read_text("utf-8")
    for path in paths[2:]:
        assert path.read_bytes().startswith(PNG)
        assert f"]({path.name})" in markdown
    again = report(folder)
    assert again == paths


def test_blocks_of_like_names_have_figures_of_their_own(tmp_path):
    runs = runs_of(["A"], regime="x 1") + runs_of(["A"], regime="x_1")
    paths = report(make_folder(tmp_path / "f", runs))
    assert [p.name for p in paths[2:]] == [
        "d_x_1_accuracy.png",
        "d_x_1_2_accuracy.png",
    ]


def test_the_environment_and_the_config_stand_once(tmp_path):
    folder = make_folder(tmp_path / "f", runs_of(["A", "BB"]))
    report(folder)
    assert section(folder, "Environment").count("keras 3.0") == 1
    config = section(folder, "Config").strip().strip("`")
    assert json.loads(config) == json.loads(
        (folder / "config.json").read_text()
    )


def test_missing_runs_are_listed(tmp_path):
    runs = runs_of(["A", "BB"], seeds=[0, 1])[:-1]
    methods = {name: Recorded(name) for name in ("A", "BB", "never")}
    folder = make_folder(tmp_path / "f", runs, methods=methods)
    report(folder)
    assert "3 runs, 3 of 6 are missing yet" in (folder / "report.md").read_text(
        "utf-8"
    )
    (missing,) = tables(section(folder, "Missing runs"))
    assert {m: row["seeds"] for m, row in missing.items()} == {
        "BB": "1",
        "never": "0, 1",
    }
    means, paired = tables(part(folder, "d, clean training", "Clean data"))
    assert {m: row["runs"] for m, row in means.items()} == {"A": "2", "BB": "1"}
    # Only the seed that both have; of one pair there is no deviation.
    values = recomputed(folder).loc["d", "clean", :, 0, "clean"]["accuracy"]
    difference = 100 * (values["BB"] - values["A"])
    assert paired["BB"]["accuracy ↑"] == f"{difference:+.1f}"


def test_a_whole_folder_misses_nothing(tmp_path):
    folder = make_folder(tmp_path / "f", runs_of(["A", "BB"]))
    report(folder)
    text = (folder / "report.md").read_text("utf-8")
    assert "6 runs; 2 methods" in text and "Missing runs" not in text


def test_a_run_that_two_commands_made_counts_once(tmp_path):
    runs = runs_of(["A", "BB"])
    twice = make_run("A", 0, broken=True)
    folder = make_folder(tmp_path / "f", [*runs, twice])
    report(folder)
    text = (folder / "report.md").read_text("utf-8")
    assert "6 runs; 2 methods" in text and "NaN in" not in text


def test_nan_is_named_and_not_averaged(tmp_path):
    runs = runs_of(["A", "BB", "CCC"], seeds=[0, 1])
    runs[1] = make_run("BB", 0, broken=True)
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    means, paired = tables(part(folder, "d, clean training", "Clean data"))
    for score, corruption in (
        ("accuracy", "clean"), ("nll", "clean"), ("accuracy", "missing"),
    ):  # fmt: skip
        cells = shown(folder, score, corruption)
        assert cells["BB"] == "NaN in 1 of 2"
        assert "±" in cells["A"]
    assert paired["BB"]["accuracy ↑"] == "–"
    assert "±" in paired["CCC"]["accuracy ↑"]
    (ranks,) = tables(section(folder, "Mean ranks"))
    assert {row["accuracy ↑"] for row in ranks.values()} == {"–"}


def test_a_method_that_is_nan_everywhere_is_named(tmp_path):
    runs = [make_run("A", 0), make_run("BB", 0, broken=True)]
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    for score, corruption in (
        ("accuracy", "clean"), ("nll", "clean"), ("accuracy", "missing"),
    ):  # fmt: skip
        assert shown(folder, score, corruption)["BB"] == "NaN in 1 of 1"
    alone = make_folder(tmp_path / "g", runs[1:])
    report(alone)
    means = tables(section(alone, "d, clean training"))[0]
    assert means["BB"]["accuracy ↑"] == "NaN in 1 of 1"


def test_one_nan_of_a_corruption_makes_its_mean_nan():
    r = make_run("A", 0)
    r["scores"]["accuracy"][1] = None
    groups = {"both": ["gaussian_one", "missing"], "one": ["missing"]}
    table = condition_scores([Run.of(r)], groups)
    table = table[table["score"] == "accuracy"].set_index("corruption")["value"]
    assert np.isnan(table[["gaussian_one", "both"]]).all()
    assert np.isfinite(table[["clean", "missing"]]).all()
    assert table["one"] == table["missing"]


def test_the_mean_over_corruptions_weighs_each_the_same():
    r = make_run("A", 0)
    table = condition_scores([Run.of(r)], {"both": ["gaussian_one", "missing"]})
    table = table[table["score"] == "nll"].set_index("corruption")["value"]
    values = r["scores"]["nll"]
    expected = ((values[1] + values[2]) / 2 + values[3]) / 2
    np.testing.assert_allclose(table["both"], expected)


def test_a_single_seed_has_means_without_deviations(tmp_path):
    folder = make_folder(tmp_path / "f", runs_of(["A", "BB"], seeds=[4]))
    report(folder)
    means, paired = tables(part(folder, "d, clean training", "Clean data"))
    assert "±" not in json.dumps([means, paired], ensure_ascii=False)
    assert paired["BB"]["accuracy ↑"][0] in "+-"
    assert "*" not in paired["BB"]["accuracy ↑"]


def test_a_single_method_has_no_differences(tmp_path):
    folder = make_folder(tmp_path / "f", runs_of(["A"]))
    paths = report(folder)
    assert [p.name for p in paths[2:]] == ["d_clean_accuracy.png"]
    assert "Paired" not in section(folder, "d, clean training")


def test_clean_data_alone_have_a_report(tmp_path):
    runs = runs_of(["A", "BB"])
    for r in runs:
        r["scores"] = {k: v[:1] for k, v in r["scores"].items()}
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    (ranks,) = tables(section(folder, "Mean ranks"))
    assert not any("inside" in column for column in ranks["A"])
    assert {row["accuracy ↑"] for row in ranks.values()} == {"1.0", "2.0"}


def test_a_baseline_may_be_chosen(tmp_path):
    folder = make_folder(tmp_path / "f", runs_of(["A", "BB", "CCC"]))
    report(folder, baseline="CCC")
    text = section(folder, "d, clean training")
    assert "Paired difference to CCC" in text
    assert list(differences(folder)) == ["A", "BB"]


def test_the_settings_that_were_chosen_are_counted(tmp_path):
    runs = runs_of(["A"])
    runs[0]["settings"] = {"learning_rate": 0.5}
    folder = make_folder(tmp_path / "f", runs)
    report(folder)
    (table,) = tables(section(folder, "Settings chosen on training data"))
    chosen = table["A"]["chosen (runs)"]
    # The grid goes from 0.001 to 0.5.
    assert '{"learning_rate": 0.5} † (1)' in chosen
    assert '{"learning_rate": 0.01} (2)' in chosen


def test_runs_of_several_states_of_the_source_are_named(tmp_path):
    """Where a folder was gone on with after a method had changed."""
    runs = runs_of(["A", "B"])
    folder = make_folder(tmp_path / "runs", runs)
    report(folder)
    assert "states of the source" not in (folder / "report.md").read_text()
    runs[-1]["environment"] = "e2"
    make_folder(folder, runs)
    file = folder / "runs.jsonl"
    other = {"kind": "environment", "id": "e2", "source": "ab"}
    file.write_text(json.dumps(other) + "\n" + file.read_text())
    report(folder)
    text, _ = (folder / "report.md").read_text().split("\n## ", 1)
    assert "Runs are of 2 states of the source" in text
    assert "Methods with runs of several: B." in text
