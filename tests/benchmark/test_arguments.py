"""Every wrong argument of a comparison ends in one sentence of ours."""

import functools
import json

import numpy as np
import pytest

from keras_mmrel import benchmark
from keras_mmrel import datasets
from keras_mmrel.benchmark.__main__ import main
from tests.benchmark.helpers import arrays
from tests.benchmark.helpers import write

pytestmark = pytest.mark.one_backend

Comparison = benchmark.Comparison
GOOD = {"datasets": {"own": lambda: arrays()}, "methods": ["LateFusion"]}


class Thing:
    """Something that nobody expects, with a name that workers agree on."""

    def __repr__(self):
        return "a thing"


THING = Thing()


def comparison(**changes):
    return Comparison(**{**GOOD, **changes})


def method(**changes):
    return benchmark.Method(**{"model": "LateFusion", **changes})


def dataset(**changes):
    return benchmark.Dataset(**{"source": lambda: arrays(), **changes})


def loaded(made):
    """What a function may return, loaded."""
    return benchmark.Dataset(lambda: made).load("d")


def run_comparison(folder, /, **changes):
    options = {"folder": folder / "out", "verbose": 0, **changes}
    return comparison().run(**options)


def run_file(folder, **changes):
    options = {"config": write(folder), "out": folder / "out", "verbose": 0}
    return benchmark.run(**{**options, **changes})


def run_text(folder, text):
    path = folder / "c.yaml"
    path.write_text(text)
    return benchmark.run(path, folder / "out", verbose=0)


def command(*arguments):
    def act(folder):
        given = [str(a).replace("FOLDER", str(folder)) for a in arguments]
        write(folder)
        (folder / "file").write_text("x")
        code = main(given)
        if code != 0:
            raise ValueError("command")

    return act


X, Y = arrays()
NONE, NUMBER, TEXT, LIST, NOTHING = None, 3.5, "some text", [1, 2], {}

CASES = {}
for key, values in {
    "datasets": (None, 3, "rosmap", [], {}, [None], {"d": 3}, {"d": None},
                 {"d": []}, [["rosmap"]], {"d": "no.such.function"},
                 {"d": "nothing"}, {None: len}, THING, {"d": {"source": 3}}),
    "methods": (None, 3, "TMC", [], {}, [None], {"m": 3}, {"m": []},
                {"m": "no.such.Model"}, ["Nothing"], {"m": {"model": None}},
                THING, {"m": {"options": 3}}, {"m": {"x": 1}},
                [["TMC"]], ["TMC", "TMC"], {"TMC": {"options": []}}),
    "regimes": (3, "clean", [], {}, {"r": 3}, {"r": "noise"}, {"r": []},
                {"r": {"noise_probability": "x"}}, {"r": {"sigma": 1}},
                {"r": {"noise_probability": 2}}, THING,
                {"r": {"training": 3}}),
    "seeds": (None, 0, -1, 1.5, "3", True, [], [1, 1], [-1], [1.5], ["a"],
              [None], 10**12, {1: 2}, THING, np.arange(3), [True]),
    "training": (3, "fast", [], [1], {"epoch": 3}, {"epochs": None},
                 {"epochs": 0}, {"epochs": "x"}, {"epochs": 1.5}, THING),
    "tuning": (3, "grid", [], [1], {"grid": 3}, {"grid": {"x": [1]}},
               {"fraction": 1}, {"repeats": 0}, THING,
               {"grid": {"options": {"nothing": [1]}}}),
    "evaluation": (3, "all", [1], {"corruption": []}, {"seeds": None},
                   THING),
    "baseline": (3, "nobody", [], THING),
    "folder": (None, 3, [], THING),
    "data": (3, [], THING),
    "title": (THING, 3, [], None),
    "notes": (THING, 3, "a note", [1], None),
}.items():  # fmt: skip
    for value in values:
        CASES[f"Comparison {key}={value!r:.60}"] = (
            lambda folder, key=key, value=value: comparison(**{key: value})
        )
for key, values in {
    "folder": (None, 3, [], THING, b"x", ""),
    "shard": (None, 2, "2", (0, 1), (2, 1), (1, 0), (1,), (1, 2, 3),
              (1.0, 2), (True, 2), ("1", "2"), [], THING, {1: 2, 2: 3}),
    "verbose": ("no", None, [], -1),
}.items():  # fmt: skip
    for value in values:
        CASES[f"run {key}={value!r:.60}"] = (
            lambda folder, key=key, value=value: run_comparison(
                folder, **{key: value}
            )
        )
for key, values in {
    "config": (None, 3, [], THING, "", "no.yaml", "."),
    "out": (None, 3, [], THING, ""),
    "data": (3, [], THING),
    "datasets": (3, "tiny", ["no"], [], [None], [["tiny"]], {"x": 1}, THING),
    "methods": (3, "votes", ["no"], [], [None], [["votes"]], {"x": 1}, THING),
    "seeds": (0, "x", 1.5, [], THING),
    "shard": (None, 2, (3, 2)),
}.items():  # fmt: skip
    for value in values:
        CASES[f"benchmark.run {key}={value!r:.60}"] = (
            lambda folder, key=key, value=value: run_file(
                folder, **{key: value}
            )
        )
for value in (None, 3, [], THING, "", "no folder", b"x"):
    CASES[f"report folder={value!r:.60}"] = lambda folder, value=value: (
        benchmark.report(value)
    )
    CASES[f"Comparison.report folder={value!r:.60}"] = (
        lambda folder, value=value: comparison().report(value)
    )
for value in (None, 3, [], THING, "no.yaml", "."):
    CASES[f"from_yaml path={value!r:.60}"] = lambda folder, value=value: (
        Comparison.from_yaml(value)
    )
for key, values in {
    "source": (None, 3, "nothing", "no.such.function", [], {}, "", THING),
    "options": (None, 3, "x", [1], THING),
    "split": (3, "random", [], THING),
    "test_fraction": ("x", 0, 1, 2, -1, float("nan"), [], True, THING),
    "scale": (None, 3, "standard", [], THING),
    "folds": (None, 3, "abc", [1.5], [None], [1, 1], {1: 2}, [[1]], THING),
    "training": (3, "x", {"epoch": 1}, [1], THING),
}.items():  # fmt: skip
    for value in values:
        if key == "options" and value is None:
            continue
        CASES[f"Dataset {key}={value!r:.60}"] = (
            lambda folder, key=key, value=value: dataset(**{key: value}).load(
                "d"
            )
        )
for key, values in {
    "model": (None, 3, "Nothing", "no.such.Model", [], {}, "", THING),
    "options": (3, "x", [1], {"nothing": 1}, {"average": "x"}, {"seed": 1},
                {"modalities": {}}, THING),
    "encoder": (3, "x", "no.such.encoder", [], {"units": 3},
                {"hidden_units": "x"}, THING),
    "modulation": (3, "Nothing", [], {}, {"OGM": 3}, {"OGM": {"x": 1}},
                   ["OGM", "AGM"], {"OGM": {"alpha": "x"}}, THING),
    "quality": (3, "Nothing", [], {}, {"RangeControl": 3}, THING),
    "inputs": (None, 3, "scaled", [], THING),
    "modalities": (3, "a", [], {}, [3], [None], ["a", "a"], THING),
    "training": (3, "x", {"epoch": 1}, [1], THING),
    "tuning": (3, "x", {"grids": 1}, [1], THING),
    "probes": (3, "x", "", {}, [3], [None], THING),
}.items():  # fmt: skip
    for value in values:
        CASES[f"Method {key}={value!r:.60}"] = (
            lambda folder, key=key, value=value: method(**{key: value})
        )
for key, values in {
    "augmentation": (3, "noise", [], [1], {"x": 1}, {"noise_probability": 2},
                     {"seed": 1}, THING),
    "training": (3, "x", {"epoch": 1}, [1], THING),
}.items():  # fmt: skip
    for value in values:
        CASES[f"Regime {key}={value!r:.60}"] = (
            lambda folder, key=key, value=value: benchmark.Regime(
                **{key: value}
            )
        )
for key, values in {
    "epochs": (None, 0, -1, 1.5, "3", True, [], THING),
    "batch_size": (None, 0, -1, 1.5, "half", True, [], THING),
    "learning_rate": (None, -1, "x", float("nan"), float("inf"), True, [],
                      THING),
    "weight_decay": (None, -1, "x", float("nan"), float("inf")),
    "optimizer": (None, 3, "lion", [], THING),
    "momentum": (None, -1, 2, "x", float("nan")),
    "schedule": (None, 3, "linear", [], THING),
    "step_at": (None, -1, 2, "x"),
    "step_factor": (None, -1, "x"),
    "whole_batches": (None, 3, "yes", [], 1, THING),
}.items():  # fmt: skip
    for value in values:
        CASES[f"Training {key}={value!r:.60}"] = (
            lambda folder, key=key, value=value: benchmark.Training(
                **{key: value}
            )
        )
for key, values in {
    "fraction": (None, 0, 1, "x", float("nan"), True, [], THING),
    "repeats": (None, 0, 1.5, "x", True, [], THING),
    "grid": (3, "x", [1], {"x": [1]}, {"epochs": 3}, {"epochs": []},
             {"epochs": "12"}, {"epochs": [0]}, {"options": []},
             {"options": {"a": 3}}, {"options": {"a": []}},
             {"options": {}}, {"epochs": [1, 1]}, THING),
}.items():  # fmt: skip
    for value in values:
        CASES[f"Tuning {key}={value!r:.60}"] = (
            lambda folder, key=key, value=value: benchmark.Tuning(
                **{key: value}
            )
        )
for key, values in {
    "corruptions": (None, 3, "missing", ["no"], [3], [None], {"c": 3},
                    {"c": {"Nothing": {}}}, {"c": {"GaussianNoise": {}}},
                    {"c": None}, ["missing", "missing"], [["missing"]],
                    {"clean": "missing"}, THING),
    "severities": (3, "x", [], [-1], ["x"], [None], {"no": [1]},
                   {"missing": 3}, {"missing": []}, [1, 1], THING),
    "seeds": (None, 0, 1.5, "x", True, [1], THING),
    "scores": (3, "accuracy", [], ["no"], [3], [None], {"accuracy": 3},
               ["accuracy", "accuracy"], [["accuracy"]], THING),
    "bins": (None, 0, 1.5, "x", True, THING),
    "batch_size": (None, 0, 1.5, "x", True, THING),
    "probes": (None, 3, "x", ["no"], [3], {"p": 3}, {"p": "no"},
               {"p": "no.such.function"}, {"p": None}, THING),
}.items():  # fmt: skip
    for value in values:
        CASES[f"Evaluation {key}={value!r:.60}"] = (
            lambda folder, key=key, value=value: benchmark.Evaluation(
                **{key: value}
            )
        )
for name, made in {
    "None": None, "a number": 3, "a text": "xy", "an array": np.zeros((3, 2)),
    "nothing": (), "x alone": X, "x and y in a list of lists": [[X, Y]],
    "no modalities": ({}, Y), "no labels": (X, None),
    "labels in a dict": (X, {}),
    "labels as a number": (X, 3),
    "labels of two columns": (X, np.zeros((40, 2))),
    "soft labels": (X, np.full((40, 2), 0.5)),
    "labels of three ranks": (X, np.zeros((40, 2, 2))),
    "no samples": ({"a": np.zeros((0, 3))}, np.zeros(0)),
    "other lengths": ({**X, "a": X["a"][:3]}, Y),
    "a modality that is None": ({**X, "a": None}, Y),
    "a modality of texts": ({**X, "a": np.full((40, 2), "x")}, Y),
    "a modality of objects": ({**X, "a": np.array([[None]] * 40)}, Y),
    "a modality of complex numbers": ({**X, "a": X["a"] * 1j}, Y),
    "a modality in a list of rows of two lengths":
        ({**X, "a": [[1, 2], [3]] * 20}, Y),
    "a mask of one column": ({**X, "modality_mask": np.ones((40, 1))}, Y),
    "a mask of three columns": ({**X, "modality_mask": np.ones((40, 3))}, Y),
    "a mask of halves": ({**X, "modality_mask": np.full((40, 2), 0.5)}, Y),
    "a mask of NaN": ({**X, "modality_mask": np.full((40, 2), np.nan)}, Y),
    "a mask without ranks": ({**X, "modality_mask": np.ones(40)}, Y),
    "a mask alone": ({"modality_mask": np.ones((40, 1))}, Y),
    "a mask of texts": ({**X, "modality_mask": np.full((40, 2), "1")}, Y),
    "a name that is a number": ({1: X["a"], "b": X["b"]}, Y),
    "other modalities in the test part":
        ((X, Y), ({"a": X["a"], "c": X["b"]}, Y)),
    "other widths in the test part":
        ((X, Y), ({**X, "a": X["a"][:, :2]}, Y)),
    "labels of another form in the test part": ((X, Y), (X, np.eye(2)[Y])),
    "texts as labels in the test part alone": ((X, Y), (X, Y.astype(str))),
    "a mask in the test part alone":
        ((X, Y), ({**X, "modality_mask": np.ones((40, 2))}, Y)),
    "an empty test part": ((X, Y), ({k: v[:0] for k, v in X.items()}, Y[:0])),
    "labels that are continuous": (X, np.linspace(0, 1, 40)),
    "labels that are infinite": (X, np.where(Y, np.inf, 0)),
    "labels with None": (X, np.array([None, "a"] * 20, dtype=object)),
    "labels of texts and numbers": (X, np.array([1, "a"] * 20, dtype=object)),
    "one class": (X, np.zeros(40)),
}.items():  # fmt: skip
    CASES[f"data: {name}"] = lambda folder, made=made: loaded(made)
for name, text in {
    "empty": "", "null": "null", "a number": "3", "a list": "[1]",
    "datasets null": "datasets:\nmethods: [TMC]",
    "methods null": "datasets: [rosmap]\nmethods:",
    "an alias of itself": "a: &a [*a]",
    "a tag of Python": "a: !!python/object/apply:os.system ['x']",
    "a billion laughs": "a: &a [x,x]\nb: &b [*a,*a]\ndatasets: *b\nmethods: 3",
    "deep nesting": "[" * 400,
}.items():  # fmt: skip
    CASES[f"file: {name}"] = lambda folder, text=text: run_text(folder, text)
for arguments in (
    ("run", "FOLDER", "--out", "FOLDER/out"),
    ("run", "FOLDER/config.yaml", "--out", "FOLDER/file"),
    ("run", "FOLDER/config.yaml", "--out", "FOLDER/file/out"),
    ("run", "FOLDER/config.yaml", "--out", "FOLDER/out", "--shard", "2/1"),
    ("run", "FOLDER/config.yaml", "--out", "FOLDER/out", "--shard", "0/1"),
    ("run", "FOLDER/config.yaml", "--out", "FOLDER/out", "--seeds", "0"),
    ("run", "FOLDER/config.yaml", "--out", "FOLDER/out", "--seeds", "-3"),
    ("run", "FOLDER/config.yaml", "--out", "FOLDER/out", "--datasets", "x"),
    ("run", "FOLDER/tiny.npz", "--out", "FOLDER/out"),
    ("run", "FOLDER/config.yaml", "--out", ""),
    ("run", "", "--out", "FOLDER/out"),
    ("report", "FOLDER/file"), ("report", ""), ("report", "FOLDER"),
    ("report", "FOLDER/config.yaml"),
):  # fmt: skip
    CASES[f"command: {' '.join(arguments)}"] = command(*arguments)
for name in ("rosmap", "brca", "av_digits"):
    load = getattr(datasets, f"load_{name}")
    for value in (3, [], THING, b"x", True, {}):
        CASES[f"load_{name} path={value!r:.40}"] = (
            lambda folder, load=load, value=value: load(value)
        )
    CASES[f"load_{name} path=''"] = lambda folder, load=load: load("no where")
for name in ("rosmap", "brca"):
    for value in (None, 3, "yes"):
        CASES[f"load_{name} return_feature_names={value!r}"] = (
            lambda folder, name=name, value=value: getattr(
                datasets, f"load_{name}"
            )(folder, value)
        )
for key, values in {
    "fold": (None, -1, 1.5, "0", True),
    "image_noise": (None, -1, "x", float("nan"), float("inf"), True),
    "distractor": (None, 1, "no"),
}.items():
    for value in values:
        CASES[f"load_av_digits {key}={value!r}"] = (
            lambda folder, key=key, value=value: datasets.load_av_digits(
                folder, **{key: value}
            )
        )
for value in (None, 3, [], "pixel", ["pixels", "pixels"], [3], {}, THING):
    CASES[f"load_multiview_digits modalities={value!r:.40}"] = (
        functools.partial(
            lambda value, folder: datasets.load_multiview_digits(value), value
        )
    )


def outcome(case, folder):
    """`clear`, `silent`, or whose error it is."""
    try:
        CASES[case](folder)
    except (ValueError, OSError) as error:
        text = str(error)
        one = len(text.splitlines()) == 1
        if one and ("Received" in text or text == "command"):
            return "clear"
        return f"framework: {text:.200}"
    except BaseException as error:
        return f"framework: {type(error).__name__}: {error!s:.200}"
    return "silent"


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_argument_is_one_sentence(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert outcome(case, tmp_path) == "clear"
    if case.startswith("command"):
        assert capsys.readouterr().err.count("\n") == 1
    # Nothing was trained for it.
    assert not (tmp_path / "out/runs.jsonl").exists()


def test_data_and_folder_are_folders(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for key in ("data", "folder"):
        for path in (file, tmp_path / "none"):
            with pytest.raises(OSError, match=f"`{key}` must be a folder"):
                comparison(**{key: path})
        comparison(**{key: tmp_path})
    with pytest.raises(OSError, match="`data` must be a folder. Received"):
        run_file(tmp_path, data=file)


def test_a_message_names_the_argument_once(tmp_path):
    with pytest.raises(ValueError, match="^`config` must be a mapping"):
        run_text(tmp_path, "[1]")
    for corruptions in (["noise"], {"a": 3}, [3]):
        with pytest.raises(ValueError, match="^`corruptions") as error:
            benchmark.Evaluation(corruptions=corruptions)
        text = str(error.value)
        assert "cannot be made" not in text
        assert text.count("Received: ") == 1


def test_numbers_of_numpy_are_numbers_and_can_be_written():
    made = comparison(
        seeds=np.int64(2),
        training={"epochs": np.int64(3), "learning_rate": np.float32(0.5)},
        tuning={"repeats": np.int32(2)},
        evaluation={"bins": np.int64(10)},
    )
    assert made.seeds == (0, 1)
    record = json.loads(json.dumps(made.to_dict()))
    assert record["training"]["epochs"] == 3
    assert record["training"]["learning_rate"] == 0.5
    assert record["evaluation"]["bins"] == 10
    assert comparison(seeds=range(2, 4)).seeds == (2, 3)
