"""Planted faults are found, and clean data have none."""

import numpy as np
import pytest

from keras_mmrel.diagnose import LIMITS
from keras_mmrel.diagnose._leaks import check_leaks
from keras_mmrel.diagnose._prepare import class_numbers
from keras_mmrel.diagnose._prepare import prepare
from keras_mmrel.diagnose._read import table_of
from keras_mmrel.diagnose._samples import check_samples
from keras_mmrel.diagnose._splits import make_splits
from keras_mmrel.diagnose._table import Table
from keras_mmrel.diagnose._values import check_values
from tests.diagnose.made_data import clean

pytestmark = pytest.mark.one_backend
CHECKS = (check_leaks, check_samples)


def found(x, y, **more):
    """Kind -> the findings of all checks that need no training."""
    table = Table("made", x, np.asarray(y), **more)
    numbers, _ = class_numbers(table.y)
    findings = [f for check in CHECKS for f in check(table, numbers)]
    findings += check_values(table)
    findings += prepare(table, numbers)[1]
    kinds = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    return kinds


def only(kinds, kind):
    assert list(kinds) == [kind]
    assert len(kinds[kind]) == 1
    return kinds[kind][0]


@pytest.mark.parametrize("seed", range(5))
def test_clean_data_have_no_finding(seed):
    assert found(*clean(seed=seed)) == {}


def test_an_index_column_is_found_and_left_out():
    x, y = clean()
    x["b"] = np.concatenate([x["b"], np.arange(240.0)[:, None]], axis=1)
    finding = only(found(x, y), "index")
    assert (finding.level, finding.modality) == ("error", "b")
    assert finding.columns == ["8"]
    assert "alone it names" not in finding.text
    table = Table("made", x, y)
    assert prepare(table, y)[0].x["b"].shape == (240, 8)


def test_an_index_of_sorted_rows_gives_the_label_away():
    x, y = clean()
    order = np.argsort(y, kind="stable")
    x = {name: values[order] for name, values in x.items()}
    x["a"] = np.concatenate([np.arange(240.0)[:, None], x["a"]], axis=1)
    kinds = found(x, y[order])
    assert set(kinds) == {"index", "sorted_labels"}
    assert kinds["index"][0].numbers["class_named"] > LIMITS["leak"].value
    assert "changes 2 times" in kinds["sorted_labels"][0].text


@pytest.mark.parametrize("codes", [[0, 1, 2], [5.5, -3.0, 4.0]])
def test_a_leaking_column_is_found_and_named(codes):
    x, y = clean()
    leak = np.array(codes)[y] + np.random.default_rng(0).normal(0, 0.05, 240)
    x["c"] = np.insert(x["c"], 3, leak, axis=1)
    columns = {"c": [f"c_{i}" for i in range(9)]}
    finding = only(found(x, y, columns=columns), "leak")
    assert finding.columns == ["c_3"] and finding.level == "error"
    assert finding.numbers["class_named"] == 1.0
    assert "c_3 of 'c' alone names the class of 100.0 %" in finding.text


def test_values_that_are_no_numbers_are_counted():
    x, y = clean()
    x["a"][3, 2] = np.nan
    x["a"][7] = np.inf
    finding = only(found(x, y), "not_finite")
    assert finding.numbers == {"values": 9, "rows": 2, "whole_rows": 1}
    assert finding.rows == [3, 7]
    data, _ = prepare(Table("made", x, y), y)
    assert all(np.isfinite(values).all() for values in data.x.values())
    assert data.present[:, 0].sum() == 239


def test_a_dead_sensor_is_found_by_its_zeros_or_by_another_value():
    for value in (0.0, -1.0):
        x, y = clean()
        x["b"][20:50] = value
        finding = only(found(x, y), "dead_rows")
        assert finding.modality == "b" and finding.numbers["rows"] == 30
        data, _ = prepare(Table("made", x, y), y)
        assert data.present.sum(axis=0).tolist() == [240, 210, 240]


def test_a_modality_of_categories_is_not_dead():
    x, y = clean()
    x["b"] = np.eye(4, dtype="float32")[np.arange(240) % 4]
    assert found(x, y) == {}


def test_constant_and_stuck_features_are_found():
    x, y = clean()
    x["a"][:, 5] = 2.0
    x["c"][100:150, 1] = x["c"][100, 1]
    kinds = found(x, y)
    assert set(kinds) == {"constant", "stuck"}
    assert kinds["constant"][0].columns == ["5"]
    assert kinds["stuck"][0].rows == [100, 149]
    assert kinds["stuck"][0].columns == ["1"]


def test_a_modality_that_never_varies_is_an_error():
    x, y = clean()
    x["a"] = np.ones_like(x["a"])
    kinds = found(x, y)
    assert {f.level for f in kinds["constant"]} == {"error"}
    assert prepare(Table("made", x, y), y)[0].modalities == ["b", "c"]


def test_doubles_are_found_and_stay_on_one_side():
    x, y = clean()
    for values in x.values():
        values[10:16] = values[100:106]
    y = y.copy()
    y[10:16] = y[100:106]
    finding = only(found(x, y), "duplicates")
    assert finding.level == "warning" and finding.numbers["rows"] == 6
    data, _ = prepare(Table("made", x, y), y)
    splits = make_splits(data, 4)
    side = np.full(240, -1)
    side[splits.development] = splits.fold
    assert (side[10:16] == side[100:106]).all()


def test_doubles_across_a_split_of_the_datas_own_are_an_error():
    x, y = clean()
    for values in x.values():
        values[230:235] = values[:5]
    y = y.copy()
    y[230:235] = y[:5]
    y[230] = (y[230] + 1) % 3
    finding = only(found(x, y, test=np.arange(240) >= 200), "duplicates")
    assert finding.level == "error"
    assert finding.numbers == {"rows": 5, "other_label": 1, "across_split": 5}


def test_near_doubles_are_found():
    x, y = clean()
    noise = np.random.default_rng(1)
    for values in x.values():
        values[30:34] = values[60:64] + noise.normal(0, 1e-3, (4, 8))
    y = y.copy()
    y[30:34] = y[60:64]
    finding = only(found(x, y), "near_duplicates")
    assert finding.numbers["pairs"] == 4 and finding.level == "note"
    crossed = found(x, y, test=np.arange(240) < 50)["near_duplicates"][0]
    assert crossed.numbers["across_split"] == 4
    assert crossed.level == "warning"


def test_one_file_in_two_samples_is_found():
    x, y = clean()
    x["c"][40:43] = x["c"][90:93]
    finding = only(found(x, y), "same_file")
    assert finding.modality == "c" and finding.rows == [90, 91, 92]


def test_a_class_of_three_samples_is_found():
    x, y = clean()
    y = np.array(["one", "two", "three"])[y]
    y[:3] = "rare"
    kinds = found(x, y)
    assert set(kinds) == {"small_class", "imbalance"}
    assert kinds["small_class"][0].columns == ["rare"]
    assert "rare (3)" in kinds["small_class"][0].text
    numbers, classes = class_numbers(y)
    data, _ = prepare(Table("made", x, y), numbers)
    splits = make_splits(data, 4)
    for fold in range(4):
        training, _ = splits.of_fold(fold)
        assert set(data.y[training]) == set(range(4))


def test_rows_without_a_label_and_single_samples_are_left_out():
    x, y = clean()
    y = y.astype(float)
    y[5] = np.nan
    y[6] = 7.0
    kinds = found(x, y)
    assert {"no_label", "single"} <= set(kinds)
    numbers, classes = class_numbers(y)
    data, _ = prepare(Table("made", x, y), numbers)
    assert data.classes == ["0", "1", "2"] and len(data.y) == 238


def test_other_scales_and_shared_features_are_notes():
    x, y = clean()
    x["a"] = x["a"] * 1e5
    assert only(found(x, y), "scales").modality is None
    x, y = clean()
    x["b"][:, 0] = x["a"][:, 4]
    assert only(found(x, y), "shared_features").columns == ["0"]


def test_groups_are_never_parted():
    x, y = clean()
    groups = np.arange(240) // 6
    data, _ = prepare(Table("made", x, y, groups=groups), y)
    splits = make_splits(data, 3)
    side = np.full(240, -1)
    side[splits.development] = splits.fold
    assert all(len(set(side[groups == g])) == 1 for g in range(40))
    assert len(splits.test) == 48


def test_a_mask_of_the_data_is_kept():
    x, y = clean()
    mask = np.ones((240, 3))
    mask[:30, 1] = 0
    x["b"][:30] = np.nan
    table = table_of(({**x, "modality_mask": mask}, y))
    data, _ = prepare(table, y)
    assert (data.present == (mask > 0)).all()
