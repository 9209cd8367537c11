import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
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
        SHAPES, 3, joint_weight=0.5, quality=Judge()
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
