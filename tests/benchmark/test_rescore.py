"""A score that comes later is computed of the kept predictions."""

import json
import shutil

import numpy as np
import pytest

from keras_mmrel import benchmark
from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark._job import Job
from keras_mmrel.benchmark._store import Store
from keras_mmrel.evaluation import SCORES
from keras_mmrel.evaluation import Score
from tests.benchmark.helpers import arrays
from tests.benchmark.helpers import files
from tests.benchmark.helpers import lines

pytestmark = pytest.mark.one_backend


def boldness(predictions):
    return predictions.probabilities.max(axis=1).mean()


def mean_confidence(predictions):
    return predictions.confidence.mean(axis=0)


BOLDNESS = Score("boldness", boldness, False, "mean largest probability")


def comparison(scores, methods=("LateFusion", "QADMNet"), **evaluation):
    return Comparison(
        datasets={"own": lambda: arrays(samples=60, classes=2)},
        methods=list(methods),
        seeds=1,
        training={"epochs": 1, "batch_size": 20},
        evaluation={
            "corruptions": ["gaussian_one", "missing"],
            "severities": [0.5],
            "scores": scores,
            **evaluation,
        },
    )


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A folder of runs with one score."""
    folder = tmp_path_factory.mktemp("few")
    comparison(["accuracy"]).run(folder, verbose=0)
    return folder


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """The same runs with all scores at once."""
    folder = tmp_path_factory.mktemp("every")
    comparison(None).run(folder, verbose=0)
    return folder


@pytest.fixture
def copied(few, tmp_path):
    return shutil.copytree(few, tmp_path / "copy")


def scores_of(folder):
    return {r.job: r.scores for r in Store(folder).runs()}


def test_every_score_comes_again_as_the_run_would_have_found_it(
    copied, every, capsys
):
    before = (copied / "runs.jsonl").read_bytes()
    comparison(None).run(copied, verbose=1)
    assert (copied / "runs.jsonl").read_bytes().startswith(before)
    text = capsys.readouterr().out
    assert "computed again from the kept predictions of 2 runs" in text
    assert "brier" in text and "accuracy" not in text
    later, at_once = scores_of(copied), scores_of(every)
    assert set(later) == set(at_once)
    for job, expected in at_once.items():
        found = later[job]
        assert set(found) == set(expected)
        for name, values in expected.items():
            if name == "corruption":
                assert found[name] == values
                continue
            np.testing.assert_allclose(
                np.array(found[name], float),
                np.array(values, float),
                rtol=2e-4,
                err_msg=name,
            )
    # QADMNet alone has a depth and a judge, each modality a confidence.
    by_method = {job.method: set(found) for job, found in later.items()}
    alone = by_method["QADMNet"] - by_method["LateFusion"]
    assert alone == {"depth", "quality_auroc"}
    assert "confidence/a" in by_method["LateFusion"]


def test_what_was_computed_once_is_not_computed_again(copied):
    comparison(None).run(copied, verbose=0)
    before = files(copied)
    comparison(None).run(copied, verbose=0)
    comparison(["accuracy"]).run(copied, verbose=0)
    assert files(copied) == before


def test_new_runs_have_the_scores_that_the_folder_has(copied):
    comparison(["nll"]).run(copied, verbose=0)
    comparison(["accuracy"], ["ConcatFusion"]).run(copied, verbose=0)
    for run in lines(copied, "run")[2:]:
        assert {"accuracy", "nll"} <= set(run["scores"])
    assert len(lines(copied, "run")) == 3
    assert len(lines(copied, "scores")) == 2


def test_the_report_has_it_and_says_so(copied):
    comparison(["accuracy", BOLDNESS]).report(copied)
    text = (copied / "report.md").read_text("utf-8")
    assert (
        "Computed later, from the kept predictions of 2 of 2 runs: boldness"
        in text
    )
    assert "boldness ↓" in text
    # From the folder alone, which knows the function's name only.
    before = files(copied)
    benchmark.report(copied)
    assert files(copied) == before


def test_an_own_score_is_neither_changed_nor_lost(copied):
    comparison(["accuracy", BOLDNESS]).run(copied, verbose=0)

    def other(predictions):
        return predictions.probabilities.min(axis=1).mean()

    changed = Score("boldness", other, False, "mean largest probability")
    before = files(copied)
    with pytest.raises(ValueError, match=r"another `evaluation.scores.boldn"):
        comparison(["accuracy", changed]).run(copied, verbose=0)
    with pytest.raises(ValueError, match=r"own scores .* no \['boldness'\]"):
        comparison(["accuracy"], ["AIM"]).run(copied, verbose=0)
    with pytest.raises(ValueError, match="another `evaluation`"):
        comparison(["accuracy", BOLDNESS], bins=3).run(copied, verbose=0)
    assert files(copied) == before


def strip(folder, *names):
    """Leave something out of the kept predictions."""
    for path in (folder / "predictions").glob("*.npz"):
        with np.load(path) as file:
            kept = {n: file[n] for n in file.files if n not in names}
        np.savez_compressed(path, **kept)


PROBABILITIES_ALONE = (
    "log_probabilities", "confidence", "depth", "modality_quality",
    "corrupted", "hidden", "present", "modality_names",
)  # fmt: skip


def test_what_was_not_kept_is_refused_and_nothing_is_touched(copied):
    strip(copied, *PROBABILITIES_ALONE)
    before = files(copied)
    message = r"^`evaluation.scores` must .* 'corrupted_auroc' .*\['confidence"
    for act in ("run", "report"):
        with pytest.raises(ValueError, match=message):
            getattr(comparison(["brier", "corrupted_auroc"]), act)(copied)
    assert files(copied) == before
    comparison(["accuracy", "brier"]).run(copied, verbose=0)
    assert all("brier" in found for found in scores_of(copied).values())


def test_predictions_that_are_lost_or_damaged_are_named(copied):
    path = Store(copied).predictions(Job(0, "own", None, "clean", "QADMNet"))
    whole = path.read_bytes()
    before = (copied / "runs.jsonl").read_bytes()
    path.write_bytes(whole[:300])
    with pytest.raises(ValueError, match=rf"{path.name} must be the whole"):
        comparison(["accuracy", "nll"]).run(copied, verbose=0)
    path.unlink()
    with pytest.raises(ValueError, match=f"{path.stem} .* not there"):
        comparison(["accuracy", "nll"]).run(copied, verbose=0)
    assert (copied / "runs.jsonl").read_bytes() == before


def test_a_score_that_a_folder_lacks_is_named_in_its_report(copied):
    # As after a kill between the config and the scores.
    path = copied / "config.json"
    config = json.loads(path.read_text())
    config["evaluation"]["scores"].append(SCORES["nll"].describe())
    path.write_text(json.dumps(config))
    benchmark.report(copied)
    text = (copied / "report.md").read_text("utf-8")
    assert "Not known for 2 of 2 runs" in text
    comparison(["accuracy"]).run(copied, verbose=0)
    benchmark.report(copied)
    text = (copied / "report.md").read_text("utf-8")
    assert "Not known" not in text and "nll ↓" in text


def test_a_score_of_modalities_comes_again(copied):
    score = Score(
        "trust", mean_confidence, None, needs=("confidence",),
        per_modality=True,
    )  # fmt: skip
    comparison(["accuracy", score]).run(copied, verbose=0)
    for found in scores_of(copied).values():
        assert len(found["trust/a"]) == 3
        assert all(0 <= v <= 1 for v in found["trust/b"])
