import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.models import AuxiliaryPaths
from tests.helpers import EAGER
from tests.helpers import everywhere
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors
from tests.models.aim_models import OPTIONS
from tests.models.aim_models import SHAPES
from tests.models.aim_models import X
from tests.models.aim_models import Y
from tests.models.aim_models import assert_same_weights
from tests.models.aim_models import compiled
from tests.models.aim_models import distance
from tests.models.aim_models import fit
from tests.models.aim_models import make


class Fusion(keras.layers.Layer):
    """Any way to fuse: one that is not linear, and one that weighs."""

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.hidden = keras.layers.Dense(8, "softplus")
        self.score = keras.layers.Dense(1)
        self.head = keras.layers.Dense(3)

    def build(self, shapes):
        width = shapes[0][-1]
        joined = sum(shape[-1] for shape in shapes)
        self.hidden.build((None, joined if self.kind == "mlp" else width))
        self.score.build((None, 8))
        self.head.build((None, 8))

    def call(self, features):
        if self.kind == "mlp":
            return self.head(self.hidden(ops.concatenate(features, axis=-1)))
        hidden = self.hidden(ops.stack(features, axis=1))
        weights = ops.softmax(self.score(hidden), axis=1)
        return self.head(ops.sum(weights * hidden, axis=1))

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


KINDS = ["linear", "mlp", "attention"]


def fusion(kind):
    return None if kind == "linear" else Fusion(kind)


def test_standard_checks(tmp_path):
    def make_aim(modalities, num_classes, **kwargs):
        return keras_mmrel.AIM(
            modalities,
            num_classes,
            **{**OPTIONS, "strength": "imbalance", "target_weight": 1.0},
            **kwargs,
        )

    run_model_checks(make_aim, tmp_path, shapes=SHAPES)


@pytest.mark.slow_on("jax", "tensorflow")
def test_deep_encoders_train_in_mixed_precision():
    policy = "mixed_float16"
    model = compiled(
        run_eagerly=False, norm=True, depths={"a": 2, "b": 2}, dtype=policy
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


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_main_path_is_the_plain_model_and_so_is_inference():
    model = compiled(on=True)
    plain = make(model_class=keras_mmrel.ConcatFusion)
    for training in (False, True):
        a, b = model(X, training=training), plain(X, training=training)
        np.testing.assert_allclose(
            to_numpy(a["logits"]), to_numpy(b["logits"]), atol=1e-6
        )
    assert "training_record" not in model(X)
    assert len(model.trainable_variables) == len(plain.trainable_variables)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize(
    "off, atol",
    # What is computed and multiplied by 0 may be compiled in another order.
    [({"rely_weight": 0.0}, 0.0), ({"strength": 0.0}, 1e-6)],
)
def test_without_auxiliary_losses_it_is_concatenation(off, atol):
    model = compiled(**off)
    plain = compiled(model_class=keras_mmrel.ConcatFusion)
    logs, expected = fit(model, epochs=2), fit(plain, epochs=2)
    assert logs.get("rely_loss", [0.0, 0.0]) == [0.0, 0.0]
    np.testing.assert_allclose(
        logs["loss"], expected["loss"], rtol=0, atol=atol
    )
    assert_same_weights(model, plain, atol=atol)
    with_loss = compiled()
    assert fit(with_loss, epochs=2)["rely_loss"][1] > 0
    assert distance(with_loss, plain) > 1e-3


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_losses_are_those_of_the_weak_features_in_turn():
    model = compiled(on=True, target_weight=1.0)
    weight = np.linspace(0.5, 1.5, 24).astype("float32")
    features = [to_numpy(f) for f in model.encode(model.prepare_inputs(X))]
    expected = 0.0
    # Each modality's auxiliary path has its half of the batch.
    for index, rows in enumerate((slice(0, 12), slice(12, 24))):
        encoder = model.encoders[index]
        x = X[model.modality_names[index]][rows]
        _, first, _ = encoder(x, return_depths=True)
        weak = [f[rows] for f in features]
        weak[index] = to_numpy(encoder.auxiliary_path(first))
        assert np.abs(weak[index] - features[index][rows]).max() > 0.01
        kernels = [to_numpy(part.kernel) for part in model.head]
        logits = sum(f @ k for f, k in zip(weak, kernels, strict=True))
        logits = logits + to_numpy(model.bias)
        logits = logits - logits.max(axis=1, keepdims=True)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        right = p[np.arange(12), Y[rows]]
        expected -= (weight[rows] * np.log(right)).mean()
    logs = model.train_on_batch(X, Y, sample_weight=weight, return_dict=True)
    for name in ("rely_loss", "target_loss"):
        np.testing.assert_allclose(logs[name], expected, rtol=1e-5)


# Steps in which one term alone learns show where its gradients stop.


def gradients(kind, **kwargs):
    """What one step of plain descent does by each group of variables.

    The loss of the fused logits takes its own part out.
    """
    parts = []
    for options in ({"rely_weight": 0.0, "target_weight": 0.0}, kwargs):
        keras.utils.set_random_seed(0)
        model = compiled(
            keras.optimizers.SGD(1.0), on=True, fusion=fusion(kind), **options
        )
        for variable in model.trainable_variables:
            # So that no path ends in units that are off.
            variable.assign(variable + 0.2)
        before = [to_numpy(v) for v in model.trainable_variables]
        # What each modality's path has is the whole batch.
        twice = {k: np.tile(v[:12], (2, 1)) for k, v in X.items()}
        model.train_on_batch(twice, np.tile(Y[:12], 2))
        groups = model.gradient_groups()
        moved = {
            id(v): to_numpy(v) - old
            for v, old in zip(model.trainable_variables, before, strict=True)
        }
        parts.append(
            {k: [moved[id(v)] for v in group] for k, group in groups.items()}
        )
    base, found = parts
    return {
        k: [a - b for a, b in zip(found[k], base[k], strict=True)]
        for k in found
    }


def one_modality(monkeypatch, index):
    """Let only one modality's weak feature count."""
    original = AuxiliaryPaths.losses

    def losses(self, y, outputs, sample_weight=None):
        only = ops.convert_to_tensor(np.eye(2, dtype="float32")[index])
        mask = only * outputs["modality_mask"]
        return original(
            self, y, {**outputs, "modality_mask": mask}, sample_weight
        )

    monkeypatch.setattr(AuxiliaryPaths, "losses", losses)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("kind", everywhere(KINDS, ["mlp"]))
def test_rely_trains_the_other_encoders_and_target_the_own(monkeypatch, kind):
    one_modality(monkeypatch, 0)

    def largest(values):
        return max(np.abs(v).max() for v in values)

    rely = gradients(kind, rely_weight=1.0)
    assert largest(rely["a"]) < 1e-6
    assert largest(rely["b"]) > 1e-3
    target = gradients(kind, rely_weight=0.0, target_weight=1.0)
    assert largest(target["b"]) < 1e-6
    assert largest(target["a"]) > 1e-3
    # Nothing reaches the filters that are not selected: the even ones.
    assert largest([v[..., ::2] for v in target["a"]]) < 1e-6


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("kind", everywhere(KINDS, ["mlp"]))
def test_both_have_the_gradient_of_a_loss_that_stops_nowhere(monkeypatch, kind):
    both = gradients(kind, target_weight=1.0)
    monkeypatch.setattr(ops, "stop_gradient", lambda x: x)
    full = gradients(kind)
    for name in ("a", "b"):
        for a, b in zip(both[name], full[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)
    # The fusion learns from both.
    for a, b in zip(both["fusion"], full["fusion"], strict=True):
        np.testing.assert_allclose(a, 2 * b, rtol=1e-5, atol=2e-6)


class WithoutFuse(keras_mmrel.ConcatFusion):
    fuse = None


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "model",
    ["x", None, 3, keras.Sequential(), keras_mmrel.LateFusion],
    ids=["text", "None", "number", "Sequential", "class"],
)
def test_paths_are_part_of_a_model_of_the_library(model):
    with pytest.raises(ValueError, match="`model` must be a `keras_mmrel.mod"):
        AuxiliaryPaths(model)


@pytest.mark.one_backend
@pytest.mark.parametrize("cls", [WithoutFuse, keras_mmrel.LateFusion])
def test_paths_with_a_loss_need_a_method_that_fuses(cls):
    # Not built yet: nobody knows the shapes.
    model = cls({name: [keras.layers.Dense(8)] for name in "ab"}, 3)
    encoders = list(model.encoders)
    with pytest.raises(ValueError, match="`fuse.features.`. .*fuse=None"):
        AuxiliaryPaths(model)
    assert list(model.encoders) == encoders
    AuxiliaryPaths(model, rely_weight=0.0)


@pytest.mark.one_backend
def test_paths_come_before_a_model_is_built():
    model = make(model_class=keras_mmrel.ConcatFusion)
    with pytest.raises(ValueError, match="before it is built.*a built Concat"):
        AuxiliaryPaths(model)


def test_zeros_leave_one_modality_out():
    model = compiled(on=True, auxiliary="zeros")
    out = model(X, training=True)
    logits = to_numpy(out["training_record"]["auxiliary_logits"]["rely_loss"])
    alone = to_numpy(out["modality_logits"])
    np.testing.assert_allclose(logits[:, 0], alone[:12, 1], atol=1e-5)
    np.testing.assert_allclose(logits[:, 1], alone[12:, 0], atol=1e-5)


def test_a_fusion_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="`fusion` must return logits"):
        keras_mmrel.ConcatFusion(SHAPES, 4, fusion=Fusion("mlp"))


@pytest.mark.slow_on("jax", "tensorflow")
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
    paths = keras_mmrel.AIM(shapes, 3, **OPTIONS).paths
    for batch in range(1, 10):
        rows = ops.arange(batch)
        parts = [to_numpy(p) for p in paths.rows_of_each([rows] * count)]
        assert {len(p) for p in parts} == {-(-batch // count)}
        assert set(np.concatenate(parts).tolist()) == set(range(batch))
        for part in parts:
            np.testing.assert_array_equal(np.diff(part), 1)


def test_a_batch_of_one_trains():
    model = compiled(on=True)
    one = {k: v[:1] for k, v in X.items()}
    assert np.isfinite(model.train_on_batch(one, Y[:1])).all()


# -- Strengths ----------------------------------------------------------------


def strengths(performances, depths=None):
    shapes = dict.fromkeys("abc"[: len(performances)], (3,))
    model = make(shapes, depths=depths, strength="imbalance")
    values = [ops.convert_to_tensor(p, "float32") for p in performances]
    return [to_numpy(s) for s in model.paths.depth_strengths(values)]


def test_the_leading_modality_is_reduced_by_its_lead():
    found = strengths([[0.6] * 3, [0.3] * 3, [0.2] * 3])
    np.testing.assert_allclose(found[0], np.tanh(1.4), atol=1e-5)
    np.testing.assert_allclose(found[1:], 0.3, atol=1e-6)
    # Equal modalities, and one alone, have the floor.
    for equal in ([[0.4, 0.5, 0.6]] * 3, [[0.4, 0.5, 0.6]]):
        for each in strengths(equal):
            np.testing.assert_allclose(each, 0.3, atol=1e-6)


def test_permuting_modalities_permutes_strengths():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.2, 0.9, size=(3, 3))
    found = strengths(values)
    order = [2, 0, 1]
    permuted = strengths(values[order])
    np.testing.assert_allclose(permuted, np.array(found)[order], atol=1e-6)
    assert np.std(found) > 0.05


def test_different_depths_meet_at_the_same_relative_depth():
    deep, shallow = [0.2, 0.6, 0.7, 0.9], [0.3, 0.5]
    found = strengths([deep, shallow], {"a": 4, "b": 2})

    def lead(own, other):
        return max(np.tanh(max(own / other - 1, 0)), 0.3)

    np.testing.assert_allclose(
        found[0],
        [lead(0.2, 0.3), lead(0.6, 0.3), lead(0.7, 0.5), lead(0.9, 0.5)],
        atol=1e-5,
    )
    np.testing.assert_allclose(
        found[1], [lead(0.3, 0.6), lead(0.5, 0.9)], atol=1e-5
    )
    assert len(set(found[0].tolist())) == 4


@pytest.mark.slow_on("jax", "tensorflow")
def test_strengths_follow_the_performance_after_the_warm_up():
    x = {"a": X["a"], "b": 0 * X["b"]}
    model = compiled(strength="imbalance", warmup=0.5)
    history = fit(model, x, epochs=6)
    assert history["a_strength"][:3] == [0, 0, 0]
    assert history["rely_loss"][:3] == [0, 0, 0]
    assert history["a_strength"][-1] >= history["b_strength"][-1]
    np.testing.assert_allclose(history["b_strength"][-1], 0.3, atol=1e-6)
    performance = [
        [to_numpy(s.performance) for s in e.statistics] for e in model.encoders
    ]
    assert min(performance[0]) > max(performance[1])
    assert set(history) == {
        "loss",
        "accuracy",
        "rely_loss",
        "a_strength",
        "b_strength",
    }


@pytest.mark.parametrize("kind", ["frozen", "frozen statistics", "lora"])
def test_blocks_that_hold_something_still_train(kind):
    x, y = vectors(shapes={"a": (6,), "b": (4,)})
    middle = {
        "frozen": keras.layers.LayerNormalization,
        "frozen statistics": keras.layers.BatchNormalization,
        "lora": lambda: keras.layers.Dense(8),
    }[kind]()
    if kind == "lora":
        middle.build((None, 8))
        middle.enable_lora(2)
    else:
        middle.trainable = False
    first = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8)])
    blocks = [first, middle, keras.layers.Dense(8)]
    model = keras_mmrel.AIM({"a": blocks, "b": (4,)}, 3, warmup=0.0, seed=0)
    model.compile(run_eagerly=EAGER)
    model.fit(x, y, verbose=0)
    held = [to_numpy(w) for w in middle.weights if not w.trainable]
    moved = to_numpy(blocks[-1].kernel)
    model.fit(x, y, verbose=0)
    for before, weight in zip(
        held, [w for w in middle.weights if not w.trainable], strict=True
    ):
        np.testing.assert_array_equal(to_numpy(weight), before)
    assert (to_numpy(blocks[-1].kernel) != moved).any()
