"""AIM and CAL on real audio-visual data, where imbalance really happens."""

import os
import sys

import numpy as np
import pytest

from keras_mmrel.datasets import load_av_digits
from tests.test_examples import ROOT

SEEDS = range(3)


@pytest.fixture(scope="module")
def scores():
    """Mean scores over three seeds of each method on fold 0."""
    folder = os.environ.get("KERAS_MMREL_DATA")
    if not folder:
        pytest.skip("needs the environment variable KERAS_MMREL_DATA")
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import _balance as balance
    finally:
        sys.path.pop(0)
    train, _, test = load_av_digits(os.path.join(folder, "fsdd"), fold=0)
    found = {}
    for row in ("image alone", "joint", "AIM", "CAL"):
        runs = [
            balance.run(
                row,
                train,
                test,
                seed,
                rows=balance.AV_ROWS,
                epochs=20,
                batch_size=100,
            )
            for seed in SEEDS
        ]
        found[row] = {
            key: np.mean([r[key] for r in runs])
            for key in ("ACC", "probe image")
        }
    return found


@pytest.mark.slow
def test_joint_training_leaves_the_image_encoder_behind(scores):
    assert scores["joint"]["probe image"] <= (
        scores["image alone"]["probe image"] - 15
    )


@pytest.mark.slow
def test_aim_trains_the_image_encoder_and_helps_the_fusion(scores):
    joint = scores["joint"]
    assert scores["AIM"]["probe image"] >= joint["probe image"] + 10
    assert scores["AIM"]["ACC"] >= joint["ACC"] + 3


@pytest.mark.slow
def test_cal_trains_the_image_encoder_and_helps_the_fusion(scores):
    joint = scores["joint"]
    assert scores["CAL"]["probe image"] >= joint["probe image"] + 20
    assert scores["CAL"]["ACC"] >= joint["ACC"] + 10
