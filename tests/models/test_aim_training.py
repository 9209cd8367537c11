import keras
import numpy as np
import pytest
from keras import layers

import keras_mmrel
from keras_mmrel.encoders import ConvEncoder
from keras_mmrel.encoders import MLPEncoder
from keras_mmrel.encoders import split_backbone
from tests.helpers import EAGER
from tests.helpers import to_numpy
from tests.models.aim_models import OPTIONS
from tests.models.aim_models import SHAPES
from tests.models.aim_models import X
from tests.models.aim_models import Y
from tests.models.aim_models import compiled
from tests.models.aim_models import fit

# -- Masks --------------------------------------------------------------------


class Record(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.begin, self.end = [], []

    def masks(self):
        return np.array(
            [[to_numpy(m) for m in e.masks] for e in self.model.encoders]
        )

    def on_epoch_begin(self, epoch, logs=None):
        self.begin.append(self.masks())

    def on_epoch_end(self, epoch, logs=None):
        self.end.append(self.masks())


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("selection", ["random", "under_optimised"])
def test_masks_change_at_the_beginning_of_epochs_after_the_warm_up(selection):
    model = compiled(auxiliary=selection, warmup=0.25)
    record = Record()
    fit(model, epochs=4, callbacks=[record])
    np.testing.assert_array_equal(record.begin, record.end)
    # Two of the four epochs are warm-up.
    for masks in record.begin[:2]:
        assert (masks == 1).all()
    for masks in record.begin[2:]:
        assert (masks.sum(axis=-1) == 4).all()
    if selection == "random":
        assert (record.begin[2] != record.begin[3]).any()
    else:
        # From what the epochs so far have shown of each channel.
        scores = to_numpy(model.encoders[0].statistics[1].scores)
        model.encoders[0].refresh_masks()
        mask = to_numpy(model.encoders[0].masks[1])
        assert scores[mask == 1].max() <= scores[mask == 0].min()


# -- Encoders and edges -------------------------------------------------------


def images(samples=8):
    rng = np.random.default_rng(0)
    y = np.arange(samples) % 2
    x = {
        "image": rng.normal(size=(samples, 8, 8, 3)) + y[:, None, None, None],
        "sound": rng.normal(size=(samples, 8, 4)) - y[:, None, None],
        "vector": rng.normal(size=(samples, 5)),
    }
    return {k: v.astype("float32") for k, v in x.items()}, y


def resnet():
    """Two stages of one residual block each, with batch normalisation."""
    inputs = x = keras.Input((8, 8, 3))
    for stage, filters in enumerate((8, 16)):
        short = layers.Conv2D(filters, 1)(x)
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(layers.Add()([x, short]))
        # Not by strides: PyTorch 2.13.0 can crash on those.
        x = layers.AveragePooling2D(2, name=f"stage_{stage}")(x)
    return keras.Model(inputs, layers.Dense(7)(x))


@pytest.mark.slow_on("jax", "tensorflow")
def test_backbones_and_the_librarys_encoders_train_together(tmp_path):
    x, y = images()
    encoders = {
        "image": split_backbone(resnet(), ["stage_0", "stage_1"]),
        "sound": ConvEncoder((8,), groups=4),
        "vector": MLPEncoder((8, 8, 8), dropout=0.1),
    }
    model = keras_mmrel.AIM(encoders, 2, **OPTIONS)
    model.compile(keras.optimizers.Adam(1e-2))
    assert np.isfinite(fit(model, x, y, batch_size=4, epochs=1)["loss"]).all()
    assert [len(e.blocks) for e in model.encoders] == [2, 1, 3]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_blocks_of_unknown_input_shape_are_built_by_fit():
    encoders = {name: [layers.Dense(8, "relu")] for name in "ab"}
    model = keras_mmrel.AIM(encoders, 3, **OPTIONS)
    assert not model.built
    model.compile(run_eagerly=EAGER)
    assert np.isfinite(fit(model, epochs=1)["loss"]).all()
    assert to_numpy(model.encoders[0].masks[0]).sum() == 4


def test_an_encoder_without_blocks_is_refused():
    unbuilt = keras.Sequential([layers.Dense(4), layers.Dense(4)])
    for encoder in (layers.Dense(4), unbuilt):
        with pytest.raises(ValueError, match="`modalities\\['a'\\]` must be"):
            keras_mmrel.AIM({"a": encoder, "b": (4,)}, 3)


def test_a_sequential_is_cut_before_each_kernel():
    sequential = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Dropout(0.1),
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(6, 3, padding="same"),
            layers.GlobalAveragePooling2D(),
        ]
    )
    model = keras_mmrel.AIM({"a": sequential, "b": (4,)}, 3, **OPTIONS)
    blocks = model.encoders[0].blocks
    names = [[type(x).__name__ for x in b.layers] for b in blocks]
    first = ["Dropout", "Conv2D", "BatchNormalization", "ReLU"]
    assert names == [first, ["Conv2D", "GlobalAveragePooling2D"]]
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(
        to_numpy(model.encoders[0](x)), to_numpy(sequential(x)), atol=1e-5
    )
    held = {id(w) for block in blocks for w in block.weights}
    assert held == {id(w) for w in sequential.weights}


@pytest.mark.slow_on("jax")
def test_a_modality_missing_in_a_whole_batch_changes_nothing_of_its_own():
    model = compiled(on=True)
    fit(model, epochs=1)
    mask = np.tile(np.array([1.0, 0.0], "float32"), (24, 1))
    x = {"a": X["a"], "b": np.full_like(X["b"], np.nan), "modality_mask": mask}
    own = model.encoders[1].weights
    own = [v for v in own if "strength" not in v.path]
    before = [to_numpy(v) for v in own]
    logs = model.train_on_batch(x, Y, return_dict=True)
    assert all(np.isfinite(v) for v in logs.values())
    for variable, old in zip(own, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), old)
    for variable in model.variables:
        assert np.isfinite(to_numpy(variable)).all()


def test_one_modality_trains_like_any_other():
    model = compiled(shapes={"a": (6,)}, strength="imbalance")
    history = fit(model, {"a": X["a"]}, epochs=2)
    assert np.isfinite(history["loss"]).all()
    np.testing.assert_allclose(history["a_strength"], 0.3, atol=1e-6)


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"rely_weight": -1.0}, "rely_weight=-1.0"),
        ({"target_weight": -1.0}, "target_weight=-1.0"),
        ({"strength": 1.5}, "strength=1.5"),
        ({"strength": "auto"}, "strength='auto'"),
        ({"mask_fraction": 0}, "mask_fraction=0"),
        # The auxiliary path would be the main one.
        ({"mask_fraction": 1.0}, "mask_fraction=1.0"),
        ({"auxiliary": "best"}, "auxiliary='best'"),
        ({"warmup": -0.1}, "warmup=-0.1"),
        ({"modality_loss_weight": -1}, "modality_loss_weight=-1"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        keras_mmrel.AIM(SHAPES, 3, **kwargs)
