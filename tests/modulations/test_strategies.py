"""Coefficients of every strategy against NumPy, by hand."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.modulations import AGM
from keras_mmrel.modulations import ARL
from keras_mmrel.modulations import OGM
from keras_mmrel.modulations import OGMGE
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

ONE_HOT = np.eye(3, dtype="float32")[[0, 1, 2, 1, 0]]


def batch(modalities, seed=0, missing=None):
    """Outputs of a model, two samples without the last modality."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(5, modalities, 3)).astype("float32")
    own += (
        np.linspace(2, 0, modalities, dtype="float32")[:, None]
        * (ONE_HOT[:, None, :])
    )
    mask = np.ones((5, modalities), "float32")
    mask[:2, -1] = 0
    if missing is not None:
        mask[:, missing] = 0
    return {
        "logits": (own * mask[:, :, None]).sum(axis=1),
        "modality_logits": own,
        "modality_mask": mask,
    }


def coefficients(modulation, outputs, labels=ONE_HOT):
    """Coefficients that the modulation takes over from one step."""
    if not modulation.built:
        names = ["a", "b", "c"][: outputs["modality_mask"].shape[1]]
        modulation.modality_names = names
        modulation.build((None, len(names)))
    tensors = {k: ops.convert_to_tensor(v) for k, v in outputs.items()}
    modulation.update(ops.convert_to_tensor(labels), tensors)
    return ops.convert_to_numpy(modulation.coefficients)


def softmax(x):
    p = np.exp(x.astype("float64"))
    return p / p.sum(axis=-1, keepdims=True)


def mean_present(values, outputs):
    """Mean of each column over the rows that have the modality."""
    mask = outputs["modality_mask"].astype(bool)
    return [
        values[mask[:, m], m].mean() if mask[:, m].any() else np.nan
        for m in range(mask.shape[1])
    ]


def true_class(outputs):
    p = softmax(outputs["modality_logits"])
    return mean_present((p * ONE_HOT[:, None, :]).sum(axis=-1), outputs)


def others(values, index):
    rest = [v for i, v in enumerate(values) if i != index]
    return np.nanmean(rest)


def ogm(outputs, alpha):
    scores = true_class(outputs)
    expected = []
    for index, score in enumerate(scores):
        ratio = score / others(scores, index)
        expected.append(1 - np.tanh(alpha * ratio) if ratio > 1 else 1.0)
    return expected


@pytest.mark.parametrize("strategy", [OGM, OGMGE])
@pytest.mark.parametrize("modalities", [2, 3])
def test_ogm_slows_what_is_ahead_of_the_others(strategy, modalities):
    outputs = batch(modalities)
    expected = ogm(outputs, 0.4)
    assert min(expected) < 0.8 and max(expected) == 1.0
    actual = coefficients(strategy(0.4), outputs)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_modality_is_left_out_of_every_ratio(missing):
    outputs = batch(3, missing=missing)
    expected = ogm(outputs, 0.4)
    expected[missing] = 1.0
    # What a missing modality would say has no influence.
    outputs["modality_logits"][:, missing] = 50 * ONE_HOT
    actual = coefficients(OGM(0.4), outputs)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("strategy", [OGM, AGM, ARL])
def test_a_batch_without_a_modality_keeps_its_coefficient(strategy):
    modulation = strategy()
    first = coefficients(modulation, batch(3, seed=1))
    second = coefficients(modulation, batch(3, seed=2, missing=0))
    assert second[0] == first[0]
    assert (second[1:] != first[1:]).any()


@pytest.mark.parametrize("strategy", [OGM, AGM, ARL])
def test_with_one_modality_present_nothing_is_modulated(strategy):
    modulation = strategy()
    assert (coefficients(modulation, batch(2, missing=1)) == 1).all()
    coefficients(modulation, batch(2, seed=1))
    first = coefficients(modulation, batch(2))
    assert (first != 1).any()
    kept = coefficients(modulation, batch(2, missing=0))
    np.testing.assert_array_equal(kept, first)


@pytest.mark.parametrize("strategy", [OGM, OGMGE, AGM, ARL])
def test_a_coefficient_that_is_not_finite_is_not_taken_over(strategy):
    modulation = strategy()
    coefficients(modulation, batch(2, seed=1))
    first = coefficients(modulation, batch(2))
    assert (first != 1).any()
    state = [ops.convert_to_numpy(v) for v in modulation.variables]
    bad = batch(2)
    bad["modality_logits"] = bad["modality_logits"] * np.nan
    bad["logits"] = bad["logits"] * np.nan
    np.testing.assert_array_equal(coefficients(modulation, bad), first)
    for v, old in zip(modulation.variables, state, strict=True):
        assert np.isfinite(ops.convert_to_numpy(v)).all()
        if v.name not in ("total", "steps"):
            np.testing.assert_array_equal(ops.convert_to_numpy(v), old)


def agm_scores(outputs):
    """Cross-entropy of each modality's Shapley share, over coalitions."""
    mask = outputs["modality_mask"]
    parts = outputs["modality_logits"] * mask[:, :, None]
    full = outputs["logits"]
    if parts.shape[1] == 2:
        swapped = parts[:, ::-1]
        share = 0.5 * (full[:, None] - swapped + parts)
        # A sample with one modality: all of the logits are its share.
        alone = mask.sum(axis=1) == 1
        share[alone] = np.where(
            mask[alone][:, :, None], full[alone][:, None], 0
        )
    else:
        # Logits that are a sum over modalities: the share is the summand.
        share = parts
    log_p = np.log(softmax(share))
    entropy = -(ONE_HOT[:, None, :] * log_p).sum(axis=-1)
    return np.array(mean_present(entropy, outputs))


@pytest.mark.parametrize("modalities", [2, 3])
def test_agm_over_two_steps_with_its_running_mean(modalities):
    modulation = AGM(alpha=0.7)
    history = []
    for seed in (0, 1, 2):
        outputs = batch(modalities, seed)
        if modalities == 2:
            # A fusion that is no sum, where only both are present.
            both = outputs["modality_mask"].sum(axis=1) == 2
            outputs["logits"][both] *= 0.5
        history.append(agm_scores(outputs))
        mean = np.mean(history, axis=0)
        expected = []
        for index in range(modalities):
            lead = others(history[-1], index) - history[-1][index]
            usual = others(mean, index) - mean[index]
            drift = min(np.exp(usual) - np.exp(lead), 10)
            expected.append(np.exp(0.7 * drift))
        actual = coefficients(modulation, outputs)
        np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert abs(actual[0] - 1) > 0.05
    state = ops.convert_to_numpy(modulation.mean_score)
    np.testing.assert_allclose(state, mean, rtol=1e-5)


def test_agm_counts_a_modality_only_where_it_is_present():
    modulation = AGM()
    scores = []
    for seed, missing in enumerate([None, 1, None]):
        outputs = batch(3, seed, missing)
        coefficients(modulation, outputs)
        scores.append(agm_scores(outputs))
    expected = np.nanmean(scores, axis=0)
    state = ops.convert_to_numpy(modulation.mean_score)
    np.testing.assert_allclose(state, expected, rtol=1e-5)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(modulation.seen), [3, 2, 3]
    )


@pytest.mark.parametrize("modalities, missing", [(2, None), (3, None), (3, 1)])
def test_arl_favours_what_is_certain_and_not_relied_on(modalities, missing):
    outputs = batch(modalities, missing=missing)
    p = softmax(outputs["modality_logits"])
    entropy = np.array(mean_present(-(p * np.log(p)).sum(axis=-1), outputs))
    dependence = np.array(true_class(outputs))
    certainty = 1 / entropy / np.nansum(1 / entropy)
    dependence = dependence / np.nansum(dependence)
    urgency = np.exp(3.0 * certainty * (1 - dependence))
    expected = 1 + urgency / np.nansum(urgency)
    actual = coefficients(ARL(temperature=3.0), outputs)
    if missing is not None:
        expected[missing] = 1.0
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.parametrize(
    "modalities, missing, expected",
    [(2, None, [1.5, 1.5]), (3, None, [4 / 3] * 3), (3, 0, [1, 1.5, 1.5])],
)
def test_arl_uniform_runs_one_factor_for_all(modalities, missing, expected):
    outputs = batch(modalities, missing=missing)
    actual = coefficients(ARL(uniform=True), outputs)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


# -- The noise of OGM-GE ------------------------------------------------------

RNG = np.random.default_rng(3)
GRADIENTS = [
    (scale * RNG.normal(size=shape) + 0.5).astype("float32")
    for scale, shape in [
        (0.02, (3, 3, 8)),
        (1.5, (20, 30)),
        (0.3, (30,)),
        (0.1, (50, 3)),
    ]
]
OWNERS = [0, 0, 1, None]


def edited(modulation, draws=1):
    """Gradients after the hook, `draws` times, minus those before it."""
    variables = [keras.Variable(g) for g in GRADIENTS]
    tensors = [ops.convert_to_tensor(g) for g in GRADIENTS]
    results = [
        modulation.modulate_gradients(tensors, variables, OWNERS)
        for _ in range(draws)
    ]
    return [
        np.stack([ops.convert_to_numpy(r[i]) for r in results])
        for i in range(len(GRADIENTS))
    ]


def built(**kwargs):
    modulation = OGMGE(seed=0, **kwargs)
    modulation.build((None, 2))
    modulation.coefficients.assign([0.25, 1.0])
    return modulation


@pytest.mark.parametrize("noise", [1.0, 0.5])
def test_noise_has_each_gradients_own_deviation(noise):
    modulation = built(kernels="all", noise=noise)
    results = edited(modulation, draws=40)
    for index, (gradient, factor) in enumerate(
        zip(GRADIENTS[:3], [0.25, 0.25, 1.0], strict=True)
    ):
        added = results[index] - factor * gradient
        expected = noise * gradient.std()
        np.testing.assert_allclose(added.std(), expected, rtol=0.1)
        assert abs(added.mean()) < 0.15 * expected
        assert (added[0] != added[1]).any()
    # The fusion is left alone.
    np.testing.assert_array_equal(results[3][0], GRADIENTS[3])


def test_the_original_touches_convolution_kernels_only():
    results = edited(built())
    assert (results[0][0] != GRADIENTS[0]).all()
    for index in (1, 2, 3):
        np.testing.assert_array_equal(results[index][0], GRADIENTS[index])


def test_without_noise_all_weights_of_the_encoders_are_scaled():
    results = edited(built(kernels="all", noise=0.0))
    factors = [0.25, 0.25, 1.0, 1.0]
    for result, gradient, factor in zip(
        results, GRADIENTS, factors, strict=True
    ):
        np.testing.assert_allclose(result[0], factor * gradient, rtol=1e-6)


def test_there_is_no_noise_outside_the_window():
    modulation = built(kernels="all", warmup=0.5)
    for active, noisy in [(0.0, False), (1.0, True)]:
        modulation.active.assign(active)
        result = edited(modulation)[0][0]
        assert (result != GRADIENTS[0]).any() == noisy


def test_a_gradient_that_is_none_passes_through():
    variables = [keras.Variable(g) for g in GRADIENTS[:2]]
    gradients = [None, ops.convert_to_tensor(GRADIENTS[1])]
    for modulation in (built(kernels="all"), built(noise=0.0)):
        result = modulation.modulate_gradients(gradients, variables, [0, None])
        assert result[0] is None
        np.testing.assert_array_equal(
            ops.convert_to_numpy(result[1]), GRADIENTS[1]
        )


@pytest.mark.filterwarnings("ignore:OGMGE has nothing")
def test_kernels_left_alone_by_ogm_ge_keep_their_updates():
    # Dense encoders, which `kernels="convolution"` does not touch.
    modulation = OGMGE(0.8, noise=0.0)
    modulated, _ = train(modulation, keras.optimizers.Adam(0.01))
    plain, _ = train(None, keras.optimizers.Adam(0.01))
    assert modulation.edits_updates
    assert_equal_weights(weights(modulated), weights(plain))


def test_a_modulation_with_nothing_to_modulate_says_so():
    with pytest.warns(UserWarning, match="nothing to modulate"):
        make_model().compile("sgd", modulation=OGMGE())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_model().compile("sgd", modulation=OGMGE(kernels="all"))
