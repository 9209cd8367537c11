"""A whole diagnosis: what it says, that it resumes, and its errors."""

import json
import re
import shutil

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
TABLE = ["--labels", "subtype", "--ids", "patient", "--epochs", "10"]
MEASURE = {"mean", "error"}


def diagnosed(path, out, *more):
    return main([str(path), "--out", str(out), *FEW, *more])


def record(out):
    return json.loads((out / "diagnosis.json").read_text())


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Swapped files of one modality, in a table of columns with prefixes."""
    folder = tmp_path_factory.mktemp("faulty")
    x, y = clean(samples=240, names="ab", apart=2.5)
    x, rows = swapped(x, y, "b", 18)
    names = [f"{m}_{i}" for m in "ab" for i in range(8)]
    table = np.concatenate([x[m] for m in "ab"], axis=1)
    lines = [",".join(["patient", *names, "subtype"])]
    lines += [
        ",".join([f"P{n}", *(f"{v:.5f}" for v in row), f"type {label}"])
        for n, (row, label) in enumerate(zip(table, y, strict=True))
    ]
    path = folder / "table.csv"
    path.write_text("\n".join(lines))
    assert diagnosed(path, folder / "out", *TABLE) == 0
    return folder / "out", rows


def test_files_that_were_swapped_are_found_and_listed(faulty):
    out, rows = faulty
    found = record(out)
    finding = next(f for f in found["findings"] if f["kind"] == "contradiction")
    assert finding["modality"] == "b" and finding["level"] == "warning"
    listed = [s for s in found["suspects"] if s["modality"] == "b"]
    assert len(listed) >= 9
    right = [s["row"] in rows for s in listed[:10]]
    assert np.mean(right) > 0.8
    assert all(s["id"] == f"P{s['row']}" for s in listed)
    assert "'b' says class type" in listed[0]["reason"]
    assert {f["kind"] for f in found["findings"]} == {"contradiction"}


def test_the_record_has_every_section_and_plain_numbers(faulty):
    found = record(faulty[0])
    assert found["version"] == 1
    assert found["data"]["classes"][0] == {"name": "type 0", "samples": 80}
    assert [m["name"] for m in found["data"]["modalities"]] == list("ab")
    assert set(found["accuracy"]) == {
        "a alone", "b alone", "late fusion", "concat fusion",
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
    assert len(found["corruptions"]) == 1 + 4 * 2 + 1
    assert set(found["balance"]) == set("ab")
    assert set(found["redundancy"]["without"]) == set("ab")
    assert {e["method"] for e in found["calibration"]} >= {"late fusion"}
    assert set(found["limits"]) == set(diagnose.LIMITS)
    for part in found["recommendation"].values():
        assert part["method"] in found["candidates"]
    test = found["test"]
    assert test["samples"] == 48 and "late fusion" in test["methods"]
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
    assert seen == {"a alone", "b alone", "late fusion"} | rows


def test_an_interrupted_diagnosis_goes_on_and_ends_the_same(
    faulty, tmp_path, monkeypatch, capsys
):
    """Its last runs are taken away, then Ctrl-C is pressed after one more."""
    table, out = faulty[0].parent / "table.csv", tmp_path / "out"
    shutil.copytree(faulty[0], out)
    (out / "index.html").unlink()
    (out / "diagnosis.json").unlink()
    lines = (out / "runs/runs.jsonl").read_bytes().splitlines(keepends=True)
    (out / "runs/runs.jsonl").write_bytes(b"".join(lines[:-5]))
    add = Store.add

    def pressed(store, line):
        add(store, line)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", pressed)
        assert diagnosed(table, out, *TABLE) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert not (out / "diagnosis.json").exists()
    assert len((out / "runs/runs.jsonl").read_bytes().splitlines()) == (
        len(lines) - 4
    )
    assert diagnosed(table, out, *TABLE) == 0
    whole, parts = record(faulty[0]), record(out)
    # Times are those of the machine.
    assert whole.pop("seconds") > 0 and parts.pop("seconds") > 0
    assert whole == parts
    runs = (out / "runs/runs.jsonl").read_bytes().splitlines()
    assert len(runs) == len(lines)
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == str(out / "index.html")


def test_a_folder_of_other_data_is_refused(faulty, tmp_path, capsys):
    x, y = clean(samples=240, names="ab", seed=5)
    path = save(tmp_path / "other.npz", x, y)
    before = (faulty[0] / "runs/runs.jsonl").read_bytes()
    assert diagnosed(path, faulty[0], "--epochs", "10") == 2
    text = capsys.readouterr().err
    assert one_sentence(text) and "other data" in text
    assert (faulty[0] / "runs/runs.jsonl").read_bytes() == before


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
        (["data.npz", "--split", "y"], "must be different arrays"),
        (["data.npz", "--split", "a"], "`split` must hold a value a sample"),
        (["split.npz", "--split", "s"], "`split` must hold 'train' and"),
        (["text.npz"], "`source` must hold numbers in every modality"),
        (["short.npz"], "`source` must hold a row a sample"),
        (["damaged.npz"], "must be an undamaged .npz"),
        (["real.npz"], "`labels` must be classes"),
        (["table.csv"], "`labels` must name one column"),
        (["table.csv", "--labels", "k"], "`modalities` must say which"),
        (
            ["table.csv", "--labels", "k", "--modalities", "a=p*", "b=z*"],
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
    save(tmp_path / "split.npz", x, y, s=np.arange(30))
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
