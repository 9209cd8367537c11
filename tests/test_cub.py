"""QADM-Net on CUB: a modality that still helps is not thrown away."""

import os
from pathlib import Path

import numpy as np
import pytest

from keras_mmrel.benchmark import Comparison
from tests.benchmark.helpers import lines
from tests.test_examples import ROOT

DATA = Path(os.environ.get("KERAS_MMREL_DATA", ""))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DATA / "cub").is_dir(),
        reason="KERAS_MMREL_DATA names no folder with `cub`.",
    ),
]


def test_moderate_noise_on_one_of_two_modalities(tmp_path):
    whole = Comparison.from_yaml(ROOT / "examples/qadm_net_ablation.yaml")
    rows = ("QADM-Net", "late fusion, range control")
    Comparison(
        datasets={"CUB": whole.datasets["CUB"]},
        methods={row: whole.methods[row] for row in rows},
        seeds=3,
        training=whole.training,
        evaluation={"corruptions": ["gaussian_one"], "severities": [0.5]},
        data=DATA,
    ).run(tmp_path, verbose=0)
    found = {row: [] for row in rows}
    for run in lines(tmp_path, "run"):
        table = run["scores"]
        place = table["corruption"].index("gaussian_one")
        found[run["method"]].append(table["accuracy"][place])
    full, control = (np.mean(found[row]) for row in rows)
    assert full >= 0.83
    assert full >= control + 0.02
