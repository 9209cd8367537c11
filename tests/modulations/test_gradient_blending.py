"""A weighted sum of losses, and weights that come of how losses change."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.modulations import GradientBlending
from keras_mmrel.modulations.gradient_blending import blending_weights
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

# `test_methods.py` has what runs on every backend.
pytestmark = pytest.mark.slow_on("jax", "tensorflow")
SGD = keras.optimizers.SGD


def crossentropy(logits, sample_weight=1.0):
    log_p = ops.convert_to_numpy(ops.log_softmax(logits))
    return np.mean(-log_p[np.arange(24), Y] * sample_weight)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_the_weighted_sum(weighted):
    model = make_model()
    outputs = model(X, training=False)
    weight = np.linspace(0.2, 2, 24) if weighted else np.ones(24)
    own = [
        crossentropy(outputs["modality_logits"][:, m], weight) for m in (0, 1)
    ]
    joint = crossentropy(outputs["logits"], weight)
    options = {"sample_weight": weight} if weighted else {}
    _, history = train(
        GradientBlending([2.0, 1.0, 5.0]),
        SGD(0.0),
        model,
        **options,
        batch_size=24,
        validation_data=(X, Y),
    )
    expected = 0.25 * own[0] + 0.125 * own[1] + 0.625 * joint
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        history["val_loss"], crossentropy(outputs["logits"]), rtol=1e-5
    )
    found = [history[f"{n}_blend"][0] for n in ("a", "b", "joint")]
    np.testing.assert_allclose(found, [0.25, 0.125, 0.625])


def test_all_of_the_models_loss_is_a_plain_training():
    plain, _ = train(None, epochs=2)
    model, _ = train(GradientBlending([0.0, 0.0, 3.0]), epochs=2)
    assert_equal_weights(weights(model), weights(plain), atol=1e-7)


def test_outside_its_window_it_is_a_plain_training():
    plain, _ = train(None, epochs=2)
    late = GradientBlending([3.0, 2.0, 1.0], warmup=0.99)
    model, _ = train(late, epochs=2)
    assert_equal_weights(weights(model), weights(plain), atol=1e-7)


def test_weights_are_generalization_over_squared_overfitting():
    before = [[1.0, 1.0], [1.0, 1.1], [1.2, 1.2]]
    after = [[0.4, 0.8], [0.9, 1.0], [0.2, 0.6]]
    # Overfits 0.4, 0, 0.4 more; the second not at all, and has it all.
    found = blending_weights(before, after)
    assert found[1] > 0.999
    after[1] = [0.8, 1.0]
    raw = np.array([0.2 / 0.4**2, 0.1 / 0.1**2, 0.6 / 0.4**2])
    found = blending_weights(before, after)
    np.testing.assert_allclose(found, raw / raw.sum(), rtol=1e-9)
    assert blending_weights(before, before) == [1 / 3] * 3


def test_estimating_trains_copies_of_each_modality_alone():
    rng = np.random.default_rng(0)
    # The labels of training are noise for the second modality to learn.
    x = {"a": X["a"], "b": rng.normal(size=(24, 4)).astype("float32")}
    new = {"a": X["a"], "b": rng.normal(size=(24, 4)).astype("float32")}
    model = make_model()
    model.compile(SGD(0.3))
    start = weights(model)
    blending = GradientBlending.estimated(
        model, x, Y, (new, Y), epochs=40, batch_size=12, until=0.9
    )
    assert_equal_weights(weights(model), start)
    a, b, _ = blending.weights_given
    assert a > 10 * b
    assert blending.until == 0.9
    train(blending, model=model)
    np.testing.assert_allclose(
        ops.convert_to_numpy(blending.blend), blending.weights_given, rtol=1e-5
    )


def test_bad_input():
    model = make_model()
    for given in ([1.0, 1.0], [1.0, 1.0, 0.0]):
        with pytest.raises(ValueError, match="`weights` must be 3 numbers"):
            model.compile("sgd", modulation=GradientBlending(given))
    with pytest.raises(ValueError, match="`x` must be a dict"):
        GradientBlending.estimated(model, X["a"], Y, (X, Y))
