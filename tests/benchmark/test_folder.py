"""A folder knows its comparison, and takes what several processes add."""

import json
import multiprocessing
from pathlib import Path

import pytest

from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark import Method
from keras_mmrel.benchmark import Regime
from keras_mmrel.benchmark._recorded import Recorded
from keras_mmrel.benchmark._store import Store
from keras_mmrel.layers import RangeControl
from tests.benchmark.helpers import arrays
from tests.benchmark.test_stranger import comparison as strangers

pytestmark = pytest.mark.one_backend

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*.yaml"))


def rebuilt(comparison):
    """What comes back from a file."""
    return Comparison.from_dict(json.loads(json.dumps(comparison.to_dict())))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_comparison_of_a_file_comes_back_whole(path):
    comparison = Comparison.from_yaml(path)
    again = rebuilt(comparison)
    assert json.dumps(again.to_dict()) == json.dumps(comparison.to_dict())
    assert again.jobs() == comparison.jobs()
    assert again.evaluation.scores == comparison.evaluation.scores


def test_own_parts_come_back_as_names_that_cannot_run(tmp_path):
    comparison = strangers(
        regimes={"own": Regime(lambda seed: None)},
        methods={
            "own": Method(
                lambda modalities, num_classes, quality, augmentation: None,
                encoder=lambda name, shape: None,
                quality=RangeControl(),
                tuning={"grid": {"learning_rate": [0.1, 1]}},
                modalities=["a"],
                probes=["spread"],
            )
        },
    )
    again = rebuilt(comparison)
    assert json.dumps(again.to_dict()) == json.dumps(comparison.to_dict())
    method = again.methods["own"]
    assert method.tuning == comparison.methods["own"].tuning
    for part in (
        method.model,
        method.encoder,
        again.regimes["own"].augmentation,
    ):
        assert isinstance(part, Recorded)
        with pytest.raises(ValueError, match="must be made by its own code"):
            part({"a": (3,)}, 2)
    boldness = again.evaluation.scores[-1]
    assert boldness.name == "boldness" and boldness.higher_is_better is False
    assert [p.severities for p in again.evaluation.protocols] == [
        (1.0, 3.0),
        (0.5,),
    ]
    with pytest.raises(ValueError, match="own code to run"):
        again.run(tmp_path / "out", verbose=0)


def of(names):
    return Comparison(
        datasets={"own": lambda: arrays()},
        methods={name: Recorded(name) for name in names},
        seeds=1,
        evaluation={"scores": ["accuracy"]},
    )


def open_folder(folder, names, start):
    start.wait()
    for name in names:
        Store(folder).open(of([name]))


def test_processes_that_open_a_folder_at_once_lose_no_entry(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    parts = [[f"{part}-{n}" for n in range(12)] for part in range(4)]
    processes = [
        context.Process(target=open_folder, args=(tmp_path, names, start))
        for names in parts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    methods = Store(tmp_path).comparison().methods
    assert sorted(methods) == sorted(name for names in parts for name in names)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "3", '"x"', '{"title": 1}',
        '{"methods": {"a": 1}, "datasets": {}}', "\x00" * 30,
    ],
)  # fmt: skip
def test_a_config_of_somebody_else_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json must be the whole file"):
        Store(tmp_path).comparison()


@pytest.mark.parametrize(
    "line",
    [
        "3", "null", "[]", "{}", '{"kind": "run"}', '{"kind": []}',
        '{"kind": "other"}', "\x00\x00", '{"kind": "environment"}',
        '{"kind": "run", "seed": [], "dataset": {}, "fold": null,'
        ' "regime": 1, "method": 2}',
    ],
)  # fmt: skip
def test_a_line_of_somebody_else_is_left_out_and_named(tmp_path, line):
    (tmp_path / "runs.jsonl").write_text(line + "\n")
    with pytest.warns(UserWarning, match=r"no whole run, \[1\]"):
        assert Store(tmp_path).runs() == []
