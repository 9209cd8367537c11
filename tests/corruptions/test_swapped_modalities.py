import json

import keras
import numpy as np
import pytest

from keras_mmrel.corruptions import SwappedModalities

pytestmark = pytest.mark.one_backend

PAIR = ["a", "b"]


def numbered(n=40):
    """What a feature holds says the sample and the modality."""
    ids = np.arange(n, dtype="float32")[:, None]
    return {"a": ids + np.zeros(3, "f4"), "c": ids, "b": ids + np.full(3, 1000)}


def test_each_of_two_holds_what_belongs_to_the_other():
    x = numbered()
    before = {name: values.copy() for name, values in x.items()}
    swapped = SwappedModalities(1.0, PAIR)(x)
    assert list(swapped) == ["a", "c", "b"]
    np.testing.assert_array_equal(swapped["a"], x["b"])
    np.testing.assert_array_equal(swapped["b"], x["a"])
    np.testing.assert_array_equal(swapped["c"], x["c"])
    for name, values in before.items():
        np.testing.assert_array_equal(x[name], values)


def test_a_fraction_of_the_samples_that_have_both():
    x = numbered()
    x["modality_mask"] = np.ones((40, 3))
    x["modality_mask"][:20, 2] = 0
    swapped = SwappedModalities(0.5, PAIR)
    hit = swapped.corrupted(x, 3)
    assert (hit[:, 0] == hit[:, 2]).all() and not hit[:, 1].any()
    assert hit[:20].sum() == 0 and hit[:, 0].sum() == 10
    result = swapped(x, 3)
    np.testing.assert_array_equal((result["a"] != x["a"])[:, 0], hit[:, 0])
    np.testing.assert_array_equal(result["modality_mask"], x["modality_mask"])
    assert not SwappedModalities(0.0, PAIR).corrupted(x).any()


def test_the_seed_decides_and_a_config_keeps_it():
    x, swapped = numbered(), SwappedModalities(0.5, PAIR)
    text = json.dumps(keras.saving.serialize_keras_object(swapped))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    np.testing.assert_array_equal(again(x, 1)["a"], swapped(x, 1)["a"])
    assert (swapped(x, 1)["a"] != swapped(x, 2)["a"]).any()
    assert repr(again) == "SwappedModalities(severity=0.5, target=['a', 'b'])"


@pytest.mark.parametrize("target", ["all", "a", ["a"], ["a", "b", "c"]])
def test_two_must_be_named(target):
    with pytest.raises(ValueError, match="must name two modalities"):
        SwappedModalities(1.0, target)


def test_what_cannot_be_exchanged_is_refused():
    for call in (SwappedModalities(1.0, ["a", "c"]),):
        for method in (call, call.corrupted):
            with pytest.raises(ValueError, match=r"one shape. Received: .*3,"):
                method(numbered())
    with pytest.raises(ValueError, match="unknown: .*'d'"):
        SwappedModalities(1.0, ["a", "d"])(numbered())
    with pytest.raises(ValueError, match="one label a sample"):
        SwappedModalities(1.0, PAIR)(numbered(), labels=np.arange(3))
    with pytest.raises(ValueError, match="`severity` must be"):
        SwappedModalities(1.5, PAIR)
