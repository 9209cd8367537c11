"""AIM and CAL on real audio-visual data, where imbalance really happens."""

import dataclasses
import os

import numpy as np
import pytest

from tests.benchmark.helpers import lines
from tests.test_examples import some_rows

ROWS = ("image alone", "joint", "AIM", "target alone", "CAL")


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Mean scores over three seeds of each method on fold 0."""
    folder = os.environ.get("KERAS_MMREL_DATA")
    if not folder:
        pytest.skip("needs the environment variable KERAS_MMREL_DATA")
    whole = some_rows("av_digits.yaml", ROWS)
    data = dataclasses.replace(whole.datasets["av_digits"], folds=(0,))
    out = tmp_path_factory.mktemp("av_digits")
    some_rows(
        "av_digits.yaml",
        ROWS,
        datasets={"av_digits": data},
        seeds=3,
        evaluation={"corruptions": [], "probes": ["linear_probe"]},
        data=folder,
    ).run(out, verbose=0)
    runs = lines(out, "run")
    return {
        row: {
            "accuracy": np.mean(
                [r["scores"]["accuracy"][0] for r in runs if r["method"] == row]
            ),
            "image": np.mean(
                [
                    r["probes"]["linear_probe/image"]
                    for r in runs
                    if r["method"] == row
                ]
            ),
        }
        for row in ROWS
    }


@pytest.mark.slow
def test_joint_training_leaves_the_image_encoder_behind(scores):
    assert scores["joint"]["image"] <= scores["image alone"]["image"] - 0.15


@pytest.mark.slow
def test_aim_trains_the_image_encoder_and_helps_the_fusion(scores):
    joint = scores["joint"]
    assert scores["AIM"]["image"] >= joint["image"] + 0.10
    assert scores["AIM"]["accuracy"] >= joint["accuracy"] + 0.03
    # What does it is that the image is relied on, not that it is trained.
    target = scores["target alone"]
    assert scores["AIM"]["image"] >= target["image"] + 0.15


@pytest.mark.slow
def test_cal_trains_the_image_encoder_and_helps_the_fusion(scores):
    joint = scores["joint"]
    assert scores["CAL"]["image"] >= joint["image"] + 0.20
    assert scores["CAL"]["accuracy"] >= joint["accuracy"] + 0.10
