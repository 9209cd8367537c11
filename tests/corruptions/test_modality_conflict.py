import json

import keras
import numpy as np
import pytest

from keras_mmrel.corruptions import ModalityConflict
from keras_mmrel.evaluation import evaluate_robustness

pytestmark = pytest.mark.one_backend

MASK = "modality_mask"


def numbered(n=60, classes=3):
    """Values tell the sample; a sample's class is its number mod classes."""
    ids = np.arange(n, dtype="float64")
    return {"a": np.tile(ids[:, None], 4), "b": ids}, np.arange(n) % classes


@pytest.mark.parametrize("severity", [0.2, 1.0])
@pytest.mark.parametrize("target", ["one", "all", "a"])
def test_modality_is_that_of_one_sample_of_another_class(severity, target):
    x, y = numbered()
    conflict = ModalityConflict(severity, target)
    result = conflict(x, seed=5, labels=y)
    corrupted = conflict.corrupted(x, seed=5, labels=y)
    assert corrupted.any(axis=1).sum() == round(60 * severity)
    for column, name in enumerate(x):
        rows = corrupted[:, column]
        donors = result[name].reshape(60, -1)
        assert (donors == donors[:, :1]).all()
        donors = donors[:, 0].astype(int)
        assert (y[donors[rows]] != y[rows]).all()
        np.testing.assert_array_equal(donors[~rows], np.flatnonzero(~rows))


def test_labels_may_be_one_hot():
    x, y = numbered()
    conflict = ModalityConflict(0.5)
    expected = conflict(x, 1, labels=y)
    for labels in (np.eye(3)[y], y[:, None], list(y)):
        received = conflict(x, 1, labels=labels)
        assert all(np.array_equal(received[k], expected[k]) for k in x)


def test_all_samples_of_other_classes_may_give():
    x, y = numbered(n=12)
    conflict = ModalityConflict(1.0, "b")
    seen = [set() for _ in range(12)]
    for seed in range(120):
        for i, donor in enumerate(conflict(x, seed, labels=y)["b"]):
            seen[i].add(int(donor))
    for i, donors in enumerate(seen):
        assert donors == {j for j in range(12) if j % 3 != i % 3}


def test_class_with_a_single_sample_gives_and_gets():
    x, _ = numbered(n=6)
    y = np.array([0, 0, 0, 4, 0, 0])
    result = ModalityConflict(1.0, "b")(x, labels=y)["b"]
    np.testing.assert_array_equal(result[[0, 1, 2, 4, 5]], 3)
    assert result[3] != 3


def test_missing_samples_give_nothing_and_get_nothing():
    x, y = numbered()
    mask = np.ones((60, 2))
    mask[y == 1, 0] = 0
    mask[::5, 0] = 0
    x["a"][mask[:, 0] == 0] = np.nan
    conflict = ModalityConflict(1.0, "a")
    inputs = {**x, MASK: mask}
    result = conflict(inputs, labels=y)
    rows = conflict.corrupted(inputs, labels=y)[:, 0]
    np.testing.assert_array_equal(rows, mask[:, 0] == 1)
    assert np.isfinite(result["a"][rows]).all()
    np.testing.assert_array_equal(result["a"][~rows], x["a"][~rows])
    # Only one class is left: nobody can give.
    mask[y == 2, 0] = 0
    x["a"][y == 2] = np.nan
    assert not conflict.corrupted({**x, MASK: mask}, labels=y).any()


def test_severity_zero_and_same_seed():
    x, y = numbered()
    none = ModalityConflict(0.0)
    assert not none.corrupted(x, labels=y).any()
    assert all(np.array_equal(none(x, labels=y)[k], x[k]) for k in x)
    one, same, other = (
        ModalityConflict(0.5)(x, seed, labels=y)["b"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_round_trip_through_json_keeps_the_results():
    x, y = numbered()
    conflict = ModalityConflict(0.5, "independent", 0.3)
    text = json.dumps(keras.saving.serialize_keras_object(conflict))
    restored = keras.saving.deserialize_keras_object(json.loads(text))
    expected, received = conflict(x, 3, y), restored(x, 3, y)
    assert all(np.array_equal(expected[k], received[k]) for k in x)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (None, "`ModalityConflict` must be called with `labels=y`"),
        (np.zeros(60, int), "two or more classes.*60 of one class"),
        (np.zeros(7, int), "7 labels for 60 samples"),
        (np.linspace(0, 1, 60), "integer class numbers"),
        (np.arange(60) - 1, "class numbers in"),
    ],
)
def test_bad_labels_are_refused_in_one_sentence(labels, sentence):
    x, _ = numbered()
    with pytest.raises(ValueError, match=sentence):
        ModalityConflict(0.5)(x, labels=labels)
    with pytest.raises(ValueError, match=sentence):
        ModalityConflict(0.5).corrupted(x, labels=labels)


def test_one_sample_has_nobody_to_conflict_with():
    with pytest.raises(ValueError, match="two or more classes.*1 of one"):
        ModalityConflict(1.0)({"a": np.ones((1, 2))}, labels=np.array([0]))


def test_evaluation_hands_the_labels_on():
    x, y = numbered()
    classes = np.eye(3)
    seen = []

    def model(x):
        seen.append(x["b"])
        return 5.0 * classes[x["b"].astype(int) % 3]

    report = evaluate_robustness(
        model, x, classes[y], {"c": ModalityConflict(1.0, "b")}, verbose=0
    )
    assert report.scores["accuracy"].tolist() == [1.0, 0.0]
    assert report.scores["in_range"].tolist() == [True, True]
    expected = ModalityConflict(1.0, "b")(x, seed=0, labels=y)["b"]
    np.testing.assert_array_equal(seen[1], expected)
