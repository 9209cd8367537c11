import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.evaluation import TemperatureScaling
from tests.helpers import vectors


def draw(samples, classes=5, scale=1.0, seed=0):
    """Logits times `scale`, and labels drawn from the unscaled ones."""
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=2.0, size=(samples, classes))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return scale * z, y


def log_loss(p, y):
    return -np.log(p[np.arange(len(y)), y]).mean()


def calibration_error(p, y):
    metric = keras_mmrel.metrics.ExpectedCalibrationError(from_logits=False)
    metric.update_state(y, p)
    return float(metric.result())


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0, 30.0])
def test_known_temperature_is_recovered(scale):
    z, y = draw(20000, scale=scale)
    found = TemperatureScaling().fit(z, y).temperature
    np.testing.assert_allclose(found, scale, rtol=0.04)


@pytest.mark.parametrize("scale", [0.2, 1.0, 30.0])
def test_no_other_temperature_has_a_smaller_log_loss(scale):
    z, y = draw(300, scale=scale)
    best = TemperatureScaling().fit(z, y).temperature
    losses = [
        log_loss(TemperatureScaling(t).calibrate(z).astype("float64"), y)
        for t in best * np.array([0.98, 1.0, 1.02])
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_scaling_the_logits_scales_the_temperature():
    z, y = draw(500)
    one = TemperatureScaling().fit(z, y).temperature
    seven = TemperatureScaling().fit(7.0 * z, y).temperature
    np.testing.assert_allclose(seven, 7.0 * one, rtol=1e-8)


@pytest.mark.slow_on("jax", "tensorflow")
def test_calibration_improves_on_new_samples_and_accuracy_stays():
    z, y = draw(4000, scale=4.0)
    scaling = TemperatureScaling().fit(z[:2000], y[:2000])
    before = TemperatureScaling().calibrate(z[2000:])
    after = scaling.calibrate(z[2000:])
    new = y[2000:]
    assert after.dtype == np.float32
    np.testing.assert_allclose(after.sum(axis=1), 1.0, atol=1e-5)
    assert calibration_error(after, new) < 0.3 * calibration_error(before, new)
    assert log_loss(after, new) < log_loss(before, new)
    np.testing.assert_array_equal(after.argmax(axis=1), z[2000:].argmax(axis=1))


def test_a_model_without_mistakes_gets_the_lowest_temperature_and_a_warning():
    z, _ = draw(50)
    with pytest.warns(UserWarning, match="too few mistakes"):
        scaling = TemperatureScaling().fit(z, z.argmax(axis=1))
    assert scaling.temperature == 0.01
    assert np.isfinite(scaling.calibrate(1e6 * z)).all()


def test_a_useless_model_gets_the_highest_temperature_and_a_warning():
    z, _ = draw(50)
    with pytest.warns(UserWarning, match="better than chance"):
        scaling = TemperatureScaling().fit(z, z.argmin(axis=1))
    assert scaling.temperature == 100.0


def test_equal_logits_and_one_class_everywhere_do_not_break():
    with pytest.warns(UserWarning):
        scaling = TemperatureScaling().fit(np.zeros((4, 3)), np.zeros(4, int))
    np.testing.assert_allclose(scaling.calibrate(np.zeros((1, 3))), 1 / 3)


def test_model_outputs_are_scaled_except_the_prior_of_empty_samples():
    model = keras_mmrel.ConcatFusion({"a": (6,), "b": (4,)}, 3)
    x, y = vectors(shapes={"a": (6,), "b": (4,)})
    mask = np.ones((48, 2), "float32")
    mask[:5] = 0
    outputs = model.predict({**x, "modality_mask": mask}, verbose=0)
    scaled = TemperatureScaling(3.0).apply(outputs)
    assert set(scaled) == set(outputs)
    np.testing.assert_array_equal(scaled["logits"][:5], outputs["logits"][:5])
    np.testing.assert_allclose(
        scaled["logits"][5:], outputs["logits"][5:] / 3.0, rtol=1e-6
    )
    np.testing.assert_allclose(
        scaled["probabilities"],
        keras.ops.convert_to_numpy(keras.ops.softmax(scaled["logits"])),
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        scaled["probabilities"], TemperatureScaling(3.0).calibrate(outputs)
    )
    for key in ("modality_logits", "confidence"):
        assert scaled[key] is outputs[key]


def test_empty_samples_are_not_fitted():
    z, y = draw(400, scale=3.0)
    mask = np.ones((400, 2))
    mask[300:] = 0
    z[300:] = 50.0
    expected = TemperatureScaling().fit(z[:300], y[:300]).temperature
    outputs = {"logits": z, "modality_mask": mask}
    assert TemperatureScaling().fit(outputs, y).temperature == expected
    outputs["modality_mask"] = np.zeros((400, 2))
    with pytest.raises(ValueError, match="400 samples without any"):
        TemperatureScaling().fit(outputs, y)


def test_tensors_and_one_hot_labels_are_taken():
    z, y = draw(200, scale=2.0)
    z = z.astype("float32")
    expected = TemperatureScaling().fit(z, y).temperature
    tensor = keras.ops.convert_to_tensor(z)
    assert (
        TemperatureScaling().fit(tensor, np.eye(5)[y]).temperature == expected
    )


def test_fitted_temperature_survives_a_file_and_json(tmp_path):
    scaling = TemperatureScaling().fit(*draw(200, scale=2.0))
    scaling.save(tmp_path / "temperature.json")
    loaded = TemperatureScaling.load(tmp_path / "temperature.json")
    assert loaded.temperature == scaling.temperature
    config = keras.saving.serialize_keras_object(scaling)
    assert config["registered_name"] == "keras_mmrel>TemperatureScaling"
    assert "temperature=" in repr(loaded)


@pytest.mark.parametrize(
    "temperature", [0.0, -1.0, np.inf, np.nan, "warm", True]
)
def test_bad_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="`temperature` must be a finite"):
        TemperatureScaling(temperature)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"logits": np.ones(4)}, r"shape=\(4,\)"),
        ({"logits": np.ones((4, 1))}, "two classes"),
        ({"logits": np.full((4, 3), np.inf)}, "4 of 4 rows"),
        ({"logits": {"probabilities": np.ones((4, 3))}}, "'logits'"),
        ({"y": np.array([0, 1, 2])}, "3 labels for 4 samples"),
        ({"y": np.array([0, 1, 2, 3])}, r"in \[0, 3\)"),
        ({"y": np.array([0.0, 1.0, 2.0, 1.0])}, "y.dtype=float64"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(change, text):
    arguments = {"logits": np.eye(4, 3), "y": np.array([0, 1, 2, 1]), **change}
    with pytest.raises(ValueError, match=text):
        TemperatureScaling().fit(**arguments)


def test_apply_takes_outputs_only():
    with pytest.raises(ValueError, match="`outputs` must be .* ndarray"):
        TemperatureScaling().apply(np.ones((2, 3)))
