"""Every guide runs from its first line to its last, with few epochs here."""

import pytest
from matplotlib import pyplot

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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a guide runs: pictures need no screen, and nothing is left."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.iterdir())


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
def test_every_line_of_a_guide_runs(guide, folder, capsys):
    few_epochs.run(guide)
    assert "the same predictions: True" in capsys.readouterr().out
    pyplot.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs_as_it_stands(guide, folder):
    assert "the same predictions: True" in run(guide, cwd=folder)
