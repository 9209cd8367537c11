"""A whole diagnosis: what it says, that it resumes, and its errors."""

import json
import re

import numpy as np
import pytest

from keras_mmrel import diagnose
from keras_mmrel.benchmark._store import Store
from keras_mmrel.diagnose.__main__ import main
from tests.benchmark.helpers import one_sentence
from tests.diagnose.made_data import clean
from tests.diagnose.made_data import save
from tests.diagnose.made_data import swapped

pytestmark = pytest.mark.one_backend
FEW = ["--methods", "concat fusion", "--folds", "2"]
MEASURE = {"mean", "error"}


def diagnosed(path, out, *more):
    return main([str(path), "--out", str(out), *FEW, *more])


def record(out):
    return json.loads((out / "diagnosis.json").read_text())


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Swapped files of one modality, in a table of columns with prefixes."""
    folder = tmp_path_factory.mktemp("faulty")
    x, y = clean(samples=300)
    x, rows = swapped(x, y, "b", 24)
    names = [f"{m}_{i}" for m in "abc" for i in range(8)]
    table = np.concatenate([x[m] for m in "abc"], axis=1)
    lines = [",".join(["patient", *names, "subtype"])]
    lines += [
        ",".join([f"P{n}", *(f"{v:.5f}" for v in row), f"type {label}"])
        for n, (row, label) in enumerate(zip(table, y, strict=True))
    ]
    path = folder / "table.csv"
    path.write_text("\n".join(lines))
    options = ["--labels", "subtype", "--ids", "patient", "--epochs", "12"]
    assert diagnosed(path, folder / "out", *options) == 0
    return folder / "out", rows


def test_files_that_were_swapped_are_found_and_listed(faulty):
    out, rows = faulty
    found = record(out)
    finding = next(f for f in found["findings"] if f["kind"] == "contradiction")
    assert finding["modality"] == "b" and finding["level"] == "warning"
    listed = [s for s in found["suspects"] if s["modality"] == "b"]
    assert len(listed) >= 12
    right = [s["row"] in rows for s in listed]
    assert np.mean(right) > 0.8
    assert all(s["id"] == f"P{s['row']}" for s in listed)
    assert "'b' says class type" in listed[0]["reason"]
    assert {f["kind"] for f in found["findings"]} == {"contradiction"}


def test_the_record_has_every_section_and_plain_numbers(faulty):
    found = record(faulty[0])
    assert found["version"] == 1
    assert found["data"]["classes"][0] == {"name": "type 0", "samples": 100}
    assert [m["name"] for m in found["data"]["modalities"]] == list("abc")
    assert set(found["accuracy"]) == {
        "a alone", "b alone", "c alone", "late fusion", "concat fusion",
    }  # fmt: skip
    for cell in found["accuracy"].values():
        assert set(cell) == MEASURE and 0 <= cell["mean"] <= 1
        assert cell["error"] >= 0
    shapley = found["contributions"]["modalities"]
    total = sum(cells["shapley"]["mean"] for cells in shapley.values())
    method = found["contributions"]["method"]
    none = found["contributions"]["none"]["mean"]
    whole = found["accuracy"][method]["mean"]
    assert total == pytest.approx(whole - none, abs=1e-3)
    kinds = {name.partition(": ")[0] for name in found["corruptions"]}
    assert kinds == {
        "clean", "noisy", "missing", "lost", "misaligned", "swapped",
    }  # fmt: skip
    assert len(found["corruptions"]) == 1 + 4 * 3 + 3
    assert set(found["balance"]) == set("abc")
    assert set(found["redundancy"]["without"]) == set("abc")
    assert {e["method"] for e in found["calibration"]} >= {"late fusion"}
    assert set(found["limits"]) == set(diagnose.LIMITS)
    for part in found["recommendation"].values():
        assert part["method"] in found["candidates"]
    test = found["test"]
    assert test["samples"] == 60 and "late fusion" in test["methods"]
    assert test["methods"]["late fusion"]["error"] > 0


def test_the_page_stands_alone_and_says_what_the_record_says(faulty):
    page = (faulty[0] / "index.html").read_text()
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    # Nothing is loaded from anywhere.
    assert not re.search(r"(src|href)=|url\(|@import|<script", page)
    for sentence in record(faulty[0])["summary"]:
        text = sentence.replace("&", "&amp;").replace("'", "&#x27;")
        assert text in page
    assert page.count("<h2>") == 10
    for limit in diagnose.LIMITS:
        assert limit.replace("_", " ") in page


def test_no_choice_has_seen_the_test_part(faulty):
    """What is said of the test part alone is another, and nothing else."""
    store = Store(faulty[0] / "runs")
    seen = {run.method for run in store.runs() if run.job.dataset == "test"}
    chosen = record(faulty[0])["recommendation"]
    rows = {part["row"] for part in chosen.values()}
    assert seen == {"a alone", "b alone", "c alone", "late fusion"} | rows


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The same clean data: interrupted after each fourth line, and not."""
    folder = tmp_path_factory.mktemp("resumed")
    x, y = clean(samples=90, names="ab")
    path = save(folder / "data.npz", x, y)
    assert diagnosed(path, folder / "whole", "--epochs", "2") == 0
    add, stopped = Store.add, 0

    def pressed(store, line):
        """Ctrl-C, each time that a further fourth line is written."""
        add(store, line)
        lines = store.path.read_bytes().count(b"\n")
        if lines % 8 == 0 and lines not in hit:
            hit.add(lines)
            raise KeyboardInterrupt

    hit = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "add", pressed)
        while True:
            code = diagnosed(path, folder / "parts", "--epochs", "2")
            if code == 0:
                break
            assert code == 130
            stopped += 1
    assert stopped == len(hit) >= 2
    return folder


def test_a_resumed_diagnosis_is_the_same_as_one_in_one_go(resumed):
    whole, parts = record(resumed / "whole"), record(resumed / "parts")
    # Times are those of the machine.
    assert whole.pop("seconds") > 0 and parts.pop("seconds") > 0
    assert whole == parts
    lines = (resumed / "parts/runs/runs.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    jobs = [
        (r["dataset"], r["fold"], r["method"], r["seed"])
        for r in runs
        if r["kind"] == "run"
    ]
    assert len(jobs) == len(set(jobs))


def test_a_finished_diagnosis_trains_nothing_again(resumed, capsys):
    before = (resumed / "whole/runs/runs.jsonl").read_bytes()
    code = diagnosed(resumed / "data.npz", resumed / "whole", "--epochs", "2")
    assert code == 0
    assert (resumed / "whole/runs/runs.jsonl").read_bytes() == before
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == str(resumed / "whole/index.html")


def test_clean_data_are_said_to_be_clean(resumed):
    found = record(resumed / "whole")
    assert found["findings"] == []
    assert found["summary"][0].startswith("Nothing is wrong with the data")


def test_a_folder_of_other_data_is_refused(resumed, capsys):
    x, y = clean(samples=90, names="ab", seed=5)
    path = save(resumed / "other.npz", x, y)
    assert diagnosed(path, resumed / "whole", "--epochs", "2") == 2
    text = capsys.readouterr().err
    assert one_sentence(text) and "other data" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.npz"], "`source` must be a .npz"),
        (["data.npz", "--labels", "z"], "`labels` must name an array"),
        (["data.npz", "--groups", "z"], "`groups` must name an array"),
        (["data.npz", "--modalities", "q"], "`modalities` must name arrays"),
        (["data.npz", "--modalities", "a"], "`modalities` must be two or more"),
        (["data.npz", "--methods", "MICI"], "the nearest is 'MICINet'"),
        (["data.npz", "--folds", "1"], "`folds` must be an integer"),
        (["data.npz", "--epochs", "0"], "`epochs` must be a positive"),
        (["data.npz", "--labels", "a"], "`labels` must be classes"),
        (["data.npz", "--split", "y"], "`split` must hold 'train' and"),
        (["text.npz"], "`source` must hold numbers in every modality"),
        (["short.npz"], "`source` must hold a row a sample"),
        (["damaged.npz"], "must be an undamaged .npz"),
        (["real.npz"], "`labels` must be classes"),
        (["table.csv"], "`labels` must name one column"),
        (["table.csv", "--labels", "k"], "`modalities` must say which"),
        (
            ["table.csv", "--labels", "k", "--modalities", "a=p*", "b=q*"],
            "`modalities` must give each column",
        ),
        (
            ["table.csv", "--labels", "k", "--modalities", "a=p", "b=t"],
            "hold numbers in the columns of modalities",
        ),
        (["data.json"], "`source` must be a .npz, .csv"),
        (["rosmap", "--labels", "y"], "must be a file of arrays"),
        (["two.yaml"], "`source` must have one data set"),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path, capsys, arguments, expected):
    x, y = clean(samples=30, names="ab")
    save(tmp_path / "data.npz", x, np.arange(30) % 4)
    save(tmp_path / "text.npz", {**x, "t": y.astype(str)}, y)
    save(tmp_path / "short.npz", {**x, "b": x["b"][:5]}, y)
    save(tmp_path / "real.npz", x, y + 0.5)
    whole = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "damaged.npz").write_bytes(whole[:300])
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "two.yaml").write_text("datasets: {rosmap: {}, cub: {}}")
    lines = ["p,q1,t,k", *(f"{i},{i * i},word,{i % 2}" for i in range(30))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    source = arguments[0]
    if (tmp_path / source).exists() or "." in source:
        source = str(tmp_path / source)
    arguments = [source, "--out", str(tmp_path / "out"), *arguments[1:]]
    assert main(arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and one_sentence(text), text
    assert expected in text
    assert not (tmp_path / "out").exists()
