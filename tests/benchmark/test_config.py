"""A config is completed, or refused with one sentence."""

import sys
from pathlib import Path

import pytest
import yaml

from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark import Evaluation
from keras_mmrel.benchmark import Method
from keras_mmrel.benchmark import Training
from keras_mmrel.benchmark import Tuning
from keras_mmrel.benchmark._yaml import read_yaml
from tests.benchmark.helpers import settings

pytestmark = pytest.mark.one_backend

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = {"datasets": ["rosmap"], "methods": ["LateFusion"]}


def check(**changes):
    return Comparison(**{**SMALLEST, **changes})


def parse(folder, text):
    path = folder / "config.yaml"
    path.write_text(text)
    return read_yaml(path)


def dataset(**entry):
    return {"datasets": {"d": entry}}


def method(**entry):
    return {"methods": {"m": {"model": "LateFusion", **entry}}}


def same(first, second):
    return first.to_dict() == second.to_dict()


def test_the_smallest_config_has_all_defaults():
    config = check()
    assert config.title == "Comparison"
    (data,) = config.datasets.values()
    assert (data.source, data.scale, data.options) == ("rosmap", "minmax", {})
    assert config.methods["LateFusion"] == Method("LateFusion")
    assert config.regimes["clean"].augmentation is None
    assert config.seeds == (0, 1, 2, 3, 4)
    assert config.training == Training()
    assert config.tuning == Tuning()
    assert config.evaluation == Evaluation()
    assert config.baseline == "LateFusion"


@pytest.mark.parametrize("section", ["training", "tuning", "evaluation"])
def test_an_empty_section_stands_for_its_defaults(section):
    assert same(check(**{section: None}), check())


def test_own_data_are_resampled_and_scaled():
    entry = check(**dataset(source="npz", path="d.npz")).datasets["d"]
    assert (entry.split, entry.scale) == (None, "minmax")


def test_given_settings_replace_the_defaults_one_by_one():
    config = check(training={"epochs": 7}, tuning={"fraction": 0.5})
    assert config.training == Training(epochs=7)
    assert config.tuning == Tuning(fraction=0.5)


@pytest.mark.parametrize("text", ["1e-3", "1.e-3", "1E-3", "'1e-3'", "0.001"])
def test_a_learning_rate_is_a_number_however_it_is_written(tmp_path, text):
    raw = parse(tmp_path, f"learning_rate: {text}")
    assert check(training=raw).training.learning_rate == 0.001


def test_exponents_are_numbers_in_the_options_of_a_model_too(tmp_path):
    raw = parse(tmp_path, "{modality_loss_weight: 1e-2, average: logits}")
    assert raw == {"modality_loss_weight": 0.01, "average": "logits"}
    assert check(**method(options=raw)).methods["m"].options == raw


def test_texts_that_begin_like_exponents_stay_texts(tmp_path):
    raw = parse(tmp_path, "[1e5b, 2e, e5, v1e3, '1e3']")
    assert raw == ["1e5b", "2e", "e5", "v1e3", "1e3"]


def test_seeds_may_be_listed():
    assert check(seeds=[3, 1]).seeds == (3, 1)
    assert check(seeds=2).seeds == (0, 1)


@pytest.mark.parametrize("chosen", ["OGM", ["OGM"], {"OGM": None}])
def test_a_modulation_may_be_a_name_alone(chosen):
    entry = check(**method(modulation=chosen)).methods["m"]
    assert entry.modulation.identity == {"OGM": {}}


def test_names_that_yaml_takes_for_numbers_are_texts():
    config = check(methods={1: {"model": "LateFusion"}}, baseline=1)
    assert list(config.methods) == ["1"] and config.baseline == "1"


@pytest.mark.parametrize("methods", [None, ["None"], ["None", "LateFusion"]])
def test_no_baseline_is_no_row_that_is_called_none(tmp_path, methods):
    path = tmp_path / "config.yaml"
    rows = {"LateFusion": {}, "None": {"model": "LateFusion"}}
    path.write_text(yaml.safe_dump({**SMALLEST, "methods": rows}))
    config = Comparison.from_yaml(path, methods=methods)
    assert config.baseline == next(iter(config.methods))


# What YAML makes of a plain `no` or `null` is no name of anything.
@pytest.mark.parametrize("name", [None, False])
def test_what_is_no_name_names_nothing(name):
    for key, changes in (
        ("methods", {"methods": {name: {"model": "LateFusion"}}}),
        (
            "evaluation.corruptions",
            {"evaluation": {"corruptions": {name: "missing"}}},
        ),
        ("evaluation.probes", {"evaluation": {"probes": {name: len}}}),
    ):
        with pytest.raises(ValueError, match=f"^`{key}` must be a list of"):
            check(**changes)


def test_an_entry_may_stand_in_for_a_merged_one(tmp_path):
    text = "a: &base {x: 1, y: 2}\nb:\n  <<: *base\n  y: 3\n"
    assert parse(tmp_path, text)["b"] == {"x": 1, "y": 3}


def test_paths_know_the_home_folder_and_variables(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SETS", "/sets")
    entry = check(
        **dataset(
            source="csv", labels="~/y.csv", modalities={"a": "$SETS/a.csv"}
        )
    ).datasets["d"]
    assert entry.options["labels"] == "/home/me/y.csv"
    assert entry.options["modalities"] == {"a": "/sets/a.csv"}


# What stands in the config, the key that the sentence names, what was
# expected, what was received.
WRONG = [
    ({"datasets": None}, "`datasets`", "at least one", "None"),
    ({"methods": {}}, "`methods`", "at least one", "{}"),
    ({"datasets": "rosmap"}, "`datasets`", "list of names", "'rosmap'"),
    ({"methods": [["x"]]}, "`methods`", "list of names", "[['x']]"),
    ({"methods": ["CAL", "CAL"]}, "`methods`", "different", "CAL"),
    (dataset(source="npz"), "`datasets.d.path`", "where", "None"),
    (dataset(source="csv", labels="y"), "`datasets.d.modalities`", "where",
     "None"),
    (dataset(source="npz", path=5), "`datasets.d.path`", "text", "5"),
    (dataset(source="csv", labels=1, modalities={"a": "f"}),
     "`datasets.d.labels`", "text", "1"),
    (dataset(source="csv", labels="y", modalities={"a": 3}),
     "`datasets.d.modalities.a`", "text", "3"),
    (dataset(source="npz", path="f", modalities="a"),
     "`datasets.d.modalities`", "list of names", "'a'"),
    (dataset(source="csv", labels="y", modalities={"a": "f"}, header="no"),
     "`datasets.d.header`", "True or False", "'no'"),
    (dataset(source="rosmap", scale="zscore"), "`datasets.d.scale`",
     "minmax", "'zscore'"),
    (dataset(source="npz", path="f", split="published"),
     "`datasets.d.split`", "resampled", "'published'"),
    (dataset(source="npz", path="f", test_fraction=0),
     "`datasets.d.test_fraction`",
     "[0.05, 0.95]", "0"),
    (dataset(source="rosmap", split="published", test_fraction=0.3),
     "`datasets.d.test_fraction`",
     "resampled", "0.3"),
    (dataset(source="rosmap", training={"epochs": 0}),
     "`datasets.d.training.epochs`", "positive integer", "0"),
    (method(options={"average": "mode"}), "`methods.m.options.average`",
     "'logits'", "'mode'"),
    (method(options={"modality_loss_weight": "x"}),
     "`methods.m.options.modality_loss_weight`", "number",
     "'x'"),
    (method(options=[1]), "`methods.m.options`", "mapping", "[1]"),
    (method(encoder={"hidden_units": 0}), "`methods.m.encoder.hidden_units`",
     "an integer from 1", "0"),
    (method(inputs="scaled"), "`methods.m.inputs`", "raw", "'scaled'"),
    (method(modulation={"OGM": {"alpha": -1}}),
     "`methods.m.modulation.OGM.alpha`", "number", "-1"),
    (method(modulation=["OGM", "ARL"]), "`methods.m.modulation`", "one", "ARL"),
    (method(tuning={"grid": {"options": {"average": ["mode"]}}}),
     "`methods.m.tuning.grid.options.average`", "'logits'", "'mode'"),
    ({"tuning": {"grid": {"options": {"average": ["mode"]}}}},
     "`methods.LateFusion.tuning.grid.options.average`", "'logits'",
     "'mode'"),
    ({"regimes": "noisy"}, "`regimes`", "list of names", "'noisy'"),
    ({"regimes": {"r": {"sigmas": 1}}},
     "`regimes.r.augmentation.sigmas`", "must", "1"),
    ({"regimes": {"r": {"noise_probability": 2}}},
     "`regimes.r.augmentation.noise_probability`",
     "[0, 1]",
     "2"),
    ({"seeds": 0}, "`seeds`", "positive", "0"),
    ({"seeds": True}, "`seeds`", "positive", "True"),
    ({"seeds": []}, "`seeds`", "sequence", "[]"),
    ({"seeds": [1, 1]}, "`seeds`", "different", "[1, 1]"),
    ({"seeds": [-1]}, "`seeds`", "non-negative", "[-1]"),
    ({"seeds": [10**9]}, "`seeds`", "from 0", "1000000000"),
    ({"seeds": "5"}, "`seeds`", "positive integer", "'5'"),
    ({"training": 5}, "`training`", "mapping", "5"),
    ({"training": {"epochs": 2.5}}, "`training.epochs`", "integer", "2.5"),
    ({"training": {"epochs": True}}, "`training.epochs`", "integer", "True"),
    ({"training": {"batch_size": "all"}}, "`training.batch_size`", "'full'",
     "'all'"),
    ({"training": {"learning_rate": "fast"}}, "`training.learning_rate`",
     "number", "'fast'"),
    ({"training": {"learning_rate": float("nan")}},
     "`training.learning_rate`", "number", "nan"),
    ({"training": {"weight_decay": -1}}, "`training.weight_decay`",
     "non-negative", "-1"),
    ({"training": {"optimizer": "adm"}}, "`training.optimizer`", "adam",
     "'adm'"),
    ({"training": {"schedule": 3}}, "`training.schedule`", "cosine", "3"),
    ({"tuning": {"fraction": 0.99}}, "`tuning.fraction`", "[0.05, 0.9]",
     "0.99"),
    ({"tuning": {"repeats": 0}}, "`tuning.repeats`", "positive", "0"),
    ({"tuning": {"grid": {"epochs": 5}}}, "`tuning.grid.epochs`", "list",
     "5"),
    ({"tuning": {"grid": {"epochs": [5, 0]}}}, "`tuning.grid.epochs`",
     "positive integer", "0"),
    ({"tuning": {"grid": {"options": {"average": "logits"}}}},
     "`tuning.grid.options`", "list", "'logits'"),
    ({"evaluation": {"corruptions": "missing"}}, "`evaluation.corruptions`",
     "list", "'missing'"),
    ({"evaluation": {"corruptions": ["fog"]}}, "`evaluation.corruptions`",
     "missing",
     "'fog'"),
    ({"evaluation": {"severities": 1}}, "`evaluation.severities`",
     "list or tuple", "1"),
    ({"evaluation": {"seeds": 0}}, "`evaluation.seeds`", "positive", "0"),
    ({"evaluation": {"bins": "x"}}, "`evaluation.bins`", "positive", "'x'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "key", "expected", "received"),
    WRONG,
    ids=[f"{n:02d} {case[1]}" for n, case in enumerate(WRONG)],
)
def test_a_wrong_entry_is_named(changes, key, expected, received):
    with pytest.raises(ValueError) as error:
        check(**changes)
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(key)
    head, _, tail = text.rpartition("Received: ")
    assert expected in head and received in tail


@pytest.mark.parametrize(
    ("changes", "wrong", "right"),
    [
        (dataset(source="rosmap", pth="f"), "pth", "path"),
        (dataset(source="rosmop"), "rosmop", "rosmap"),
        (method(option={}), "option", "options"),
        (method(options={"averge": "logits"}), "averge", "average"),
        ({"methods": ["LateFuson"]}, "LateFuson", "LateFusion"),
        (method(encoder={"hiden_units": [4]}), "hiden_units", "hidden_units"),
        (method(modulation="OGMG"), "OGMG", "OGMGE"),
        (method(modulation={"OGM": {"alfa": 1}}), "alfa", "alpha"),
        (method(training={"epoch": 1}), "epoch", "epochs"),
        (method(tuning={"grids": {}}), "grids", "grid"),
        (method(tuning={"grid": {"options": {"averag": [1]}}}), "averag",
         "average"),
        ({"regimes": {"r": {"sigma": [1]}}}, "sigma", "sigmas"),
        ({"training": {"learn_rate": 1}}, "learn_rate", "learning_rate"),
        ({"tuning": {"fractions": 0.2}}, "fractions", "fraction"),
        ({"tuning": {"grid": {"batchsize": [1]}}}, "batchsize", "batch_size"),
        ({"evaluation": {"seed": 1}}, "seed", "seeds"),
        ({"baseline": "lateFusion"}, "lateFusion", "LateFusion"),
    ],
)  # fmt: skip
def test_the_nearest_name_is_suggested(changes, wrong, right):
    with pytest.raises(
        ValueError, match=f"'{wrong}'; the nearest is '{right}'"
    ):
        check(**changes)


def test_a_regime_cannot_fix_the_seed_that_each_run_gives():
    with pytest.raises(ValueError, match="`regimes.r` must have keys.*'seed'"):
        check(regimes={"r": {"seed": 1}})


def test_a_key_of_another_source_is_refused():
    with pytest.raises(ValueError, match=r"datasets\.d.*'fold'"):
        check(**dataset(source="rosmap", fold=1))


@pytest.mark.parametrize(
    "text",
    [
        "seeds: 1\nseeds: 2\n",
        "training: {epochs: 1, epochs: 2}\n",
        "methods:\n  TMC: {}\n  CAL: {}\n  TMC: {inputs: raw}\n",
        "1: a\n'1': b\n",
    ],
)
def test_a_name_that_stands_twice_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="must stand once in its section"):
        parse(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "a: b: c",
        "\tx: 1",
        "[a]: 1",
        "x: !!python/none",
        "x: 2001-99-99",
    ],
)
def test_what_is_no_yaml_of_plain_data_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="^`config` must be a YAML file") as e:
        parse(tmp_path, text)
    assert len(str(e.value).splitlines()) == 1


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00title: x")
    with pytest.raises(ValueError, match="`config` must be a YAML file"):
        read_yaml(path)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just a text"])
def test_a_file_without_sections_is_refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="`config`|`datasets`"):
        Comparison.from_yaml(path)


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="`config` must be a YAML file"):
        Comparison.from_yaml(tmp_path)


def test_without_pyyaml_the_extra_is_named(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings()))
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"PyYAML.*keras-mmrel\[report\]"):
        Comparison.from_yaml(path)


def test_checking_a_config_leaves_the_given_one_as_it_was():
    raw = {**SMALLEST, **method(modulation="OGM", tuning={"fraction": 0.5})}
    before = yaml.safe_dump(raw)
    Comparison(**raw)
    assert yaml.safe_dump(raw) == before
