"""The table of what is not finite says that everything is."""

from pathlib import Path

import keras
import pytest

from keras_mmrel.benchmark.method import KNOWN
from tests.test_examples import ROOT
from tests.test_examples import run
from tests.test_examples import table_rows

SCRIPT = Path(ROOT) / "examples/benchmarks/numeric_table.py"


def counted(path, *arguments):
    """Rows of a run on this backend, and how many trainings were finite."""
    backend = keras.config.backend()
    run(SCRIPT, "--cover", "--backends", backend, "--out", path, *arguments)
    rows = table_rows(path.read_text())
    cells = [cell for row in rows for cell in row[3:] if cell != "-"]
    for cell in cells:
        good, of = cell.split(" of ")
        assert good == of, rows
    return rows, sum(int(cell.split()[0]) for cell in cells)


@pytest.mark.slow
def test_no_model_has_a_nan_in_any_precision_or_data(tmp_path):
    rows, trainings = counted(tmp_path / "table.md")
    # Every model in three precisions.
    assert len(rows) == 3 * len(KNOWN)
    # Two combinations on five kinds of data each, and the kinds of steps.
    assert trainings >= len(rows) * 10 + 20


@pytest.mark.one_backend
def test_a_training_that_is_not_finite_is_found_and_named(monkeypatch):
    import runpy
    import sys

    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    table = runpy.run_path(str(SCRIPT))
    found = table["table"](
        {"torch": {"QMF float32": {"constant": [[], ["2 classes: loss"]]}}}
    )
    assert "1 of 2; 2 classes: loss" in found[0] and found[1] == 1
    model = table["build"]("ConcatFusion", "float32", 2, 2, "")
    data, x = table["pipeline"]("ConcatFusion", table["shapes_of"](2), 2, "")
    assert table["not_finite"](model, data, x) == []
    model.bias.assign([float("nan"), 0.0])
    bad = table["not_finite"](model, data, x)
    # A weight that is lost is not trained any more, and has no loss.
    assert model.bias.path in bad and "logits" in bad
    sys.modules.pop("_harness", None)
