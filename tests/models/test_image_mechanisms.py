"""What QADM-Net and MICINet do for vectors they do for encoded images, too.

The modalities are the two halves of scikit-learn's digits, by convolutions.
"""

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel import encoders

sklearn_datasets = pytest.importorskip("sklearn.datasets")
# What is shown here comes of a training, the same on every backend.
pytestmark = pytest.mark.slow_on("jax", "tensorflow")

TRAINED = 700


def halves():
    digits = sklearn_datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype("float32")[..., None]
    x = {"left": images[:, :, :4], "right": images[:, :, 4:]}
    return x, digits.target[order]


X, Y = halves()
TRAIN = {name: value[:TRAINED] for name, value in X.items()}
TEST = {name: value[-500:] for name, value in X.items()}
Y_TEST = Y[-500:]


def noisy(severity):
    noise = np.random.default_rng(1).normal(size=TEST["right"].shape)
    right = TEST["right"] + severity * noise
    return {**TEST, "right": right.astype("float32")}


def trained(method):
    keras.utils.set_random_seed(0)
    modalities = {
        name: encoders.ConvEncoder((8, 16), seed=index)
        for index, name in enumerate(X)
    }
    # A shape that is known lets the model be built at once.
    modalities = {
        name: keras.Sequential([keras.Input((8, 4, 1)), encoder])
        for name, encoder in modalities.items()
    }
    model = getattr(keras_mmrel, method)(modalities, 10, seed=0)
    model.compile(keras.optimizers.AdamW(5e-3))
    model.fit(TRAIN, Y[:TRAINED], epochs=8, batch_size=50, verbose=0)
    return model


def accuracy(out):
    return (out["logits"].argmax(axis=1) == Y_TEST).mean()


@pytest.fixture(scope="module")
def qadm_net():
    return trained("QADMNet")


@pytest.fixture(scope="module")
def micinet():
    return trained("MICINet")


@pytest.fixture(scope="module")
def concat_fusion():
    return trained("ConcatFusion")


def test_depth_and_confidence_follow_the_quality_of_an_image(qadm_net):
    clean, mild, wild = (
        qadm_net.predict(x, verbose=0) for x in (TEST, noisy(0.5), noisy(2.0))
    )
    assert accuracy(clean) > 0.9
    depth = [out["depth"].mean(axis=0) for out in (clean, mild, wild)]
    assert depth[0][1] > depth[1][1] + 0.5 > depth[2][1] + 0.5
    assert abs(depth[2][0] - depth[0][0]) < 0.3
    confidence = [o["confidence"].mean(axis=0)[1] for o in (clean, mild, wild)]
    assert confidence[0] > confidence[1] + 0.2 and confidence[1] > confidence[2]


def test_an_image_has_its_own_depth(qadm_net):
    half = np.arange(500) % 2 == 0
    x = {**TEST, "right": TEST["right"].copy()}
    x["right"][half] = noisy(1.0)["right"][half]
    depth = qadm_net.predict(x, verbose=0)["depth"][:, 1]
    assert depth[half].mean() < depth[~half].mean() - 0.5


def test_bytes_are_judged_as_the_pixels_that_they_are(tmp_path):
    def as_bytes(x):
        return {
            k: np.clip(np.rint(v * 255), 0, 255).astype("uint8")
            for k, v in x.items()
        }

    keras.utils.set_random_seed(0)
    shapes = dict.fromkeys(X, (8, 4, 1))
    model = keras_mmrel.QADMNet(shapes, 10, seed=0)
    model.compile(keras.optimizers.AdamW(5e-3))
    model.fit(as_bytes(TRAIN), Y[:TRAINED], epochs=4, batch_size=50, verbose=0)
    clean, noisy_right, floats = (
        model.predict(x, verbose=0)
        for x in (as_bytes(TEST), as_bytes(noisy(1.0)), TEST)
    )
    # Half a level of rounding, judged, and repaired where it is unusual.
    apart = np.abs(clean["logits"] - floats["logits"])
    assert np.quantile(apart, 0.999) < 0.2 and apart.max() < 0.5
    confidence = [o["confidence"].mean(axis=0) for o in (clean, noisy_right)]
    assert confidence[1][1] < confidence[0][1] - 0.2
    assert abs(confidence[1][0] - confidence[0][0]) < 1e-3
    # A report's clean row is what the model says of the same bytes.
    report = keras_mmrel.evaluation.evaluate_robustness(
        model,
        as_bytes(TEST),
        Y_TEST,
        {"noise": keras_mmrel.corruptions.GaussianNoise(1.0, "right")},
        severities=[1.0],
    )
    assert f"{100 * accuracy(clean):.1f}" in report.to_markdown()


def test_micinet_trusts_a_noisy_image_less(micinet):
    clean, wild = (micinet.predict(x, verbose=0) for x in (TEST, noisy(2.0)))
    assert accuracy(clean) > 0.9
    power = [o["confidence"].mean(axis=0) for o in (clean, wild)]
    assert power[1][1] < 0.5 * power[0][1]
    assert power[1][1] < 0.5 * power[1][0]
    compensated = [o["compensation"].mean(axis=0) for o in (clean, wild)]
    assert np.isfinite(compensated).all()


def test_both_are_right_where_plain_fusion_is_not(
    qadm_net, micinet, concat_fusion
):
    plain, *ours = (
        accuracy(model.predict(noisy(2.0), verbose=0))
        for model in (concat_fusion, qadm_net, micinet)
    )
    assert min(ours) > plain + 0.05
