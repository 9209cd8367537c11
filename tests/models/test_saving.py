"""Names, damage and refusals of saved models, each one sentence."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_mmrel
from tests.helpers import SHAPES
from tests.helpers import vectors


def edited(source, target, change):
    """Copy a `.keras` file with another config."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config["config"])
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return target


def test_a_file_that_keras_refuses_for_safety_is_called_so(tmp_path):
    encoders = {
        name: keras.Sequential(
            [keras.Input(shape), keras.layers.Lambda(lambda x: 2 * x)]
        )
        for name, shape in SHAPES.items()
    }
    path = tmp_path / "model.keras"
    keras_mmrel.ConcatFusion(encoders, 3).save(path)
    with pytest.raises(ValueError, match="refuses for safety") as error:
        keras_mmrel.ConcatFusion.load(path)
    assert "undamaged" not in str(error.value)
    loaded = keras_mmrel.ConcatFusion.load(path, safe_mode=False)
    assert loaded.num_classes == 3


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["model.h5", "model", "model.keras.txt", None])
def test_a_name_that_nothing_is_saved_under_is_one_sentence(tmp_path, name):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    path = tmp_path / name if name else name
    with pytest.raises(ValueError, match="ends in `.keras`. Received: filep"):
        model.save(path)
    with pytest.raises(ValueError, match="ends in `.weights.h5`. Received"):
        model.save_weights(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.one_backend
def test_a_folder_that_is_not_there_is_named(tmp_path):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    with pytest.raises(FileNotFoundError, match="in a folder that exists"):
        model.save(tmp_path / "none/model.keras")
    with pytest.raises(FileNotFoundError, match="in a folder that exists"):
        model.save_weights(tmp_path / "none/model.weights.h5")
    with pytest.raises(FileNotFoundError, match="must be a file of weights"):
        model.load_weights(tmp_path / "none.weights.h5")
    with pytest.raises(ValueError, match="the name of a `.keras` file"):
        keras_mmrel.ConcatFusion.load(None)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras_mmrel.ConcatFusion(SHAPES, 4),
        lambda: keras_mmrel.ConcatFusion({**SHAPES, "c": (7,)}, 3),
        lambda: keras_mmrel.LateFusion(SHAPES, 3),
    ],
)
def test_weights_of_another_model_change_nothing(tmp_path, make):
    path = tmp_path / "model.weights.h5"
    keras_mmrel.ConcatFusion(SHAPES, 3).save_weights(path)
    other = make()
    before = other.get_weights()
    with pytest.raises(ValueError, match="whole and of its shapes") as error:
        other.load_weights(path)
    assert "\n" not in str(error.value)
    for weight, old in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.one_backend
def test_a_config_that_does_not_fit_its_weights_is_one_sentence(tmp_path):
    path = tmp_path / "model.keras"
    keras_mmrel.ConcatFusion(SHAPES, 3).save(path)
    other = edited(
        path, tmp_path / "b.keras", lambda c: c.update(num_classes=9)
    )
    with pytest.raises(ValueError, match="undamaged") as error:
        keras_mmrel.ConcatFusion.load(other)
    assert "\n" not in str(error.value)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "call, ending",
    [("save", ".keras"), ("save_weights", ".weights.h5")],
)
def test_nothing_is_saved_under_the_name_of_a_folder(tmp_path, call, ending):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    folder = tmp_path / f"folder{ending}"
    folder.mkdir()
    for path, text in (
        (folder, "which is a folder"),
        (str(folder), "which is a folder"),
        (tmp_path, f"ends in `{ending}`"),
        (None, "Received: filepath=None$"),
        (3, "Received: filepath=3$"),
    ):
        with pytest.raises(ValueError, match=text) as error:
            getattr(model, call)(path)
        assert "`filepath` must be a file name" in str(error.value)
    with pytest.raises(FileNotFoundError, match="filepath=None$"):
        model.load_weights(None)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "target, source",
    [("QADMNet", "TMC"), ("TMC", "QADMNet"), ("MICINet", "CAL")],
)
def test_weights_of_another_class_leave_a_model_as_it_was(
    tmp_path, target, source
):
    path = tmp_path / "other.weights.h5"
    getattr(keras_mmrel, source)(SHAPES, 3).save_weights(path)
    model = getattr(keras_mmrel, target)(SHAPES, 3)
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"weights of this {target}") as error:
        model.load_weights(path)
    assert "Received: filepath=" in str(error.value)
    assert "\n" not in str(error.value)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


# -- Seeds -------------------------------------------------------------------


def test_a_seed_that_nobody_gave_is_drawn_and_kept():
    keras.utils.set_random_seed(5)
    first, other = (keras_mmrel.QADMNet(SHAPES, 3) for _ in range(2))
    assert first.seed != other.seed
    assert type(first).from_config(first.get_config()).seed == first.seed
    keras.utils.set_random_seed(5)
    assert keras_mmrel.QADMNet(SHAPES, 3).seed == first.seed
    keras.utils.set_random_seed(5)
    layer = keras_mmrel.layers.CorruptionAugmentation()
    assert layer.get_config()["seed"] == layer.seed == first.seed


@pytest.mark.slow_on("tensorflow")
@pytest.mark.parametrize("cls", ["ConcatFusion", "QADMNet"])
def test_a_saved_model_goes_on_as_the_one_that_stayed(tmp_path, cls):
    """Dropout of a user's encoder, without a seed, among it."""
    x, y = vectors()
    encoders = {
        name: keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Dense(8),
                keras.layers.Dropout(0.5),
            ]
        )
        for name, shape in SHAPES.items()
    }
    model = getattr(keras_mmrel, cls)(encoders, 3)
    model.compile()
    model.fit(x, y, batch_size=24, epochs=1, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    keras.utils.set_random_seed(9)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        keras.utils.set_random_seed(9)
        one.fit(x, y, batch_size=24, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
