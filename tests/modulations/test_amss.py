"""Parts of encoders that learn, against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.modulations import AMSS
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

# `test_methods.py` has what runs on every backend.
pytestmark = pytest.mark.slow_on("jax", "tensorflow")
SGD = keras.optimizers.SGD
LABELS = np.eye(3, dtype="float32")[Y]


def outputs_of(logits, features, mask):
    return {
        "modality_logits": ops.convert_to_tensor(logits),
        "modality_mask": ops.convert_to_tensor(mask),
        "training_record": {
            "fused_features": [ops.convert_to_tensor(f) for f in features]
        },
    }


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def fractions_by_hand(logits, features, mask, temperature):
    """As the docstring has them, for modalities that some samples have."""
    score = np.log(softmax(logits))[np.arange(24), :, Y]
    entropy = np.stack(
        [-(softmax(f) * np.log(softmax(f))).sum(axis=1) for f in features], 1
    )
    score, entropy = (
        (v * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
        for v in (score, entropy)
    )
    # A sample that has nothing does not count.
    p = np.bincount(Y[mask.max(axis=1) > 0], minlength=3)
    p = p / p.sum()
    information = score - (p * np.log(softmax(p))).sum() + 0.5
    there = mask.max(axis=0) > 0
    if (information[there] <= 0).any():
        return np.full(there.sum(), 0.5)
    share = softmax(-(information[there] / entropy[there]) / temperature)
    return np.clip(there.sum() / 2 * share, 0.1, 0.9)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("scale", [0.3, 6.0])
def test_the_better_a_modality_the_fewer_units_learn(modalities, scale):
    rng = np.random.default_rng(modalities)
    shape = (24, modalities, 3)
    logits = (scale * rng.normal(size=shape)).astype("float32")
    logits[:, 0] += LABELS
    features = [
        rng.normal(size=(24, 4 + m)).astype("float32")
        for m in range(modalities)
    ]
    mask = np.ones((24, modalities), "float32")
    mask[:5, 0] = mask[3:9, 1] = 0
    for absent in (None, modalities - 1):
        if absent is not None:
            mask[:, absent] = 0
        there = mask.max(axis=0) > 0
        modulation = AMSS(temperature=2.0)
        found = modulation.compute_coefficients(
            ops.convert_to_tensor(LABELS),
            outputs_of(logits, features, mask),
            ops.convert_to_tensor(there.astype("float32")),
        )
        found = ops.convert_to_numpy(found)[there]
        expected = fractions_by_hand(logits, features, mask, 2.0)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        if scale < 1 and there.sum() > 1:
            assert found[0] == found.min() < found.max()


def built(**options):
    modulation = AMSS(**options)
    model = make_model()
    model.compile("sgd", modulation=modulation)
    return modulation


def masked(modulation, gradient, fractions=(0.5, 0.5), owner=0):
    modulation.coefficients.assign(fractions)
    out = modulation.modulate_gradients(
        [ops.convert_to_tensor(gradient)], [gradient], [owner]
    )
    return ops.convert_to_numpy(out[0])


def gradient_of(*sizes, shape=(3, 2), seed=0):
    rng = np.random.default_rng(seed)
    g = rng.normal(size=(*shape, len(sizes)))
    g /= np.sqrt(np.square(g).sum(axis=tuple(range(len(shape)))))
    return (g * np.sqrt(sizes)).astype("float32")


@pytest.mark.parametrize(
    ("fraction", "units"), [(0.1, 1), (0.5, 4), (0.51, 5), (0.9, 8), (1.0, 8)]
)
def test_the_largest_gradients_are_left(fraction, units):
    g = gradient_of(*range(1, 9))
    found = masked(built(sampling="top"), g, (fraction, 0.3))
    np.testing.assert_array_equal(found[..., 8 - units :], g[..., 8 - units :])
    assert (found[..., : 8 - units] == 0).all()


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e10])
def test_units_are_drawn_by_their_share_and_divided_by_it(scale):
    g = gradient_of(1.0, 2.0, 3.0, 4.0)
    drawn = np.zeros(4)
    modulation = built(seed=0, unbiased=True)
    for _ in range(400):
        found = masked(modulation, np.float32(scale) * g, (0.25, 0.5)) / scale
        ratio = (found / g).mean(axis=(0, 1))
        assert (ratio > 0).sum() == 1
        drawn += ratio > 0
        expected = 1 / (np.arange(1, 5) / 10 + 0.25)
        np.testing.assert_allclose(ratio[ratio > 0], expected[ratio > 0], 1e-4)
    # Four deviations of a count of 400.
    assert np.abs(drawn / 400 - np.arange(1, 5) / 10).max() < 0.1


def test_biases_and_what_is_of_no_encoder_are_left_alone():
    modulation = built(sampling="top")
    bias = np.ones(4, "float32")
    np.testing.assert_array_equal(masked(modulation, bias), bias)
    g = gradient_of(1.0, 2.0)
    np.testing.assert_array_equal(masked(modulation, g, owner=None), g)


@pytest.mark.parametrize("unbiased", [False, True])
def test_outside_its_window_it_changes_nothing(unbiased):
    plain, _ = train(None, SGD(0.1), epochs=2)
    model, history = train(
        AMSS(warmup=0.99, unbiased=unbiased, seed=0), SGD(0.1), epochs=2
    )
    assert history["a_coefficient"][0] == 1.0
    assert_equal_weights(weights(model), weights(plain))
    changed, _ = train(AMSS(unbiased=unbiased, seed=0), SGD(0.1), epochs=2)
    assert (
        max(
            np.abs(a - b).max()
            for a, b in zip(weights(changed), weights(plain), strict=True)
        )
        > 1e-3
    )


def test_it_masks_gradients_under_any_optimizer():
    modulation = AMSS(sampling="top", apply_to="updates")
    make_model().compile("adam", modulation=modulation)
    assert not modulation.edits_updates


def test_a_model_without_a_head_on_all_features_is_refused():
    model = keras_mmrel.LateFusion({k: v.shape[1:] for k, v in X.items()}, 3)
    with pytest.raises(ValueError, match="AMSS needs one with a head"):
        model.compile("sgd", modulation=AMSS())
