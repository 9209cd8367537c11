"""What every method of its own file keeps to: saving, precision, absence."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel import modulations
from tests.helpers import everywhere
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

PATH = Path(__file__).parent / "golden_methods.json"
SGD = keras.optimizers.SGD
SHAPES = {"a": (6,), "b": (4,), "c": (3,)}
C = np.random.default_rng(5).normal(size=(24, 3)).astype("float32")

# What is drawn is not the same on every backend: all is dropped of a leader.
METHODS = {
    "AMSS": {"temperature": 0.5, "sampling": "top", "seed": 0},
    "OPM": {"base": 1.0, "alpha": 0.5, "probability": 1.0, "seed": 0},
    "PMR": {"alpha": 0.7, "momentum": 0.3},
    "InfoReg": {"strength": 0.5, "window": 2},
    "DGL": {"alpha": 2.0},
    "GradientBlending": {"weights": [1.0, 2.0, 1.0]},
}
EVERY = everywhere(METHODS, ["PMR"])


def make(name, modalities=2):
    options = dict(METHODS[name])
    if "weights" in options:
        own = [float(m + 1) for m in range(modalities)]
        options["weights"] = [*own, 1.0]
    return getattr(modulations, name)(**options)


def state(modulation):
    return [ops.convert_to_numpy(v) for v in modulation.non_trainable_variables]


@pytest.mark.parametrize("name", EVERY)
def test_it_is_saved_and_trains_on_as_if_nothing_had_happened(name, tmp_path):
    model, _ = train(make(name), SGD(0.05, momentum=0.9), epochs=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.modulation) is type(model.modulation)
    for key, value in METHODS[name].items():
        assert loaded.modulation.get_config()[key] == value
    assert_equal_weights(state(loaded.modulation), state(model.modulation))
    histories = [
        m.fit(X, Y, batch_size=12, epochs=2, verbose=0, shuffle=False).history
        for m in (model, loaded)
    ]
    assert_equal_weights(weights(loaded), weights(model), atol=1e-6)
    for key, values in histories[0].items():
        np.testing.assert_allclose(histories[1][key], values, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_mixed_precision(name):
    model = make_model(dtype="mixed_float16")
    _, history = train(make(name), SGD(0.05), model, epochs=3)
    _, plain = train(make(name), SGD(0.05), epochs=3)
    assert all(np.isfinite(w).all() for w in weights(model))
    assert all(np.isfinite(s).all() for s in state(model.modulation))
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=2e-2)


@pytest.mark.parametrize("name", EVERY)
def test_what_a_missing_modality_holds_changes_nothing(name):
    mask = np.ones((24, 3), "float32")
    mask[::3, 0] = mask[1::4, 1] = mask[2::5, 2] = 0
    found = []
    for fill in (0.0, np.nan):
        x = {
            k: np.where(mask[:, m, None] > 0, v, fill).astype("float32")
            for m, (k, v) in enumerate({**X, "c": C}.items())
        }
        x["modality_mask"] = mask
        model, history = train(
            make(name, 3), model=make_model(SHAPES), x=x, y=Y, epochs=2
        )
        assert np.isfinite(history["loss"]).all()
        found.append(weights(model))
    assert_equal_weights(*found)


@pytest.mark.parametrize("name", EVERY)
def test_with_one_modality_it_is_a_training_like_any_other(name):
    model = make_model({"a": (6,)})
    _, history = train(
        make(name, 1), model=model, x={"a": X["a"]}, y=Y, epochs=2
    )
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(w).all() for w in weights(model))


# -- Golden weights ------------------------------------------------------------


def compute(name):
    """Weights and logs of six steps; their parts equal the released codes'."""
    model, history = train(make(name), compiled=True, epochs=3)
    values = {k: v for k, v in history.items() if k != "accuracy"}
    found = [np.asarray(w, "float64").tolist() for w in weights(model)]
    return {"weights": found, "history": values}


@pytest.mark.parametrize("name", METHODS)
def test_every_backend_trains_the_same_weights(name):
    golden = json.loads(PATH.read_text())[name]
    actual = compute(name)
    assert set(actual["history"]) == set(golden["history"])
    for key, values in golden["history"].items():
        np.testing.assert_allclose(
            actual["history"][key], values, rtol=1e-4, atol=1e-6
        )
    for a, e in zip(actual["weights"], golden["weights"], strict=True):
        np.testing.assert_allclose(a, e, atol=2e-6)


if __name__ == "__main__":
    golden = {name: compute(name) for name in METHODS}
    PATH.write_text(json.dumps(golden) + "\n")
