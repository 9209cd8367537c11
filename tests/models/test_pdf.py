import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.models.pdf import holo_confidence
from keras_mmrel.models.pdf import relative_calibration
from tests.helpers import EAGER
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors

TWO = {"a": (6,), "b": (4,)}
THREE = {**TWO, "c": (5,)}


def make(shapes=None, **kwargs):
    """A model whose modalities differ in confidence."""
    keras.utils.set_random_seed(0)
    encoders = {
        name: keras.Sequential(
            [keras.Input(shape), keras.layers.Dense(8, "relu")]
        )
        for name, shape in (shapes or THREE).items()
    }
    model = keras_mmrel.PDF(encoders, 3, **kwargs)
    for index, layer in enumerate(model.confidence_outputs):
        layer.bias.assign([index - 0.5])
    return model


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def weights_of(confidence, logits, present, calibrate):
    """The method for one sample, as its docstring has it."""
    c, p = confidence[present], softmax(logits[present])
    belief = c + (np.log(c).sum() - np.log(c)) / np.log(c).sum()
    if calibrate and len(c) > 1:
        du = np.abs(p - 1 / 3).mean(axis=-1)
        others = (du.sum() - du) / (len(c) - 1)
        belief = belief * np.minimum(1, du / others)
    weights = np.zeros(len(present))
    weights[present] = softmax(belief)
    return weights


def test_standard_checks(tmp_path):
    model = run_model_checks(keras_mmrel.PDF, tmp_path)
    names = {"modality_loss", "confidence_loss"}
    assert set(model.auxiliary_trackers) == names


@pytest.mark.parametrize("shapes", [TWO, THREE])
@pytest.mark.parametrize("calibrate", [True, False])
def test_weights_are_those_computed_by_hand(shapes, calibrate):
    model = make(shapes, calibrate=calibrate)
    x, _ = vectors(shapes=shapes)
    mask = np.ones((48, len(shapes)))
    mask[::3, 1] = 0
    out = model.predict({**x, "modality_mask": mask}, batch_size=48, verbose=0)
    full = model.predict(x, batch_size=48, verbose=0)
    expected = [
        weights_of(c, logits, present, calibrate)
        for c, logits, present in zip(
            full["confidence"], full["modality_logits"], mask > 0, strict=True
        )
    ]
    np.testing.assert_allclose(out["fusion_weights"], expected, atol=1e-5)
    logits = (out["fusion_weights"][:, :, None] * out["modality_logits"]).sum(1)
    np.testing.assert_allclose(out["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(
        out["confidence"], full["confidence"] * mask, atol=1e-6
    )


def test_two_modalities_have_the_holo_confidence_of_the_paper():
    confidence = np.array([[0.9, 0.4], [0.2, 0.7]])
    score = np.log(confidence / (1 - confidence)).astype("float32")
    found = to_numpy(holo_confidence(ops.array(score), ops.ones((2, 2))))
    total = np.log(confidence.prod(axis=1, keepdims=True))
    expected = np.log(confidence[:, ::-1]) / total
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_holo_confidence_stays_in_its_range_where_logs_vanish():
    score = np.array(
        [[200, 200], [-200, -200], [200, -200], [0, 200]], "float32"
    )
    found = to_numpy(holo_confidence(ops.array(score), ops.ones((4, 2))))
    expected = [[0.5, 0.5], [0.5, 0.5], [1, 0], [0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found >= 0).all() and (found <= 1).all()


def test_a_lone_modality_decides_alone():
    x, _ = vectors(shapes=THREE)
    mask = np.zeros((48, 3))
    mask[:, 2] = 1
    out = make().predict({**x, "modality_mask": mask}, batch_size=48, verbose=0)
    np.testing.assert_allclose(out["fusion_weights"], mask, atol=1e-6)
    np.testing.assert_allclose(
        out["logits"], out["modality_logits"][:, 2], atol=1e-6
    )


def test_a_vague_prediction_is_calibrated_down_and_no_other():
    p = np.array([[[0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]]])
    logits = ops.array(np.log(p).astype("float32"))
    # Distances from uniform are 14/45, 2/45 and 8/45.
    found = relative_calibration(logits, ops.ones((1, 3)))
    np.testing.assert_allclose(to_numpy(found), [[1.0, 2 / 11, 1.0]], atol=1e-5)
    missing = ops.array([[1.0, 0.0, 1.0]])
    found = to_numpy(relative_calibration(logits, missing))
    np.testing.assert_allclose(found[0, [0, 2]], [1.0, 8 / 14], atol=1e-5)
    uniform = ops.zeros((1, 3, 3))
    found = relative_calibration(uniform, ops.ones((1, 3)))
    np.testing.assert_allclose(to_numpy(found), 1.0, atol=1e-6)


def test_training_does_not_calibrate():
    x, _ = vectors(shapes=THREE)
    model, plain = make(), make(calibrate=False)
    trained = to_numpy(model(x, training=True)["fusion_weights"])
    np.testing.assert_allclose(
        trained, to_numpy(plain(x, training=False)["fusion_weights"]), atol=1e-6
    )
    used = to_numpy(model(x, training=False)["fusion_weights"])
    assert np.abs(used - trained).max() > 0.01


def test_losses_are_those_of_the_modalities_that_are_present():
    x, y = vectors(shapes=THREE)
    model = make(modality_loss_weight=0.5, confidence_loss_weight=2.0)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=EAGER)
    mask = np.ones((48, 3))
    mask[::3, 1] = 0
    data = {**x, "modality_mask": mask}
    weight = np.linspace(0.0, 2.0, 48)
    out = model.predict(data, verbose=0)
    logs = model.evaluate(
        data,
        y,
        sample_weight=weight,
        batch_size=48,
        verbose=0,
        return_dict=True,
    )
    p = softmax(out["modality_logits"])[np.arange(48), :, y]
    losses = -np.log(p) * mask * weight[:, None]
    errors = (out["confidence"] - p) ** 2 * mask * weight[:, None]
    np.testing.assert_allclose(
        logs["modality_loss"], 0.5 * losses.sum() / 48, rtol=1e-4
    )
    np.testing.assert_allclose(
        logs["confidence_loss"], 2.0 * errors.sum() / 48, rtol=1e-4
    )


def test_confidence_learns_beside_the_classifier_and_not_through_it():
    x, y = vectors(shapes=THREE)
    weights = {}
    for strength in (0.0, 1.0):
        model = make(confidence_loss_weight=strength)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=EAGER)
        model.fit(x, y, batch_size=48, shuffle=False, verbose=0)
        weights[strength] = model
    before = make()
    for kind in ("encoders", "heads", "confidence_hidden"):
        for layers in zip(
            getattr(weights[0.0], kind),
            getattr(weights[1.0], kind),
            getattr(before, kind),
            strict=True,
        ):
            off, on, old = (to_numpy(layer.weights[0]) for layer in layers)
            if kind == "confidence_hidden":
                np.testing.assert_array_equal(off, old)
                assert np.abs(on - old).max() > 0
            else:
                np.testing.assert_array_equal(on, off)
                assert np.abs(on - old).max() > 0


@pytest.mark.slow_on("jax", "tensorflow")
def test_confidence_learns_the_probability_of_the_true_class():
    x, y = vectors(samples=120, shapes=TWO)
    for index, values in enumerate(x.values()):
        broken = np.arange(120) % 3 == index
        values[broken] = values[broken][::-1]
    model = make(TWO)
    model.compile(keras.optimizers.Adam(0.01))
    logs = model.fit(x, y, batch_size=40, epochs=60, verbose=0).history
    out = model.predict(x, batch_size=120, verbose=0)
    p = softmax(out["modality_logits"])[np.arange(120), :, y]
    for found, true in zip(out["confidence"].T, p.T, strict=True):
        assert np.corrcoef(found, true)[0, 1] > 0.8
    assert logs["confidence_loss"][-1] < 0.2 * logs["confidence_loss"][0]


@pytest.mark.parametrize(
    "bad",
    [
        {"calibrate": "yes"},
        {"modality_loss_weight": -1.0},
        {"confidence_loss_weight": -0.5},
        {"confidence_units": 0},
        {"confidence_units": 4.0},
    ],
)
def test_bad_arguments_are_refused(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=f"Received: {name}={value!r}"):
        keras_mmrel.PDF(TWO, 3, **bad)
