"""Every run is made once, its settings are chosen without the test part."""

import shutil

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark import Tuning
from keras_mmrel.benchmark import report
from keras_mmrel.benchmark import run
from keras_mmrel.benchmark._candidate import Candidate
from keras_mmrel.benchmark._job import Job
from keras_mmrel.benchmark._records import Tried
from keras_mmrel.benchmark._run import choose
from tests.benchmark.helpers import arrays
from tests.benchmark.helpers import compare
from tests.benchmark.helpers import files
from tests.benchmark.helpers import job
from tests.benchmark.helpers import jobs
from tests.benchmark.helpers import lines
from tests.benchmark.helpers import scores
from tests.benchmark.helpers import settings
from tests.benchmark.helpers import tuned
from tests.benchmark.helpers import write
from tests.benchmark.helpers import write_rosmap

# Every training compiles, and nothing of it is the backend's: the other two
# run `test_stranger.py`.
pytestmark = pytest.mark.one_backend


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a config and, in it, of its results."""
    folder = tmp_path_factory.mktemp("tuned")
    compare(folder, tuned())
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The same without tuning, with one regime and one seed."""
    folder = tmp_path_factory.mktemp("small")
    compare(folder)
    return folder


@pytest.fixture
def copied(small, tmp_path):
    """A copy of the small folder, to go on in."""
    return shutil.copytree(small, tmp_path / "copy")


def test_every_job_ran_once(finished):
    assert sorted(jobs(finished / "out")) == [
        (seed, "tiny", regime, method)
        for seed in (0, 1)
        for regime in ("clean", "noisy")
        for method in ("LateFusion", "votes")
    ]


def test_a_run_holds_all_scores_of_all_conditions(finished):
    for record in lines(finished / "out", "run"):
        found = record["scores"]
        conditions = list(
            zip(found["corruption"], found["severity"], strict=True)
        )
        assert conditions == [
            ("clean", 0.0), ("gaussian_one", 0.5), ("gaussian_one", 2.0),
            ("missing", 1.0),
        ]  # fmt: skip
        assert found["samples"] == [12] * 4
        assert record["training_samples"] == 28
        for name in ("accuracy", "f1_macro", "auroc", "nll", "ece", "aurc"):
            assert np.isfinite(found[name]).all()
        assert record["split"] == "resampled"


def test_a_rerun_does_nothing(finished):
    before = files(finished)
    run(finished / "config.yaml", finished / "out", verbose=0)
    assert files(finished) == before


def test_each_candidate_was_scored_once_for_each_job(finished):
    records = lines(finished / "out", "tuning")
    seen = [
        (
            *job(r),
            r["settings"]["learning_rate"],
        )
        for r in records
    ]  # fmt: skip
    assert len(seen) == len(set(seen)) == 16
    assert {key[:4] for key in seen} == set(jobs(finished / "out"))
    assert all(0 <= r["accuracy"] <= 1 and r["nll"] > 0 for r in records)


def test_the_settings_of_a_run_are_the_best_of_the_inner_parts(finished):
    out = finished / "out"
    for record in lines(out, "run"):
        tried = [r for r in lines(out, "tuning") if job(r) == job(record)]
        best = max(tried, key=lambda r: (r["accuracy"], -r["nll"]))
        assert record["settings"] == best["settings"]
    # Not simply the first of the grid.
    assert 0.05 in [r["settings"]["learning_rate"] for r in lines(out, "run")]


def test_accuracy_chooses_before_likelihood_and_nan_comes_last():
    job = Job(0, "d", None, "r", "m")
    tried = [
        Tried(job, Candidate({"name": name}), "00", accuracy, nll)
        for name, accuracy, nll in (
            ("wrong", 0.5, 0.1),
            ("unsure", 0.75, 0.9),
            ("sure", 0.75, 0.6),
            ("broken", 1.0, None),
        )
    ]
    for order in (tried, tried[::-1]):
        assert order[choose(order)].settings.training["name"] == "sure"
    assert choose(tried[3:]) == 0


def test_candidates_are_all_combinations_with_options_inside():
    grid = {
        "learning_rate": [1, 2],
        "options": {"p": ["x", "y"], "q": [0]},
        "epochs": [5],
    }
    assert [c.to_dict() for c in Tuning(grid=grid).candidates()] == [
        {"learning_rate": rate, "epochs": 5, "options": {"p": p, "q": 0}}
        for rate in (1, 2)
        for p in ("x", "y")
    ]
    assert [c.to_dict() for c in Tuning().candidates()] == [{}]


def test_a_grid_of_options_reaches_the_model(tmp_path):
    grid = {"options": {"average": ["logits", "probabilities"]}}
    config = settings(
        methods=["LateFusion"],
        tuning={"repeats": 1, "grid": grid},
    )
    out = compare(tmp_path, config)
    tried = lines(out, "tuning")
    assert [r["settings"]["options"]["average"] for r in tried] == [
        "logits",
        "probabilities",
    ]
    # Two ways of voting are equally sure in no case.
    assert tried[0]["nll"] != tried[1]["nll"]


def test_what_the_test_part_holds_cannot_change_the_choice(finished, tmp_path):
    checked = Comparison.from_yaml(finished / "config.yaml")
    dataset = checked.datasets["tiny"].load("tiny", folder=finished)
    x, y = arrays()
    test_rows = dataset.rows(0)[1]
    for values in x.values():
        values[test_rows] = 50 * np.random.default_rng(1).normal(
            size=values[test_rows].shape
        )
    config = tuned(seeds=[0], regimes={"clean": {}})
    out = compare(tmp_path, config, (x, y))

    def choices(folder):
        tuning = [
            {k: v for k, v in r.items() if k != "data"}
            for r in lines(folder, "tuning")
            if (r["seed"], r["regime"]) == (0, "clean")
        ]
        runs = [
            (job(r), r["settings"])
            for r in lines(folder, "run")
            if (r["seed"], r["regime"]) == (0, "clean")
        ]
        return tuning, runs

    assert choices(out) == choices(finished / "out")
    mixed, known = scores(out), scores(finished / "out")
    assert all(mixed[k]["scores"] != known[k]["scores"] for k in mixed)


def test_scrambled_test_labels_change_the_scores_and_not_the_choice(tmp_path):
    found = []
    for flip in (False, True):
        data = tmp_path / f"data{flip}"
        write_rosmap(data / "rosmap", flip)
        config = tuned(
            datasets={"rosmap": {"training": {"epochs": 4, "batch_size": 32}}},
            tuning={"repeats": 1, "grid": {"learning_rate": [1e-5, 0.003]}},
            methods=["LateFusion"],
            regimes={"clean": {}},
            evaluation={"corruptions": []},
        )
        out = compare(tmp_path / f"run{flip}", config, data=data)
        tuning = [
            {k: v for k, v in r.items() if k != "data"}
            for r in lines(out, "tuning")
        ]
        # One published split: tuned once for both seeds.
        assert [r["seed"] for r in tuning] == ["published"] * 2
        runs = lines(out, "run")
        assert [(r["seed"], r["training_samples"]) for r in runs] == [
            (0, 245),
            (1, 245),
        ]
        found.append(
            (
                tuning,
                [r["settings"] for r in runs],
                [r["scores"]["accuracy"][0] for r in runs],
            )
        )
    assert found[0][:2] == found[1][:2]
    for straight, flipped in zip(found[0][2], found[1][2], strict=True):
        assert straight > 0.7
        np.testing.assert_allclose(straight + flipped, 1, atol=1e-4)


def test_a_new_seed_and_method_run_alone(copied):
    before = (copied / "out/runs.jsonl").read_bytes()
    methods = {**settings()["methods"], "ConcatFusion": {}}
    out = compare(copied, settings(seeds=[0, 7], methods=methods))
    assert (out / "runs.jsonl").read_bytes().startswith(before)
    found = jobs(out)
    assert len(found) == len(set(found)) == 6
    new = lines(out)[len(before.splitlines()) :]
    assert sorted(job(r) for r in new if r["kind"] == "run") == [
        (0, "tiny", "clean", "ConcatFusion"),
        *((7, "tiny", "clean", m) for m in sorted(methods)),
    ]


def test_a_smaller_config_goes_on_and_keeps_what_is_there(copied):
    before = scores(copied / "out")
    out = compare(copied, settings(methods=["LateFusion"]))
    assert scores(out) == before
    report(out)
    assert "votes" in (out / "report.md").read_text()


def test_two_parts_make_the_runs_of_one_process(small, tmp_path):
    for part in (2, 1):
        out = compare(tmp_path, shard=(part, 2))
        assert len(jobs(out)) == 3 - part
    assert scores(out) == scores(small / "out")
    assert len(jobs(out)) == len(set(jobs(out)))


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0), (1.0, 2), (1, 2, 3)])
def test_a_part_that_is_none_is_refused_before_anything(tmp_path, shard):
    path = write(tmp_path)
    with pytest.raises(ValueError, match="`shard` must be"):
        run(path, tmp_path / "out", shard=shard, verbose=0)
    assert not (tmp_path / "out").exists()


def test_the_same_command_gives_the_same_scores(small, tmp_path):
    assert scores(compare(tmp_path)) == scores(small / "out")


def test_the_environment_is_recorded_once_and_named_by_each_run(copied):
    compare(copied, settings(seeds=2))
    (environment,) = lines(copied / "out", "environment")
    assert environment["backend"] == keras.config.backend()
    assert environment["keras"] == keras.__version__
    assert environment["keras_mmrel"] == keras_mmrel.__version__
    assert len(environment["source"]) == 8
    assert environment[keras.config.backend()][0].isdigit()
    used = {r["environment"] for r in lines(copied / "out", "run")}
    assert used == {environment["id"]}


def test_each_seed_draws_its_corruptions_anew_for_all_methods_alike(copied):
    compare(copied, settings(seeds=2))
    drawn = {}
    for record in lines(copied / "out", "run"):
        seeds = set(record["scores"]["seed"])
        assert drawn.setdefault(record["seed"], seeds) == seeds
    assert drawn[0] == {0}
    assert drawn[1] == {1000}


def test_a_class_that_is_too_small_is_found_before_the_first_run(tmp_path):
    x, _ = arrays(samples=30)
    y = np.array([0] * 14 + [1] * 14 + [2] * 2)
    path = write(tmp_path, tuned(), (x, y))
    with pytest.raises(
        ValueError, match="`tuning.fraction` must leave samples"
    ):
        run(path, tmp_path / "out", verbose=0)
    assert not (tmp_path / "out").exists()


def test_no_decay_and_a_small_prediction_batch_are_taken(small, tmp_path):
    config = settings(
        methods=["LateFusion"],
        training={**settings()["training"], "weight_decay": 0},
        evaluation={**settings()["evaluation"], "batch_size": 5},
    )
    (record,) = lines(compare(tmp_path, config), "run")
    assert np.isfinite(record["scores"]["nll"]).all()


def test_encoder_modulation_inputs_and_optimizer_are_taken(tmp_path):
    options = {
        "encoder": {"hidden_units": [4], "dropout": 0.0},
        "modulation": {"OGM": {"alpha": 0.5}},
        "inputs": "clipped",
        "training": {"optimizer": "sgd", "schedule": "constant"},
    }
    config = settings(methods={"LateFusion": {}, "ConcatFusion": options})
    out = compare(tmp_path, config)
    assert len(set(jobs(out))) == 2
    for record in lines(out, "run"):
        assert np.isfinite(record["scores"]["nll"]).all()


def test_nan_is_stored_as_null_and_named_in_the_report(copied):
    methods = {
        **settings()["methods"],
        "diverges": {
            "model": "LateFusion",
            "training": {"learning_rate": 1e12, "optimizer": "sgd"},
        },
    }
    with pytest.warns(UserWarning, match="NaN or infinite for"):
        out = compare(copied, settings(methods=methods))
    record = lines(out, "run")[-1]
    assert record["method"] == "diverges"
    assert record["scores"]["accuracy"] == [None] * 4
    assert record["scores"]["invalid"] == [12.0] * 4
    report(out)
    for name in ("report.md", "report.html"):
        assert "NaN in 1 of 1" in (out / name).read_text()


def test_the_report_of_real_runs_names_all_methods(finished, tmp_path):
    out = shutil.copytree(finished / "out", tmp_path / "out")
    paths = keras_mmrel.benchmark.report(out)
    assert all(path.stat().st_size for path in paths)
    text = (out / "report.md").read_text()
    for heading in ("tiny, clean training", "tiny, noisy training"):
        assert f"\n## {heading}\n" in text
    assert "8 runs; 2 methods" in text
