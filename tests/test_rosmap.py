"""QADM-Net and its ablations on the published ROSMAP split."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.test_examples import ROOT
from tests.test_examples import run

ROWS = ("late fusion", "QADM-Net", "- no feature quality", "- random depth")
DATA = Path(os.environ.get("KERAS_MMREL_DATA", "")) / "rosmap"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "KERAS_MMREL_DATA" not in os.environ or not DATA.is_dir(),
        reason="KERAS_MMREL_DATA names no folder with `rosmap`.",
    ),
]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    out = tmp_path_factory.mktemp("rosmap")
    run(
        ROOT / "examples/rosmap.py",
        f"--data={DATA}",
        "--splits=published",
        "--seeds=5",
        f"--out={out}",
        "--rows",
        *ROWS,
    )
    lines = (out / "rosmap_clean.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {
        row: {
            key: np.mean([r[key] for r in records if r["row"] == row])
            for key, value in records[0].items()
            if isinstance(value, float)
        }
        for row in ROWS
    }


def test_accuracy_clean_and_corrupted(scores):
    found = scores["QADM-Net"]
    for key, at_least in {
        "ACC": 80.0,
        "AUC": 88.5,
        "one": 75.5,
        "half": 73.0,
        "features": 70.0,
    }.items():
        assert found[key] >= at_least, key
    assert found["ECE"] <= 0.12
    assert found["AUROC 0.2"] >= 0.80
    assert found["AUROC 0.5"] >= 0.97


def test_it_is_ahead_of_late_fusion_under_noise(scores):
    found, late = scores["QADM-Net"], scores["late fusion"]
    assert found["one"] >= late["one"] + 5.0
    assert found["features"] >= late["features"] + 6.0


def test_its_parts_are_needed(scores):
    found = scores["QADM-Net"]
    no_quality = scores["- no feature quality"]
    assert found["features"] >= no_quality["features"] + 8.0
    assert found["one"] >= scores["- random depth"]["one"] + 3.0
