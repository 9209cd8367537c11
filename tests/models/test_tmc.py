import itertools

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel import backend
from keras_mmrel.losses import EvidentialCrossentropy
from keras_mmrel.losses.evidential_crossentropy import dirichlet_kl
from keras_mmrel.losses.evidential_crossentropy import expected_crossentropy
from keras_mmrel.models.tmc import fused_log_concentrations
from tests.helpers import SHAPES
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors


def some_evidence(modalities, classes=3, samples=5):
    rng = np.random.default_rng(modalities)
    return rng.gamma(0.5, 5.0, size=(samples, modalities, classes))


def opinions(evidence):
    """Beliefs `(..., K)` and uncertainties `(..., 1)`."""
    total = evidence.sum(axis=-1, keepdims=True) + evidence.shape[-1]
    return evidence / total, evidence.shape[-1] / total


def fused_opinion(evidence):
    """The library's fusion as a belief and an uncertainty."""
    evidence = ops.convert_to_tensor(np.asarray(evidence, "float32"))
    logs = ops.convert_to_numpy(fused_log_concentrations(evidence))
    return opinions(np.exp(logs.astype("float64")) - 1)


def enumerated_opinion(evidence):
    """Dempster's rule over all tuples of {1..K, Theta}^M, sample by sample."""
    samples, modalities, classes = evidence.shape
    beliefs, uncertainties = opinions(evidence)
    everything = frozenset(range(classes))
    focal = [frozenset({k}) for k in range(classes)] + [everything]
    mass = np.concatenate([beliefs, uncertainties], axis=-1)
    fused = np.zeros((samples, classes + 1))
    for chosen in itertools.product(range(classes + 1), repeat=modalities):
        meet = frozenset.intersection(*(focal[i] for i in chosen))
        product = np.prod([mass[:, m, i] for m, i in enumerate(chosen)], axis=0)
        if meet:
            fused[:, focal.index(meet)] += product
    fused /= fused.sum(axis=1, keepdims=True)
    return fused[:, :classes], fused[:, classes:]


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_fusion_is_dempsters_rule_over_all_focal_sets(modalities):
    evidence = some_evidence(modalities)
    for found, expected in zip(
        fused_opinion(evidence), enumerated_opinion(evidence), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_fusion_is_the_reduced_rule_of_the_paper_folded():
    evidence = some_evidence(3)
    beliefs, uncertainties = opinions(evidence)
    b, u = beliefs[:, 0], uncertainties[:, 0]
    for m in (1, 2):
        b2, u2 = beliefs[:, m], uncertainties[:, m]
        conflict = b.sum(1) * b2.sum(1) - (b * b2).sum(1)
        left = 1 - conflict[:, None]
        b, u = (b * b2 + b * u2 + b2 * u) / left, u * u2 / left
    found = fused_opinion(evidence)
    np.testing.assert_allclose(found[0], b, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], u, rtol=2e-5, atol=1e-6)


def test_two_opinions_by_hand():
    # b1 = (1/2, 0), u1 = 1/2; b2 = (0, 1/2), u2 = 1/2; C = 1/4.
    belief, uncertainty = fused_opinion([[[2.0, 0.0], [0.0, 2.0]]])
    np.testing.assert_allclose(belief, [[1 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(uncertainty, [[1 / 3]], rtol=1e-6)


def test_the_order_of_the_opinions_does_not_matter():
    evidence = some_evidence(3)
    expected = fused_opinion(evidence)
    for order in itertools.permutations(range(3)):
        found = fused_opinion(evidence[:, order])
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)


def test_an_opinion_without_evidence_changes_nothing():
    evidence = some_evidence(2)
    more = np.concatenate([evidence, np.zeros((5, 1, 3))], axis=1)
    logs = [
        ops.convert_to_numpy(fused_log_concentrations(ops.convert_to_tensor(e)))
        for e in (evidence.astype("float32"), more.astype("float32"))
    ]
    np.testing.assert_array_equal(*logs)


def test_certain_opinions_in_conflict_stay_finite_and_exact():
    evidence = 1e4 * np.eye(3)[None]
    expected = enumerated_opinion(evidence)
    found = fused_opinion(evidence)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)

    def value(tensors):
        alpha = ops.exp(fused_log_concentrations(tensors[0]))
        labels = ops.convert_to_tensor(np.eye(3, dtype="float32")[:1])
        return ops.sum(expected_crossentropy(labels, alpha))

    start = ops.convert_to_tensor(evidence.astype("float32"))
    _, (gradient,) = backend.value_and_gradients(value, [start])
    gradient = ops.convert_to_numpy(gradient)
    assert np.isfinite(gradient).all()
    # More evidence for the true class helps, for another it hurts.
    assert (gradient[0, :, 0] < 0).all()
    assert (gradient[0, :, 1:] > 0).all()
    # Far beyond what float32 could multiply.
    many = np.full((1, 20, 3), 1e6)
    logs = ops.convert_to_numpy(
        fused_log_concentrations(ops.convert_to_tensor(many, dtype="float32"))
    )
    expected = np.log(3) + 20 * np.log1p(1e6 / 3)
    np.testing.assert_allclose(logs, np.full((1, 3), expected), rtol=1e-6)


def test_standard_checks(tmp_path):
    model = run_model_checks(keras_mmrel.TMC, tmp_path)
    assert isinstance(model.loss, EvidentialCrossentropy)
    x, _ = vectors()
    out = model.predict(x, batch_size=48, verbose=0)
    alpha = np.exp(out["logits"])
    total = alpha.sum(axis=1)
    np.testing.assert_allclose(
        out["probabilities"], alpha / total[:, None], rtol=1e-5
    )
    np.testing.assert_allclose(out["uncertainty"], 3 / total, rtol=1e-5)
    alpha = np.exp(out["modality_logits"])
    total = alpha.sum(axis=2)
    np.testing.assert_allclose(out["confidence"], 1 - 3 / total, rtol=1e-4)
    np.testing.assert_allclose(
        out["belief"], (alpha - 1) / total[:, :, None], rtol=1e-4, atol=1e-6
    )
    belief, uncertainty = enumerated_opinion((alpha - 1).astype("float64"))
    np.testing.assert_allclose(out["uncertainty"], uncertainty[:, 0], rtol=1e-4)


def test_a_missing_modality_is_an_opinion_without_evidence():
    model = keras_mmrel.TMC(SHAPES, 3)
    for head in model.heads:
        head.bias.assign([1.0, 2.0, 3.0])
    x, _ = vectors()
    mask = np.ones((48, 3), "float32")
    mask[:, 1] = 0
    out = model.predict({**x, "modality_mask": mask}, batch_size=48, verbose=0)
    np.testing.assert_array_equal(out["modality_logits"][:, 1], 0)
    np.testing.assert_array_equal(out["belief"][:, 1], 0)
    evidence = np.exp(out["modality_logits"].astype("float64")) - 1
    belief, uncertainty = enumerated_opinion(evidence[:, [0, 2]])
    np.testing.assert_allclose(out["uncertainty"], uncertainty[:, 0], rtol=1e-4)


def test_without_any_modality_uncertainty_is_one():
    model = keras_mmrel.TMC(SHAPES, 3)
    x, y = vectors()
    mask = np.zeros((48, 3), "float32")
    out = model.predict({**x, "modality_mask": mask}, batch_size=48, verbose=0)
    np.testing.assert_allclose(out["uncertainty"], 1.0, rtol=1e-6)
    # psi(3) - psi(1), and no other term.
    model.compile()
    logs = model.evaluate(
        {**x, "modality_mask": mask}, y, verbose=0, return_dict=True
    )
    np.testing.assert_allclose(logs["loss"], 1.5, rtol=1e-5)
    assert logs["modality_loss"] == logs["kl_loss"] == 0


@pytest.mark.slow_on("jax")
def test_losses_are_those_of_the_paper_weighted_by_sample():
    model = keras_mmrel.TMC(SHAPES, 3, annealing=0.4)
    model.compile()
    model.clock.progress.assign(0.1)
    x, y = vectors()
    mask = np.ones((48, 3), "float32")
    mask[::3, 2] = 0
    weight = np.linspace(0.0, 2.0, 48)
    inputs = {**x, "modality_mask": mask}
    out = model.predict(inputs, batch_size=48, verbose=0)
    labels = np.eye(3, dtype="float32")[y]
    fused, fused_kl = terms(labels, np.exp(out["logits"]))
    own, own_kl = terms(labels[:, None], np.exp(out["modality_logits"]))
    expected_own = (weight * (own * mask).sum(axis=1)).mean()
    expected_kl = (weight * (fused_kl + (own_kl * mask).sum(axis=1))).mean()
    logs = model.evaluate(
        inputs,
        y,
        sample_weight=weight,
        batch_size=48,
        verbose=0,
        return_dict=True,
    )
    np.testing.assert_allclose(float(model.divergence_weight()), 0.25)
    np.testing.assert_allclose(logs["modality_loss"], expected_own, rtol=1e-4)
    np.testing.assert_allclose(logs["kl_loss"], 0.25 * expected_kl, rtol=1e-4)
    np.testing.assert_allclose(
        logs["loss"],
        (weight * fused).mean() + expected_own + 0.25 * expected_kl,
        rtol=1e-4,
    )


def terms(labels, alpha):
    labels, alpha = ops.convert_to_tensor(labels), ops.convert_to_tensor(alpha)
    rest = labels + (1.0 - labels) * alpha
    return (
        ops.convert_to_numpy(expected_crossentropy(labels, alpha)),
        ops.convert_to_numpy(dirichlet_kl(rest)),
    )


@pytest.mark.slow_on("tensorflow")
def test_the_divergence_is_phased_in_over_epochs_and_goes_on(tmp_path):
    class Record(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weight = float(self.model.divergence_weight())
            seen.append((round(weight, 5), logs["kl_loss"] > 0))
            self.model.stop_training = epoch == 2

    seen = []
    x, y = vectors()
    model = keras_mmrel.TMC(SHAPES, 3, annealing=0.5)
    model.compile()
    model.fit(x, y, batch_size=48, epochs=8, verbose=0, callbacks=Record())
    # After an epoch of one step; the first step has the weight 0.
    assert seen == [(0.25, False), (0.5, True), (0.75, True)]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.divergence_weight()) == 0.75
    seen.clear()
    loaded.fit(
        x,
        y,
        batch_size=48,
        initial_epoch=3,
        epochs=8,
        verbose=0,
        callbacks=Record(),
    )
    assert [value for value, _ in seen] == [1.0] * 5


def test_no_annealing_is_full_weight_from_the_start():
    model = keras_mmrel.TMC(SHAPES, 3, annealing=0)
    assert float(model.divergence_weight()) == 1.0


def test_gradients_reach_every_trained_weight():
    x, y = vectors()
    model = keras_mmrel.TMC(SHAPES, 3, annealing=0)
    before = [to_numpy(v) for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, y, batch_size=48, verbose=0)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.isfinite(to_numpy(variable)).all()
        assert np.abs(to_numpy(variable) - old).max() > 0, variable.path


@pytest.mark.slow_on("jax", "tensorflow")
def test_uncertainty_rises_with_noise_and_the_noisy_modality_loses_confidence():
    rng = np.random.default_rng(3)
    y = np.arange(600) % 3
    clean = np.eye(3)[y]
    # Half of the samples of `a` tell less, and the model can see which.
    x = {name: clean + 0.1 * rng.normal(size=clean.shape) for name in "ab"}
    hidden = np.arange(600) % 2 == 1
    x["a"][hidden] = 1 / 3 + 0.1 * rng.normal(size=(300, 3))
    model = keras_mmrel.TMC({"a": (3,), "b": (3,)}, 3, annealing=0.3)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, y, batch_size=100, epochs=30, verbose=0)
    uncertainty, confidence = [], []
    for share in (0.0, 0.5, 1.0):
        blurred = clean * (1 - share) + share / 3
        noisy = {**x, "a": blurred + 0.1 * rng.normal(size=clean.shape)}
        out = model.predict(noisy, batch_size=48, verbose=0)
        uncertainty.append(out["uncertainty"].mean())
        confidence.append(out["confidence"].mean(axis=0))
        assert (out["probabilities"].argmax(1) == y).mean() > 0.95
    assert uncertainty[0] < uncertainty[1] < uncertainty[2]
    assert confidence[0][0] > confidence[1][0] > confidence[2][0] + 0.05
    np.testing.assert_allclose(confidence[0][1], confidence[2][1])


@pytest.mark.parametrize("name", ["annealing", "modality_loss_weight"])
def test_bad_arguments_are_named(name):
    for value in (-1, float("inf"), "3", None):
        with pytest.raises(ValueError, match=f"{name}={value!r}"):
            keras_mmrel.TMC(SHAPES, 3, **{name: value})
