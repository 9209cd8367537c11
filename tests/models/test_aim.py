import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.models.aim_models import OPTIONS
from tests.models.aim_models import SHAPES
from tests.models.aim_models import X
from tests.models.aim_models import Y
from tests.models.aim_models import assert_same_weights
from tests.models.aim_models import compiled
from tests.models.aim_models import distance
from tests.models.aim_models import fit
from tests.models.aim_models import make


@pytest.mark.parametrize("paths", ["two", "single"])
def test_standard_checks(paths, tmp_path):
    if paths == "single" and keras.config.backend() != "torch":
        pytest.skip("Compiling takes long; PyTorch covers it.")

    def make_aim(modalities, num_classes, **kwargs):
        options = {"strength": "adaptive", "paths": paths, "split_batch": True}
        return keras_mmrel.AIM(
            modalities, num_classes, **{**OPTIONS, **options}, **kwargs
        )

    run_model_checks(make_aim, tmp_path, shapes=SHAPES)


@pytest.mark.parametrize("paths", ["two", "single"])
def test_deep_encoders_train_in_mixed_precision(paths):
    policy = "mixed_float16"
    model = compiled(
        run_eagerly=False,
        norm=True,
        depths={"a": 2, "b": 2},
        dtype=policy,
        paths=paths,
        split_batch=True,
    )
    logs = fit(model, epochs=2)
    assert all(np.isfinite(v).all() for v in logs.values())
    outputs = model({k: v[:4] for k, v in X.items()}, training=True)
    assert (
        keras.backend.standardize_dtype(
            outputs["training_record"]["depth_features"][0][0].dtype
        )
        == "float16"
    )


# -- Two paths ----------------------------------------------------------------


def test_the_main_path_is_the_plain_model_and_so_is_inference():
    model = compiled(on=True)
    plain = make(model_class=keras_mmrel.ConcatFusion)
    for training in (False, True):
        a, b = model(X, training=training), plain(X, training=training)
        np.testing.assert_allclose(
            to_numpy(a["logits"]), to_numpy(b["logits"]), atol=1e-6
        )
    assert not {"auxiliary_logits", "depth_features"} & set(model(X))
    assert len(model.trainable_variables) == len(plain.trainable_variables)


@pytest.mark.parametrize("off", ["strength", "auxiliary_loss_weight"])
def test_without_gates_it_is_concatenation(off):
    model, plain = (
        compiled(**{off: 0.0}),
        compiled(model_class=keras_mmrel.ConcatFusion),
    )
    logs = fit(model, epochs=2)
    assert logs["auxiliary_loss"] == [0.0, 0.0]
    np.testing.assert_allclose(
        logs["loss"], fit(plain, epochs=2)["loss"], atol=1e-6
    )
    assert_same_weights(model, plain)
    gated = compiled()
    assert fit(gated, epochs=2)["auxiliary_loss"][1] > 0
    assert distance(gated, plain) > 1e-3


def test_auxiliary_loss_is_that_of_the_weak_features_in_turn():
    model = compiled(on=True)
    weight = np.linspace(0.5, 1.5, 24).astype("float32")
    features = [to_numpy(f) for f in model.encode(model.prepare_inputs(X))]
    expected = 0.0
    for index, encoder in enumerate(model.encoders):
        first = encoder(X[model.modality_names[index]], return_blocks=True)[0]
        weak = list(features)
        weak[index] = to_numpy(encoder.auxiliary_path(first))
        assert np.abs(weak[index] - features[index]).max() > 0.01
        kernels = [to_numpy(part.kernel) for part in model.head]
        logits = sum(f @ k for f, k in zip(weak, kernels, strict=True))
        logits = logits + to_numpy(model.bias)
        logits = logits - logits.max(axis=1, keepdims=True)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected -= (weight * np.log(p[np.arange(24), Y])).mean()
    logs = model.train_on_batch(X, Y, sample_weight=weight, return_dict=True)
    np.testing.assert_allclose(logs["auxiliary_loss"], expected, rtol=1e-5)


def test_moving_statistics_are_those_of_a_step_without_auxiliary_path():
    plain = compiled(model_class=keras_mmrel.ConcatFusion, norm=True)
    model = compiled(on=True, norm=True)
    for each in (plain, model):
        each.train_on_batch(X, Y)

    def moving(model):
        return [
            to_numpy(v)
            for encoder in model.encoders
            for block in encoder.blocks
            for v in block.weights
            if "moving_mean" in v.path or "moving_variance" in v.path
        ]

    assert len(moving(model)) == 12
    for a, b in zip(moving(model), moving(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert distance(model, plain) > 1e-3


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_modality_has_its_part_of_the_batch(count):
    shapes = dict.fromkeys("abcd"[:count], (3,))
    model = keras_mmrel.AIM(shapes, 3, **{**OPTIONS, "split_batch": True})
    for batch in range(1, 10):
        rows = ops.arange(batch)
        parts = [to_numpy(p) for p in model.rows_of_each([rows] * count)]
        assert {len(p) for p in parts} == {-(-batch // count)}
        assert set(np.concatenate(parts).tolist()) == set(range(batch))
        for part in parts:
            np.testing.assert_array_equal(np.diff(part), 1)
    model.split_batch = False
    parts = model.rows_of_each([ops.arange(5)] * count)
    assert [len(p) for p in parts] == [5] * count


def test_a_split_batch_and_a_batch_of_one_train():
    model = compiled(on=True, split_batch=True)
    one = {k: v[:1] for k, v in X.items()}
    assert np.isfinite(model.train_on_batch(one, Y[:1])).all()
    outputs = model({k: v[:5] for k, v in X.items()}, training=True)
    assert outputs["training_record"]["auxiliary_logits"].shape == (3, 2, 3)


def test_a_single_path_has_the_gates_in_it_and_no_auxiliary_loss():
    model = compiled(on=True, paths="single")
    plain = make(model_class=keras_mmrel.ConcatFusion)
    expected = to_numpy(plain(X)["logits"])
    np.testing.assert_allclose(
        to_numpy(model(X)["logits"]), expected, atol=1e-6
    )
    gated = to_numpy(model(X, training=True)["logits"])
    assert np.abs(gated - expected).max() > 0.01
    logs = fit(model, epochs=1)
    assert "auxiliary_loss" not in logs
    assert np.isfinite(logs["loss"]).all()


# -- Strengths ----------------------------------------------------------------


def strengths(performances, depths=None, **kwargs):
    shapes = dict.fromkeys("abc"[: len(performances)], (3,))
    model = make(shapes, depths=depths, strength="adaptive", **kwargs)
    values = [ops.convert_to_tensor(p, "float32") for p in performances]
    return [to_numpy(s) for s in model.depth_strengths(values)]


def test_the_leading_modality_is_gated_by_its_lead():
    found = strengths([[0.6] * 3, [0.3] * 3, [0.2] * 3], strength_floor=0.0)
    np.testing.assert_allclose(found[0], np.tanh(1.4), atol=1e-5)
    np.testing.assert_allclose(found[1], 0.0, atol=1e-6)
    np.testing.assert_allclose(found[2], 0.0, atol=1e-6)
    lower = strengths(
        [[0.6] * 3, [0.3] * 3, [0.2] * 3],
        strength_floor=0.0,
        strength_slope=0.5,
    )
    np.testing.assert_allclose(lower[0], np.tanh(0.7), atol=1e-5)


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_equal_modalities_have_the_floor(floor):
    for found in strengths([[0.4, 0.5, 0.6]] * 3, strength_floor=floor):
        np.testing.assert_allclose(found, floor, atol=1e-6)
    # So has one modality alone.
    np.testing.assert_allclose(
        strengths([[0.4, 0.5, 0.6]], strength_floor=floor)[0], floor
    )


def test_permuting_modalities_permutes_strengths():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.2, 0.9, size=(3, 3))
    found = strengths(values, strength_floor=0.1)
    order = [2, 0, 1]
    permuted = strengths(values[order], strength_floor=0.1)
    np.testing.assert_allclose(permuted, np.array(found)[order], atol=1e-6)
    assert np.std(found) > 0.05


def test_different_depths_meet_at_the_same_relative_depth():
    deep, shallow = [0.2, 0.4, 0.6, 0.8], [0.3, 0.5]
    found = strengths([deep, shallow], {"a": 4, "b": 2}, strength_floor=0.0)

    def lead(own, other):
        return np.tanh(max(own / other - 1, 0))

    np.testing.assert_allclose(
        found[0],
        [lead(0.2, 0.3), lead(0.4, 0.3), lead(0.6, 0.5), lead(0.8, 0.5)],
        atol=1e-5,
    )
    np.testing.assert_allclose(
        found[1], [lead(0.3, 0.4), lead(0.5, 0.8)], atol=1e-5
    )


def test_strengths_follow_the_performance_after_the_warm_up():
    x = {"a": X["a"], "b": 0 * X["b"]}
    model = compiled(strength="adaptive", strength_floor=0.0, warmup=0.5)
    history = fit(model, x, epochs=6)
    assert history["a_strength"][:3] == [0, 0, 0]
    assert history["auxiliary_loss"][:3] == [0, 0, 0]
    assert history["a_strength"][-1] > 0.02
    assert history["b_strength"] == [0] * 6
    performance = [
        [to_numpy(s.performance) for s in e.statistics] for e in model.encoders
    ]
    assert min(performance[0]) > max(performance[1])
    assert set(history) == {
        "loss",
        "accuracy",
        "auxiliary_loss",
        "a_strength",
        "b_strength",
    }
