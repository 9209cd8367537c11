"""QADM-Net and its ablations on the published ROSMAP split."""

import os
from pathlib import Path

import numpy as np
import pytest

from keras_mmrel.benchmark import Comparison
from tests.benchmark.helpers import lines
from tests.test_examples import ROOT

ROWS = (
    "late fusion",
    "QADM-Net",
    "- dynamic parameters",
    "- random depth",
)
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
    """Row -> score and corruption -> mean over five seeds, in % or in [0, 1].

    A corruption's value is the mean over its severities.
    """
    out = tmp_path_factory.mktemp("rosmap")
    whole = Comparison.from_yaml(ROOT / "examples/rosmap.yaml")
    Comparison(
        datasets={"published": whole.datasets["published"]},
        methods={row: whole.methods[row] for row in ROWS},
        seeds=5,
        training=whole.training,
        evaluation={
            "corruptions": ["gaussian_one", "gaussian_half", "feature_noise"]
        },
        data=DATA.parent,
    ).run(out, verbose=0)
    found = {row: {} for row in ROWS}
    for run in lines(out, "run"):
        table = run["scores"]
        for name in ("accuracy", "auroc", "ece", "corrupted_auroc"):
            for place, corruption in enumerate(table["corruption"]):
                severity = table["severity"][place]
                for key in ((name, corruption), (name, corruption, severity)):
                    values = found[run["method"]].setdefault(key, [])
                    values.append(table[name][place])
    return {
        row: {key: np.mean(np.array(v, float)) for key, v in values.items()}
        for row, values in found.items()
    }


def test_accuracy_clean_and_corrupted(scores):
    found = scores["QADM-Net"]
    for key, at_least in {
        ("accuracy", "clean"): 0.800,
        ("auroc", "clean"): 0.885,
        ("accuracy", "gaussian_one"): 0.755,
        ("accuracy", "gaussian_half"): 0.730,
        ("accuracy", "feature_noise"): 0.700,
        ("corrupted_auroc", "gaussian_one", 0.2): 0.80,
        ("corrupted_auroc", "gaussian_one", 0.5): 0.92,
    }.items():
        assert found[key] >= at_least, key
    assert found["ece", "clean"] <= 0.12


def test_it_is_ahead_of_late_fusion_under_noise(scores):
    found, late = scores["QADM-Net"], scores["late fusion"]
    for corruption, points in (("gaussian_one", 0.05), ("feature_noise", 0.06)):
        key = ("accuracy", corruption)
        assert found[key] >= late[key] + points, corruption


def test_its_parts_are_needed(scores):
    found = scores["QADM-Net"]
    key = ("accuracy", "feature_noise")
    assert found[key] >= scores["- dynamic parameters"][key] + 0.08
    key = ("accuracy", "gaussian_one")
    assert found[key] >= scores["- random depth"][key] + 0.03
