"""Every guide runs from its first line to its last."""

from pathlib import Path

import pytest

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


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_guide_runs(guide, tmp_path, monkeypatch):
    # Pictures need no screen, and what is saved goes to an empty folder.
    monkeypatch.setenv("MPLBACKEND", "Agg")
    text = run(guide, cwd=tmp_path)
    assert "the same predictions: True" in text
    assert not list(Path(tmp_path).iterdir())
