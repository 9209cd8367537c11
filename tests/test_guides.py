"""Every guide runs from its first line to its last, with few epochs here."""

from pathlib import Path

import pytest

from tests import few_epochs
from tests.test_examples import ROOT
from tests.test_examples import run

GUIDES = sorted((ROOT / "guides").glob("*.py"))
HEADER = ("Title", "Author", "Date created", "Last modified", "Description")


def test_there_are_guides():
    assert GUIDES


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_guide_has_the_header_that_keras_io_reads(guide):
    lines = guide.read_text().splitlines()
    assert lines[0] == '"""'
    for name, line in zip(HEADER, lines[1:], strict=False):
        assert line.startswith(f"{name}: ")


def guide_runs(*command, folder, monkeypatch):
    # Pictures need no screen, and what is saved goes to an empty folder.
    monkeypatch.setenv("MPLBACKEND", "Agg")
    text = run(*command, cwd=folder)
    assert "the same predictions: True" in text
    assert not list(Path(folder).iterdir())


@pytest.mark.parametrize(
    "guide",
    [
        # Layers in a model of one's own: the proof on every backend.
        guide
        if guide.stem == "own_model"
        else pytest.param(guide, marks=pytest.mark.slow_on("jax", "tensorflow"))
        for guide in GUIDES
    ],
    ids=lambda path: path.stem,
)
def test_every_line_of_a_guide_runs(guide, tmp_path, monkeypatch):
    script = few_epochs.__file__
    guide_runs(script, guide, folder=tmp_path, monkeypatch=monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs_as_it_stands(guide, tmp_path, monkeypatch):
    guide_runs(guide, folder=tmp_path, monkeypatch=monkeypatch)
