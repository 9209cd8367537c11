import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.models.reliable_fusion import agreement
from tests.helpers import SHAPES
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors


def test_standard_checks(tmp_path):
    run_model_checks(keras_mmrel.ReliableFusion, tmp_path)


def softmax(logits):
    return to_numpy(ops.softmax(ops.convert_to_tensor(logits), axis=-1))


class Judge(keras.layers.Layer):
    """Says what it was told to."""

    quality = np.array([0.8, 0.2, 0.4], "float32")

    def adapt(self, inputs, y=None):
        pass

    def call(self, inputs):
        mask = inputs["modality_mask"]
        return {**inputs, "modality_quality": mask * self.quality}


@pytest.mark.one_backend
def test_votes_and_the_joint_expert_count_by_relative_quality():
    model = keras_mmrel.ReliableFusion(
        SHAPES, 3, joint_weight=0.5, agreement=False, quality=Judge()
    )
    x, _ = vectors()
    out = model.predict(x, batch_size=48, verbose=0)
    relative = np.array([1.0, 0.25, 0.5])
    weights = relative / relative.sum()
    np.testing.assert_allclose(out["fusion_weights"][0], weights, rtol=1e-4)
    votes = (weights[None, :, None] * softmax(out["modality_logits"])).sum(1)
    joint = np.log(softmax(out["joint_logits"]))
    expected = np.log(votes) + 0.5 * 0.25 * joint
    np.testing.assert_allclose(out["logits"], expected, atol=1e-4)


def test_only_a_contradiction_of_believed_modalities_is_none():
    sure, other, guess = [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.25] * 4
    cases = [
        ([sure, sure, sure], [1, 1, 1], 1.0),
        # One that knows nothing contradicts nobody.
        ([sure, guess, sure], [1, 1, 1], 1.0),
        ([guess, guess, guess], [1, 1, 1], 1.0),
        # The odd one out shares nothing with the two others.
        ([sure, other, sure], [1, 1, 1], 0.0),
        ([sure, other, sure], [1, 0.5, 1], 0.25),
        ([sure, other, sure], [1, 0, 1], 1.0),
        ([sure, other, sure], [1, 0, 0], 1.0),
        ([sure, other, sure], [0, 0, 0], 1.0),
        # Half of the others' vote: sqrt(1/2) over min(1/2, sqrt(1/2)) is 1.
        ([sure, [0.5, 0.5, 0.0, 0.0]], [1, 1], 1.0),
        # 2 sqrt(.1 * .9) = .6 over (sqrt(.1) + sqrt(.9)) / 2 = .6325.
        ([[0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0]], [1, 1], 0.6**2 / 0.4),
    ]  # fmt: skip
    for probabilities, quality, expected in cases:
        found = agreement(
            ops.convert_to_tensor([probabilities], "float32"),
            ops.convert_to_tensor([quality], "float32"),
        )
        np.testing.assert_allclose(to_numpy(found), [[expected]], atol=1e-3)


def trained_on_a_contradiction(**options):
    """Class probabilities where `a` says one class, `b` and `c` another."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = {
        name: (np.eye(3)[y] + 0.02 * rng.normal(size=(240, 3))).astype(
            "float32"
        )
        for name in ("a", "b", "c")
    }
    # The joint expert learns most from the modality with large values.
    x["a"] *= 8.0
    model = keras_mmrel.ReliableFusion(
        dict.fromkeys(x, (3,)), 3, quality=None, seed=0, **options
    )
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(x, y, epochs=12, verbose=0)
    bad = {**x, "a": np.roll(x["a"], 1, axis=0)}
    outputs = [model.predict(v, verbose=0)["probabilities"] for v in (x, bad)]
    return [np.mean(p.argmax(axis=1) == y) for p in outputs]


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_majority_decides_against_one_that_the_joint_expert_follows():
    clean, contradicted = trained_on_a_contradiction()
    without = trained_on_a_contradiction(agreement=False)
    assert clean == without[0] == 1.0
    assert without[1] < 0.7 < 0.95 < contradicted


@pytest.mark.one_backend
def test_what_is_missing_switches_the_joint_expert_off():
    model = keras_mmrel.ReliableFusion(SHAPES, 3, quality=None)
    x, _ = vectors()
    mask = np.ones((48, 3), "float32")
    mask[:, 1] = 0
    out = model.predict({**x, "modality_mask": mask}, batch_size=48, verbose=0)
    votes = softmax(out["modality_logits"])[:, [0, 2]].mean(axis=1)
    np.testing.assert_allclose(out["probabilities"], votes, atol=1e-5)


@pytest.mark.one_backend
def test_no_encoder_learns_from_the_joint_expert():
    x, y = vectors()

    def encoders_after(joint_bias):
        keras.utils.set_random_seed(0)
        model = keras_mmrel.ReliableFusion(
            SHAPES, 3, seed=0, quality=None, modality_loss_weight=0.0
        )
        # Without the loss of the fused output only the two terms are left.
        model.compile(keras.optimizers.SGD(0.1), loss=lambda y, p: 0.0 * p)
        model.joint.bias.assign(joint_bias)
        model.fit(x, y, batch_size=48, verbose=0)
        return [w for e in model.encoders for w in e.get_weights()]

    for one, other in zip(
        encoders_after([0.0, 0, 0]), encoders_after([5.0, 0, -5]), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow_on("jax", "tensorflow")
def test_damage_inside_the_range_loses_its_vote():
    (x, y), (x_test, _) = keras_mmrel.datasets.load_multiview_digits("all")
    model = keras_mmrel.ReliableFusion(
        {n: v.shape[1:] for n, v in x.items()}, 10, seed=0
    )
    model.compile()
    model.fit(x, y, batch_size=128, epochs=2, verbose=0)
    rng = np.random.default_rng(0)
    mixed = np.stack([rng.permutation(c) for c in x_test["pixels"].T], axis=1)
    weights = model.predict({**x_test, "pixels": mixed}, verbose=0)[
        "fusion_weights"
    ].mean(axis=0)
    pixels = model.modality_names.index("pixels")
    assert weights[pixels] < 0.5 * np.delete(weights, pixels).mean()


@pytest.mark.one_backend
def test_a_generator_trains_without_a_judge_unless_one_was_asked_for():
    x, y = vectors()
    model = keras_mmrel.ReliableFusion(SHAPES, 3)
    model.compile()
    model.fit(((x, y) for _ in range(2)), steps_per_epoch=2, verbose=0)
    model = keras_mmrel.ReliableFusion(
        SHAPES, 3, quality=keras_mmrel.layers.InputQuality()
    )
    model.compile()
    with pytest.raises(ValueError, match="adapted before `fit`"):
        model.fit(((x, y) for _ in range(2)), steps_per_epoch=2, verbose=0)
