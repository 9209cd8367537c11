"""The sampling error of a fixed test part, from kept predictions."""

import dataclasses
import shutil

import numpy as np
import pytest

from keras_mmrel.benchmark import Evaluation
from keras_mmrel.benchmark._bootstrap import TestSampling
from keras_mmrel.benchmark._job import Job
from keras_mmrel.benchmark._kept import Kept
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._store import Store
from keras_mmrel.evaluation import Score
from tests.benchmark.made_runs import make_run

SAMPLES = 400
GROUPS = {"mean": ["clean", "noise"]}


def folder_of(tmp_path, right, methods=("A",)):
    """A folder with predictions of which so many samples are right.

    Args:
        right: Boolean `(methods, seeds, samples)`.
    """
    store = Store(tmp_path)
    runs = []
    for method, rows in zip(methods, right, strict=True):
        for seed, row in enumerate(rows):
            run = make_run(method, seed, split="published")
            p = np.where(row, 0.8, 0.3)
            arrays = {
                "probabilities": np.stack([np.stack([p, 1 - p], 1)] * 2),
                "labels": np.zeros(len(row), int),
            }
            store.add_predictions(
                Job.of(run),
                Kept(
                    corruption=["clean", "noise"],
                    severity=[0.0, 1.0],
                    seed=[0, 0],
                    rows=np.arange(len(row)),
                    arrays=arrays,
                    modality_names=None,
                ),
            )
            runs.append(Run.of(run))
    return sampling_of(store, runs)


def sampling_of(store, runs, scores=None):
    evaluation = Evaluation(scores=scores)
    known = store.sampling_errors()
    return TestSampling(store, runs, evaluation, GROUPS, known)


def test_of_one_run_it_is_the_binomial_error(tmp_path):
    right = np.arange(SAMPLES) < 0.75 * SAMPLES
    sampling = folder_of(tmp_path, [[right]])
    binomial = np.sqrt(0.75 * 0.25 / SAMPLES)
    for corruption in ("clean", "noise"):
        found = sampling.error("A", "accuracy", corruption)
        assert found == pytest.approx(binomial, rel=0.1)
    surprise = np.where(right, -np.log(0.8), -np.log(0.3))
    found = sampling.error("A", "nll", "clean")
    assert found == pytest.approx(surprise.std() / 20, rel=0.1)


def test_of_a_mean_over_corruptions_samples_are_drawn_together(tmp_path):
    right = np.arange(SAMPLES) < 0.75 * SAMPLES
    sampling = folder_of(tmp_path, [[right]])
    # Both conditions have the same predictions: no error averages out.
    one = sampling.error("A", "accuracy", "clean")
    assert sampling.error("A", "accuracy", "mean") == pytest.approx(one)


def test_seeds_that_agree_do_not_make_the_test_part_larger(tmp_path):
    right = np.arange(SAMPLES) < 0.75 * SAMPLES
    found = folder_of(tmp_path, [[right] * 10]).error("A", "accuracy", "clean")
    assert found == pytest.approx(np.sqrt(0.75 * 0.25 / SAMPLES), rel=0.1)


def test_what_differs_between_seeds_counts_too(tmp_path):
    values = (0.5, 0.6, 0.7, 0.8)
    right = [np.arange(SAMPLES) < v * SAMPLES for v in values]
    found = folder_of(tmp_path, [right]).error("A", "accuracy", "clean")
    seeds = np.std(values, ddof=1) / 2
    assert seeds < found < 1.2 * seeds


def test_a_difference_is_paired_by_sample(tmp_path):
    rng = np.random.default_rng(0)
    first = rng.random(SAMPLES) < 0.6
    second = first.copy()
    second[:8] = ~second[:8]
    sampling = folder_of(tmp_path, [[first], [second]], ("A", "B"))
    alone = sampling.error("A", "accuracy", "clean")
    together = sampling.error("A", "accuracy", "clean", "B")
    d = first.astype(float) - second
    assert together == pytest.approx(d.std() / 20, rel=0.1)
    assert together < alone / 2
    assert sampling.error("A", "accuracy", "clean", "A") == 0


@pytest.mark.parametrize("corruption", ["clean", "noise", "mean"])
@pytest.mark.parametrize("other", [None, "B"])
def test_a_score_that_is_no_mean_is_drawn_as_a_mean_is(
    tmp_path, corruption, other
):
    """The accuracy, once computed of the numbers of each sample, once not."""
    rng = np.random.default_rng(0)
    right = rng.random((2, 3, SAMPLES)) < 0.7
    sampling = folder_of(tmp_path, right, ("A", "B"))
    plain = Score("plain", lambda p: float(p.right.mean()), True)
    runs = [*sampling._runs.values()]
    sampling = sampling_of(sampling.store, runs, ["accuracy", plain])
    expected = sampling.error("A", "accuracy", corruption, other)
    found = sampling.error("A", "plain", corruption, other)
    assert found == pytest.approx(expected, rel=0.25)
    # Without a seed of its own nothing is random.
    assert sampling.error("A", "plain", corruption, "A") == 0


def test_the_error_of_a_calibration_error_is_that_of_other_test_parts(
    tmp_path,
):
    """Its scatter over test parts that are really others."""
    rng = np.random.default_rng(0)
    parts = rng.random((40, SAMPLES)) < 0.6

    def ece(row):
        # One bin has 0.8, and one has 0.7 for the other class.
        n = row.mean()
        return n * 0.2 + (1 - n) * 0.7

    found = folder_of(tmp_path, [[parts[0]]]).error("A", "ece", "clean")
    scatter = np.std([ece(row) for row in parts], ddof=1)
    assert found == pytest.approx(scatter, rel=0.35)


def test_errors_stay_in_the_folder_when_the_predictions_are_gone(tmp_path):
    right = np.random.default_rng(0).random((2, 3, SAMPLES)) < 0.7
    sampling = folder_of(tmp_path, right, ("A", "B"))
    runs = [*sampling._runs.values()]
    cells = [("A", "accuracy", "mean", None), ("A", "ece", "noise", "B")]
    errors = [sampling.error(*cell) for cell in cells]
    sampling.known.write()
    shutil.rmtree(tmp_path / "predictions")
    again = sampling_of(sampling.store, runs)
    found = [again.error(*cell) for cell in cells]
    np.testing.assert_allclose(found, errors, rtol=1e-4)
    assert np.isnan(again.error("A", "nll", "clean"))
    # They are those of these runs, not of others of the same name.
    other = [dataclasses.replace(run, seconds=99.0) for run in runs]
    assert np.isnan(sampling_of(sampling.store, other).error(*cells[0]))
    fewer = [run for run in runs if run.job.seed < 2]
    assert np.isnan(sampling_of(sampling.store, fewer).error(*cells[0]))


def test_a_damaged_file_of_errors_is_named(tmp_path):
    (tmp_path / "errors.json").write_text('[{"dataset": 1}]')
    with pytest.raises(ValueError, match=r"errors\.json must be the whole"):
        Store(tmp_path).sampling_errors()


def test_without_predictions_there_is_no_error(tmp_path):
    sampling = folder_of(tmp_path, [[np.ones(SAMPLES, bool)]])
    assert np.isnan(sampling.error("nobody", "accuracy", "clean"))
    assert np.isnan(sampling.error("A", "depth", "clean"))
    assert np.isnan(sampling.error("A", "corrupted_auroc", "noise"))
    assert np.isnan(sampling.error("A", "auroc", "noise"))
