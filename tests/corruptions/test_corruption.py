import json

import keras
import numpy as np
import pytest

from keras_mmrel.corruptions import Blur
from keras_mmrel.corruptions import Brightness
from keras_mmrel.corruptions import ClippedGaussianNoise
from keras_mmrel.corruptions import Corruption
from keras_mmrel.corruptions import DroppedFrames
from keras_mmrel.corruptions import DroppedSegments
from keras_mmrel.corruptions import DroppedWords
from keras_mmrel.corruptions import FeaturePermutation
from keras_mmrel.corruptions import FeatureSwap
from keras_mmrel.corruptions import FrozenFrames
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import JPEGCompression
from keras_mmrel.corruptions import MissingModality
from keras_mmrel.corruptions import ModalityConflict
from keras_mmrel.corruptions import Occlusion
from keras_mmrel.corruptions import SaltAndPepper
from keras_mmrel.corruptions import SwappedWords
from keras_mmrel.corruptions import TypingErrors
from keras_mmrel.corruptions import UnalignedSamples
from keras_mmrel.corruptions import WaveformClipping
from keras_mmrel.corruptions import WaveformNoise
from tests.corruptions import media

pytestmark = pytest.mark.one_backend

MASK = "modality_mask"
FEATURES = {
    "gaussian": GaussianNoise(0.5, target="one", feature_fraction=0.5),
    "salt_and_pepper": SaltAndPepper(0.3, "independent", 0.25, -1.0, 2.0),
    "unaligned": UnalignedSamples(0.6, target=["image", "sound"]),
    "clipped": ClippedGaussianNoise(0.5, "independent", 0.4, 0.5, high=1.5),
    "feature_swap": FeatureSwap(0.3, target="one"),
    "permutation": FeaturePermutation(0.6, target="one"),
    "missing": MissingModality(0.4, target="image", announce=False),
}
MEDIA = {
    "waveform_noise": WaveformNoise(0.5, "one"),
    "waveform_clipping": WaveformClipping(0.2, "independent"),
    "dropped_segments": DroppedSegments(0.2, "independent", 0.4, segments=3),
    "blur": Blur(0.8, target="one"),
    "occlusion": Occlusion(0.3, "independent", 0.3),
    "jpeg": JPEGCompression(70, target="one"),
    "brightness": Brightness(0.4, "one", direction="darker"),
    "frozen_frames": FrozenFrames(0.5, target="one"),
    "dropped_frames": DroppedFrames(0.4, "independent", 0.25),
    "typing_errors": TypingErrors(0.2, target="one"),
    "dropped_words": DroppedWords(0.3, "independent", 0.4),
    "swapped_words": SwappedWords(0.5, target=["text", "sound"]),
}
ALL = {**FEATURES, **MEDIA}


corruptions = pytest.mark.parametrize(
    "corruption", ALL.values(), ids=ALL.keys()
)
classes = pytest.mark.parametrize(
    "cls", [type(c) for c in ALL.values()], ids=ALL.keys()
)


def make_inputs(n=40, mask=False, seed=0, corruption=None):
    """Features, or what a corruption of media takes, by the same names."""
    rng = np.random.default_rng(seed)
    inputs = {
        "text": rng.normal(size=(n, 7)).astype("float32"),
        "image": rng.normal(size=(n, 4, 4, 2)).astype("float32"),
        "sound": rng.normal(size=(n, 9)).astype("float32"),
    }
    if medium := media.of(corruption):
        inputs = {name: medium(n, rng) for name in inputs}
    if mask:
        present = rng.random((n, 3)) < 0.6
        for column, values in enumerate(inputs.values()):
            lost = None if values.dtype == object else np.nan
            values[~present[:, column]] = lost
        inputs = {MASK: present.astype("float32"), **inputs}
    return inputs


def changed(before, after):
    """Return which (sample, modality) pairs differ; NaN equals NaN."""
    columns = []
    for name in before:
        if name != MASK:
            same = (before[name] == after[name]) | (
                (before[name] != before[name]) & (after[name] != after[name])
            )
            columns.append(~same.reshape(len(same), -1).all(axis=1))
    return np.stack(columns, axis=1)


@corruptions
def test_same_seed_gives_same_result(corruption):
    inputs = make_inputs(corruption=corruption)
    first, second = corruption(inputs, seed=3), corruption(inputs, seed=3)
    other = corruption(inputs, seed=4)
    assert all(np.array_equal(first[k], second[k]) for k in inputs)
    assert any(not np.array_equal(first[k], other[k]) for k in inputs)


@corruptions
@pytest.mark.parametrize("mask", [False, True])
def test_hits_are_exactly_what_changed(corruption, mask):
    inputs = make_inputs(mask=mask, corruption=corruption)
    hits = corruption.corrupted(inputs, seed=5)
    assert hits.any() and not hits.all()
    np.testing.assert_array_equal(
        changed(inputs, corruption(inputs, seed=5)), hits
    )


@corruptions
def test_missing_modality_is_never_hit(corruption):
    inputs = make_inputs(mask=True, corruption=corruption)
    hits = corruption.corrupted(inputs, seed=1)
    assert hits.any()
    assert not hits[inputs[MASK] == 0].any()
    corrupted = corruption(inputs, seed=1)
    for column, name in enumerate(["text", "image", "sound"]):
        present = inputs[MASK][:, column] == 1
        values = corrupted[name][present]
        assert (values == values).all() and None not in values


@corruptions
def test_inputs_are_left_alone_and_result_owns_its_memory(corruption):
    inputs = make_inputs(mask=True, corruption=corruption)
    copies = {name: array.copy() for name, array in inputs.items()}
    corrupted = corruption(inputs, seed=2)
    for name, copy in copies.items():
        np.testing.assert_array_equal(inputs[name], copy)
        assert not np.shares_memory(inputs[name], corrupted[name])


@corruptions
def test_order_of_keys_and_dtypes_are_kept(corruption):
    inputs = make_inputs(mask=True, corruption=corruption)
    corrupted = corruption(inputs)
    assert list(corrupted) == list(inputs)
    for name, array in corrupted.items():
        assert array.dtype == inputs[name].dtype


@corruptions
def test_order_of_modalities_does_not_change_the_draws(corruption):
    inputs = make_inputs(corruption=corruption)
    turned = dict(reversed(inputs.items()))
    first, second = corruption(inputs, seed=6), corruption(turned, seed=6)
    assert all(np.array_equal(first[k], second[k]) for k in inputs)


@corruptions
def test_severity_zero_is_the_identity(corruption):
    config = {**corruption.get_config(), "severity": 0}
    identity = type(corruption)(**config)
    inputs = make_inputs(mask=True, corruption=corruption)
    result = identity(inputs)
    assert list(result) == list(inputs)
    for name in inputs:
        np.testing.assert_array_equal(result[name], inputs[name])
    assert not identity.corrupted(inputs).any()


@corruptions
def test_round_trip_through_json_keeps_the_results(corruption):
    text = json.dumps(keras.saving.serialize_keras_object(corruption))
    restored = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(restored) is type(corruption)
    assert restored.get_config() == corruption.get_config()
    inputs = make_inputs(corruption=corruption)
    expected, received = corruption(inputs, 8), restored(inputs, 8)
    assert all(np.array_equal(expected[k], received[k]) for k in expected)


@corruptions
def test_repr_rebuilds_the_object(corruption):
    names = {cls.__name__: cls for cls in map(type, ALL.values())}
    assert eval(repr(corruption), names).get_config() == corruption.get_config()


@pytest.mark.parametrize("target", ["all", "one", "independent", "a"])
@classes
def test_one_modality_alone_works(cls, target):
    corruption = cls(1.0, target=target)
    inputs = {"a": np.arange(20.0, dtype="float32")[:, None]}
    if medium := media.of(corruption):
        inputs = {"a": medium(20, np.random.default_rng(0))}
    hits = corruption.corrupted(inputs, seed=1)
    assert hits.shape == (20, 1) and hits.any()
    assert set(corruption(inputs, seed=1)) >= {"a"}


def test_target_all_hits_every_present_modality():
    inputs = make_inputs(mask=True)
    hits = GaussianNoise(1.0).corrupted(inputs)
    np.testing.assert_array_equal(hits, inputs[MASK] == 1)


def test_target_one_hits_one_present_modality_of_each_sample():
    inputs = make_inputs(n=3000)
    hits = GaussianNoise(1.0, target="one").corrupted(inputs)
    assert (hits.sum(axis=1) == 1).all()
    np.testing.assert_allclose(hits.mean(axis=0), 1 / 3, atol=0.04)
    inputs = make_inputs(n=300, mask=True)
    hits = GaussianNoise(1.0, target="one").corrupted(inputs)
    np.testing.assert_array_equal(
        hits.sum(axis=1), inputs[MASK].any(axis=1).astype(int)
    )


def test_target_independent_follows_the_probability():
    inputs = make_inputs(n=3000)
    noise = GaussianNoise(1.0, target="independent", probability=0.2)
    hits = noise.corrupted(inputs)
    np.testing.assert_allclose(hits.mean(axis=0), 0.2, atol=0.03)
    both = (hits[:, 0] & hits[:, 1]).mean()
    np.testing.assert_allclose(both, 0.04, atol=0.02)


@pytest.mark.parametrize("target", ["image", ["image"], ("image",)])
def test_named_target_hits_that_modality_only(target):
    hits = GaussianNoise(1.0, target=target).corrupted(make_inputs())
    np.testing.assert_array_equal(hits.all(axis=0), [False, True, False])
    np.testing.assert_array_equal(hits.any(axis=0), [False, True, False])


def test_seed_hits_the_same_pairs_at_every_severity():
    inputs = make_inputs()
    weak, strong = (GaussianNoise(s, target="one") for s in (0.1, 2.0))
    np.testing.assert_array_equal(
        weak.corrupted(inputs, 9), strong.corrupted(inputs, 9)
    )
    few, many = (UnalignedSamples(s) for s in (0.2, 0.7))
    assert (few.corrupted(inputs, 9) <= many.corrupted(inputs, 9)).all()


def test_classes_and_modalities_draw_from_different_streams():
    inputs = {n: np.zeros((500, 3), "float32") for n in ("a", "b")}
    noise = GaussianNoise(1.0)(inputs, seed=0)
    assert not np.array_equal(noise["a"], noise["b"])
    first = GaussianNoise(1.0, target="one").corrupted(inputs)
    second = SaltAndPepper(0.5, target="one").corrupted(inputs)
    agreement = (first == second).mean()
    assert 0.4 < agreement < 0.6


def test_other_dtypes_come_back_as_floats():
    inputs = {
        "double": np.ones((4, 2)),
        "integer": np.ones((4, 2), "uint8"),
        "listed": [[1, 2], [3, 4], [5, 6], [7, 8]],
    }
    corrupted = GaussianNoise(1.0)(inputs)
    dtypes = [str(array.dtype) for array in corrupted.values()]
    assert dtypes == ["float64", "float32", "float32"]
    assert (corrupted["integer"] % 1 != 0).all()


def test_a_user_defined_corruption_needs_corrupt_only():
    class Dimmed(Corruption):
        def corrupt(self, values, corrupted, present, rng):
            values[corrupted] /= 1.0 + self.severity
            return values

    corrupted = Dimmed(1.0, target="a")(
        {"a": np.ones((2, 2)), "b": np.ones((2, 2))}
    )
    np.testing.assert_array_equal(corrupted["a"], np.full((2, 2), 0.5))
    np.testing.assert_array_equal(corrupted["b"], np.ones((2, 2)))


@classes
@pytest.mark.parametrize(
    "severity", [-0.1, np.nan, np.inf, "0.5", None, True, [0.5]]
)
def test_severity_that_is_no_number_from_zero_on_is_refused(cls, severity):
    with pytest.raises(ValueError, match="`severity` must be .*Received: sev"):
        cls(severity)


@pytest.mark.parametrize(
    "cls",
    [
        Brightness,
        DroppedFrames,
        DroppedSegments,
        DroppedWords,
        FeaturePermutation,
        FeatureSwap,
        FrozenFrames,
        MissingModality,
        ModalityConflict,
        Occlusion,
        SaltAndPepper,
        SwappedWords,
        TypingErrors,
        UnalignedSamples,
        WaveformClipping,
    ],
)
def test_fraction_above_one_is_refused(cls):
    with pytest.raises(ValueError, match=r"number in \[0, 1\].*severity=1.1"):
        cls(1.1)


@pytest.mark.parametrize("target", ["", [], None, 3, ["a", "a"], ["a", 1]])
def test_target_that_names_nothing_is_refused(target):
    with pytest.raises(ValueError, match="`target` must be .*Received: target"):
        GaussianNoise(1.0, target=target)


@pytest.mark.parametrize("severity", [0.0, 1.0])
def test_target_that_inputs_lack_is_refused(severity):
    noise = GaussianNoise(severity, target=["text", "smell"])
    with pytest.raises(ValueError, match=r"unknown: \['smell'\]"):
        noise(make_inputs())


@pytest.mark.parametrize("seed", [-1, 0.5, None, "1", True])
def test_seed_that_is_no_natural_number_is_refused(seed):
    with pytest.raises(ValueError, match="`seed` must be a non-negative"):
        GaussianNoise(1.0)(make_inputs(), seed=seed)


def test_probability_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"`probability` .*\[0, 1\]"):
        GaussianNoise(1.0, target="independent", probability=1.5)


ONES = np.ones((2, 2), "float32")


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (ONES, "must be a non-empty dict"),
        ({}, "must be a non-empty dict"),
        ({MASK: ONES}, "must be a non-empty dict"),
        ({"": ONES}, "named by non-empty strings"),
        ({1: ONES}, "named by non-empty strings"),
        ({"a": ONES, "b": ONES[:1]}, "same number of samples.*'a': 2, 'b': 1"),
        ({"a": ONES[:0]}, "Modality 'a' must be an array of numbers"),
        ({"a": 1.0}, "Modality 'a' must be an array of numbers"),
        ({"a": np.array([["x"]])}, "Modality 'a' must hold numbers.*<U1"),
        ({"a": None}, "Modality 'a' must hold numbers.*a NoneType"),
        ({"a": ONES * np.nan}, "Modality 'a' must be finite.*4 NaN"),
        (
            {"a": ONES * np.inf, MASK: ONES[:, :1]},
            "Modality 'a' must be finite",
        ),
        ({"a": ONES, MASK: ONES}, r"must have the shape \(2, 1\)"),
        ({"a": ONES, MASK: ONES[:, :1] / 2}, "must hold only 0.*0.5"),
    ],
)
def test_inputs_that_are_no_dict_of_modalities_are_refused(inputs, sentence):
    with pytest.raises(ValueError, match=sentence):
        GaussianNoise(1.0)(inputs)
    with pytest.raises(ValueError, match=sentence):
        GaussianNoise(1.0).corrupted(inputs)


@pytest.mark.parametrize(
    "corruption",
    [pytest.param(c, id=name) for name, c in ALL.items() if c.in_range],
)
@pytest.mark.parametrize("severity", [0.5, 1.0])
def test_corruption_that_says_so_stays_in_the_range(corruption, severity):
    config = {**corruption.get_config(), "severity": severity}
    config.pop("high", None)
    inputs = make_inputs(mask=True, corruption=corruption)
    result = type(corruption)(**config)(inputs)
    for column, name in enumerate(["text", "image", "sound"]):
        present = inputs[MASK][:, column] == 1
        clean, after = inputs[name][present], result[name][present]
        assert (after >= clean.min(axis=0)).all()
        assert (after <= clean.max(axis=0)).all()


def test_only_what_the_mask_tells_is_announced():
    assert MissingModality(0.5).announced
    assert not MissingModality(0.5, announce=False).announced
    assert not any(c.announced for c in ALL.values())
    assert not GaussianNoise(1.0).in_range
    assert ClippedGaussianNoise(1.0).in_range


@corruptions
def test_labels_are_taken_and_change_nothing_where_none_are_needed(corruption):
    inputs = make_inputs(corruption=corruption)
    expected = corruption(inputs, 8)
    received = corruption(inputs, 8, labels=np.arange(40) % 3)
    assert all(np.array_equal(expected[k], received[k]) for k in expected)


def test_labels_of_another_length_are_refused_where_none_are_needed():
    inputs = make_inputs(n=8)
    corruption = GaussianNoise(1.0)
    labels = np.arange(8) % 2
    for call in (corruption, corruption.corrupted):
        call(inputs, labels=labels)
        for bad in (labels[:3], np.array(1), list(labels[:3])):
            with pytest.raises(ValueError, match="`labels`.*Received: labels."):
                call(inputs, labels=bad)


def test_bytes_of_pictures_stay_bytes():
    rng = np.random.default_rng(0)
    x = {
        "image": rng.integers(0, 256, (6, 4, 4, 3)).astype("uint8"),
        "a": rng.normal(size=(6, 3)),
    }
    out = GaussianNoise(1.0, "a")(x, seed=0)
    assert out["image"].dtype == "uint8"
    np.testing.assert_array_equal(out["image"], x["image"])
    out = GaussianNoise(20 / 255, "image")(x, seed=0)["image"]
    assert out.dtype == "uint8" and out.max() > 240
    assert 5 < np.abs(out.astype(int) - x["image"]).mean() < 25
