import keras
import numpy as np
import pytest
import scipy.special
from keras import ops

import keras_mmrel
from keras_mmrel import backend
from keras_mmrel.losses import EvidentialCrossentropy
from keras_mmrel.losses.evidential_crossentropy import dirichlet_kl
from keras_mmrel.losses.evidential_crossentropy import expected_crossentropy
from tests.helpers import SHAPES
from tests.helpers import json_round_trip
from tests.helpers import vectors

# From little to much more than a model ever finds, even and uneven.
ALPHA = np.array(
    [
        [1.0, 1.0, 1.0],
        [0.3, 2.0, 0.7],
        [7.9, 8.0, 8.1],
        [1.0, 1e4, 1.0],
        [1e4, 1e4, 1e4],
        [3.0, 1e4, 400.0],
    ]
)


def exact_crossentropy(labels, alpha):
    total = alpha.sum(axis=-1, keepdims=True)
    psi = scipy.special.digamma
    return (labels * (psi(total) - psi(alpha))).sum(axis=-1)


def exact_kl(alpha):
    total = alpha.sum(axis=-1, keepdims=True)
    log_gamma, psi = scipy.special.gammaln, scipy.special.digamma
    return (
        log_gamma(total[..., 0])
        - log_gamma(alpha.shape[-1])
        - log_gamma(alpha).sum(axis=-1)
        + ((alpha - 1) * (psi(alpha) - psi(total))).sum(axis=-1)
    )


def trigamma(x):
    return scipy.special.polygamma(1, x)


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, "float32"))


@pytest.mark.parametrize("label", [0, 1, 2])
def test_expected_crossentropy_agrees_with_scipy(label):
    labels = np.eye(3)[[label] * len(ALPHA)]
    np.testing.assert_allclose(
        ops.convert_to_numpy(
            expected_crossentropy(tensor(labels), tensor(ALPHA))
        ),
        exact_crossentropy(labels, ALPHA),
        rtol=1e-5,
        atol=5e-6,
    )


def test_kl_agrees_with_scipy_up_to_large_concentrations():
    np.testing.assert_allclose(
        ops.convert_to_numpy(dirichlet_kl(tensor(ALPHA))),
        exact_kl(ALPHA),
        rtol=1e-6,
        atol=2e-5,
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_kl_agrees_with_scipy_for_many_classes():
    alpha = 1 + np.random.default_rng(0).gamma(0.3, 1e3, size=(20, 40))
    np.testing.assert_allclose(
        ops.convert_to_numpy(dirichlet_kl(tensor(alpha))),
        exact_kl(alpha.astype("float32").astype("float64")),
        rtol=1e-5,
    )


def test_gradients_agree_with_scipy_and_stay_finite():
    labels = np.eye(3)[[0, 1, 2, 1, 0, 2]]

    def value(tensors):
        loss = EvidentialCrossentropy(kl_weight=0.5, reduction="sum")
        return loss(tensor(labels), tensors[0])

    _, (found,) = backend.value_and_gradients(value, [tensor(np.log(ALPHA))])
    rest = labels + (1 - labels) * ALPHA
    sums = ALPHA.sum(axis=1, keepdims=True)
    first = trigamma(sums) - labels * trigamma(ALPHA)
    sums = rest.sum(axis=1, keepdims=True)
    second = (rest - 1) * trigamma(rest) - (sums - 3) * trigamma(sums)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found),
        ALPHA * (first + 0.5 * (1 - labels) * second),
        rtol=1e-3,
        atol=1e-4,
    )


def test_values_by_hand():
    # psi(2) - psi(1) = 1; psi(5) - psi(2) = 1/2 + 1/3 + 1/4.
    logits = np.log([[1.0, 1.0], [3.0, 2.0]])
    y = np.array([0, 1])
    loss = EvidentialCrossentropy(reduction="none")
    expected = [1.0, 1 / 2 + 1 / 3 + 1 / 4]
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(y, logits)), expected, rtol=1e-6
    )
    # KL(Dir(3, 1) || Dir(1, 1)) = log 3 + 2 (psi(3) - psi(4)).
    loss = EvidentialCrossentropy(kl_weight=2.0, reduction="none")
    expected[1] += 2.0 * (np.log(3) - 2 / 3)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(y, logits)), expected, rtol=1e-5
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_integer_and_one_hot_labels_and_sample_weights():
    logits = np.log(ALPHA)
    y = np.array([0, 1, 2, 0, 1, 2])
    loss = EvidentialCrossentropy(kl_weight=0.1)
    weight = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    one = float(loss(y[2:3], logits[2:3]))
    np.testing.assert_allclose(
        float(loss(np.eye(3)[y], logits, sample_weight=weight)),
        one / 6,
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        float(loss(y[:, None], logits)), float(loss(y, logits))
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_absurd_logits_give_a_finite_loss():
    loss = EvidentialCrossentropy(kl_weight=1.0)
    logits = np.array([[500.0, -3.0], [0.0, 1e4], [90.0, 90.0]])
    assert np.isfinite(float(loss(np.array([1, 1, 0]), logits)))


def test_the_weight_can_be_a_variable_of_the_model_that_changes_in_fit():
    class Ramp(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.ramp.assign(float(epoch))

    x, y = vectors()
    model = keras_mmrel.LateFusion(
        SHAPES, 3, modality_loss_weight=0.0, name="late"
    )
    model._tracker.unlock()
    model.ramp = model.add_weight(
        shape=(), initializer="zeros", trainable=False, name="ramp"
    )
    loss = EvidentialCrossentropy(kl_weight=model.ramp)
    model.compile(keras.optimizers.SGD(0.0), loss)
    for encoder in model.encoders:
        for layer in encoder._flatten_layers():
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
    history = model.fit(
        x, y, batch_size=48, epochs=3, verbose=0, callbacks=[Ramp()]
    ).history
    first, second, third = history["loss"]
    assert second > first
    np.testing.assert_allclose(third - second, second - first, rtol=1e-4)
    assert loss.get_config()["kl_weight"] == 2.0
    assert json_round_trip(loss).kl_weight == 2.0


def test_config_survives_json():
    loss = EvidentialCrossentropy(kl_weight=0.25, name="evidence")
    assert json_round_trip(loss).get_config() == loss.get_config()


def test_a_variable_that_is_no_scalar_is_named():
    with pytest.raises(ValueError, match=r"kl_weight.shape=\(2,\)"):
        EvidentialCrossentropy(kl_weight=keras.Variable(np.zeros(2)))
