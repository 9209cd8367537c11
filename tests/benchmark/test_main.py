"""The command ends with a code, and with one sentence if it fails."""

import json
import shutil
import sys

import pytest

from keras_mmrel.benchmark.__main__ import main
from tests.benchmark.helpers import arrays
from tests.benchmark.helpers import files
from tests.benchmark.helpers import jobs
from tests.benchmark.helpers import one_sentence
from tests.benchmark.helpers import settings
from tests.benchmark.helpers import write

pytestmark = pytest.mark.one_backend


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("main")
    path = write(folder, settings())
    assert main(["run", str(path), "--out", str(folder / "out")]) == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def fails(capsys, *arguments):
    """Error text of a command that must end with code 2 and a sentence."""
    assert main([str(a) for a in arguments]) == 2
    _, text = capsys.readouterr()
    assert one_sentence(text), text
    assert text.startswith("error: ")
    return text


def test_run_and_report_end_with_zero(copied, capsys):
    out = copied / "out"
    assert main(["run", str(copied / "config.yaml"), "--out", str(out)]) == 0
    assert f"2 of 2 runs are in {out}" in capsys.readouterr().out
    assert main(["report", str(out), "--baseline", "votes"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("wrote\n")
    for line in text.splitlines()[1:]:
        assert (copied / line.strip()).is_file()
    assert f"{out / 'report.html'}" in text


def test_a_part_of_the_work_is_done(tmp_path, capsys):
    path, out = write(tmp_path), tmp_path / "out"
    assert main(["run", str(path), f"--out={out}", "--shard=2/2"]) == 0
    assert jobs(out) == [(0, "tiny", "clean", "votes")]


def test_a_command_may_narrow_the_file(tmp_path, capsys):
    path, out = write(tmp_path), tmp_path / "out"
    run = ["run", str(path), f"--out={out}"]
    assert main([*run, "--datasets", "tiny", "--seeds", "1"]) == 0
    assert {seed for seed, *_ in jobs(out)} == {0}
    text = fails(capsys, *run, "--datasets", "tinny")
    assert "'tinny'; the nearest is 'tiny'" in text


def test_rows_of_a_file_may_run_alone_and_the_others_join(tmp_path, capsys):
    path, out = write(tmp_path), tmp_path / "out"
    run = ["run", str(path), f"--out={out}"]

    def baseline():
        return json.loads((out / "config.json").read_text())["baseline"]

    text = fails(capsys, *run, "--methods", "vote")
    assert "`methods`" in text and "'vote'; the nearest is 'votes'" in text
    assert not out.exists()
    assert main([*run, "--methods", "votes"]) == 0
    assert jobs(out) == [(0, "tiny", "clean", "votes")]
    # The file's baseline is left out.
    assert baseline() == "votes"
    assert main(run) == 0
    assert len(jobs(out)) == 2 and baseline() == "LateFusion"
    assert main([*run, "--methods", "votes"]) == 0
    assert len(jobs(out)) == 2 and baseline() == "LateFusion"


def test_regimes_of_a_file_may_run_alone_and_the_others_join(tmp_path, capsys):
    regimes = {"clean": {}, "noisy": {"noise_probability": 0.5}}
    path = write(tmp_path, settings(regimes=regimes, methods=["LateFusion"]))
    out = tmp_path / "out"
    run = ["run", str(path), f"--out={out}"]
    text = fails(capsys, *run, "--regimes", "noise")
    assert "`regimes`" in text and "'noise'; the nearest is 'noisy'" in text
    assert main([*run, "--regimes", "noisy"]) == 0
    assert {regime for _, _, regime, _ in jobs(out)} == {"noisy"}
    assert main(run) == 0
    assert {regime for _, _, regime, _ in jobs(out)} == set(regimes)
    # A file without any has the clean one.
    config = settings(methods=["LateFusion"])
    del config["regimes"]
    path = write(tmp_path, config)
    run = ["run", str(path), f"--out={tmp_path / 'other'}"]
    assert main([*run, "--regimes", "clean"]) == 0


def test_errors_of_a_config_are_sentences(tmp_path, capsys):
    out = tmp_path / "out"
    text = fails(capsys, "run", tmp_path / "no.yaml", "--out", out)
    assert "`config`" in text and "no.yaml" in text
    path = write(tmp_path, settings(seed=3))
    assert "nearest is 'seeds'" in fails(capsys, "run", path, "--out", out)
    path.write_text("training: {epochs: 1\nseeds: [")
    assert "`config` must be a YAML" in fails(capsys, "run", path, "--out", out)
    path.write_text("seeds: 1\nseeds: 2\n")
    assert "['seeds']" in fails(capsys, "run", path, "--out", out)
    path = write(tmp_path, settings(training=7))
    assert "`training`" in fails(capsys, "run", path, "--out", out)
    assert not out.exists()


def test_a_row_whose_modulation_changes_nothing_is_refused(tmp_path, capsys):
    # It touches kernels of convolutions, and there are none.
    rows = {"OGM-GE": {"model": "ConcatFusion", "modulation": "OGMGE"}}
    path = write(tmp_path, settings(methods=rows))
    text = fails(capsys, "run", path, "--out", tmp_path / "out")
    assert "`modulation` must change what its row learns" in text
    assert "OGMGE has nothing to modulate" in text


def test_errors_of_data_are_sentences(tmp_path, capsys):
    out, path = tmp_path / "out", write(tmp_path)
    data = tmp_path / "tiny.npz"
    data.write_bytes(data.read_bytes()[:500])
    text = fails(capsys, "run", path, "--out", out)
    assert "`datasets.tiny.path`" in text
    data.unlink()
    assert "does not exist" in fails(capsys, "run", path, "--out", out)
    path = write(tmp_path, settings(datasets={"rosmap": {"path": "none"}}))
    assert "`path`" in fails(capsys, "run", path, "--out", out)
    assert not out.exists()


def test_errors_of_a_folder_are_sentences(copied, capsys):
    out = copied / "out"
    before = files(out)
    path = write(copied, settings(training={"epochs": 5}))
    text = fails(capsys, "run", path, "--out", out)
    assert "another `training`" in text and str(out) in text
    path = write(copied, settings(), arrays(seed=3))
    assert "other data" in fails(capsys, "run", path, "--out", out)
    assert files(out) == before
    write(copied)
    assert "config.yaml" in fails(capsys, "run", path, "--out", path)


def test_parts_that_are_none_are_refused(tmp_path, capsys):
    path, out = write(tmp_path), tmp_path / "out"
    arguments = ["run", path, "--out", out, "--shard"]
    assert "`shard`" in fails(capsys, *arguments, "3/2")
    for text in ("2", "a/b", "1/2/3", "-1/2"):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments[:-1]), f"--shard={text}"])
        assert ended.value.code == 2
        errors = capsys.readouterr().err
        assert "must be I/N" in errors and repr(text) in errors


def test_errors_of_a_report_are_sentences(copied, tmp_path, capsys):
    assert "finished runs" in fails(capsys, "report", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "finished runs" in fails(capsys, "report", tmp_path / "empty")
    out = copied / "out"
    text = fails(capsys, "report", out, "--baseline", "nobody")
    assert "`baseline`" in text and "'votes'" in text and "'nobody'" in text
    config = (out / "config.json").read_text()
    (out / "config.json").write_text(config[:30])
    assert "config.json" in fails(capsys, "report", out)
    (out / "config.json").unlink()
    assert "finished runs" in fails(capsys, "report", out)


def test_a_folder_of_choices_without_runs_has_no_report(copied, capsys):
    path = copied / "out/runs.jsonl"
    kept = [
        line
        for line in path.read_text().splitlines()
        if json.loads(line)["kind"] != "run"
    ]
    path.write_text("\n".join(kept) + "\n")
    assert "finished runs" in fails(capsys, "report", copied / "out")


@pytest.mark.parametrize(
    ("module", "name"),
    [("matplotlib", "matplotlib"), ("scipy", "SciPy"), ("pandas", "pandas")],
)
def test_a_package_that_is_not_there_is_named(
    copied, capsys, monkeypatch, module, name
):
    monkeypatch.setitem(sys.modules, module, None)
    text = fails(capsys, "report", copied / "out")
    assert name in text and "pip install keras-mmrel[" in text


def test_without_pyyaml_the_command_names_the_extra(
    copied, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "yaml", None)
    text = fails(capsys, "run", copied / "config.yaml", "--out", copied / "out")
    assert "PyYAML" in text and "keras-mmrel[report]" in text


@pytest.mark.parametrize("arguments", [[], ["run"], ["report"], ["fly", "x"]])
def test_a_command_that_is_none_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m keras_mmrel.benchmark" in capsys.readouterr().err
