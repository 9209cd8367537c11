"""What the base offers, shown on ConcatFusion."""

import gc

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel import class_scores
from keras_mmrel.losses import _class_loss
from keras_mmrel.metrics import _counted_weight
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import assert_close
from tests.helpers import everywhere
from tests.helpers import json_round_trip
from tests.helpers import vectors


def images(samples=24):
    rng = np.random.default_rng(0)
    x, y = vectors(samples)
    x = {"a": x["a"]}
    x["image"] = rng.normal(size=(samples, 8, 8, 1)).astype("float32")
    x["sound"] = rng.normal(size=(samples, 10, 6)).astype("float32")
    return x, y


@pytest.mark.slow_on("tensorflow")
def test_default_encoders_take_vectors_images_and_spectrograms():
    x, y = images()
    model = keras_mmrel.ConcatFusion(
        {"a": (6,), "image": (8, 8, 1), "sound": (10, 6)}, 3
    )
    model.compile()
    model.fit(x, y, batch_size=24, verbose=0)
    assert model.predict(x, batch_size=48, verbose=0)["logits"].shape == (24, 3)
    assert model.modality_names == ["a", "image", "sound"]


def test_integer_images_are_taken():
    model = keras_mmrel.ConcatFusion({"image": (8, 8, 3)}, 3)
    x = np.arange(4 * 192).astype("uint8").reshape(4, 8, 8, 3)
    expected = model.predict(
        {"image": x.astype("float32") / 255}, batch_size=48, verbose=0
    )
    assert_close(
        model.predict({"image": x}, batch_size=48, verbose=0),
        expected,
        atol=1e-6,
    )


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("cls", [keras_mmrel.LateFusion, keras_mmrel.QADMNet])
def test_an_encoder_may_take_a_dict(cls, tmp_path):
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    padding = keras.Input((5,), name="padding")
    embedded = keras.layers.Embedding(10, 4)(tokens)
    mean = ops.mean(embedded * padding[..., None], axis=1)
    text = keras.Model({"tokens": tokens, "padding": padding}, mean)
    model = cls({"text": text, "a": (6,)}, 3)
    x, y = vectors()
    words = np.random.default_rng(0).integers(0, 10, (48, 5))
    x = {
        "text": {"tokens": words, "padding": np.ones((48, 5), "float32")},
        "a": x["a"],
    }
    model.compile()
    model.fit(x, y, batch_size=24, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(
        loaded.predict(x, batch_size=48, verbose=0),
        model.predict(x, batch_size=48, verbose=0),
    )
    with pytest.raises(ValueError, match="'text' must be a dict with the keys"):
        model.predict({**x, "text": words})
    with pytest.raises(ValueError, match=r"'text/tokens' .*\(48, 4\)"):
        model.predict({**x, "text": {**x["text"], "tokens": words[:, :4]}})


def test_user_encoders_are_trained_and_saved_with_the_model(tmp_path):
    backbone = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    x, y = images()
    x = {"image": x["image"], "a": x["a"]}
    model = keras_mmrel.ConcatFusion({"image": backbone, "a": (6,)}, 3)
    assert model.built
    model.compile()
    model.fit(x, y, batch_size=24, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(
        loaded.predict(x, batch_size=48, verbose=0),
        model.predict(x, batch_size=48, verbose=0),
    )
    copy = json_round_trip(model)
    assert isinstance(copy.modality_specs["image"], keras.Sequential)


def test_an_encoder_without_a_known_shape_is_built_by_data(tmp_path):
    x, y = vectors()
    model = keras_mmrel.ConcatFusion(
        {"a": keras.layers.Dense(4), "b": (4,), "c": (5,)}, 3
    )
    assert not model.built
    model.compile()
    model.fit(x, y, batch_size=24, verbose=0)
    assert model.modality_shapes["a"] == (6,)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(
        loaded.predict(x, batch_size=48, verbose=0),
        model.predict(x, batch_size=48, verbose=0),
    )


def test_one_modality_alone_works():
    x, y = vectors(shapes={"a": (6,)})
    model = keras_mmrel.LateFusion({"a": (6,)}, 3)
    model.compile()
    model.fit(x, y, batch_size=24, verbose=0)
    assert model.predict(x, batch_size=48, verbose=0)["confidence"].shape == (
        48,
        1,
    )


def test_integer_modalities_reach_their_encoder_as_integers():
    encoder = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            keras.layers.Embedding(10, 4),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    x, y = vectors()
    x = {"a": x["a"], "text": np.arange(48 * 7).reshape(48, 7) % 10}
    model = keras_mmrel.ConcatFusion({"a": (6,), "text": encoder}, 3)
    model.compile()
    model.fit(x, y, batch_size=24, verbose=0)
    assert np.isfinite(
        model.predict(x, batch_size=48, verbose=0)["logits"]
    ).all()


def test_own_loss_metrics_and_class_weight_act_on_the_fused_logits():
    x, y = vectors()
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile(
        "sgd",
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=0.1
        ),
        metrics=[keras.metrics.CategoricalAccuracy(name="hits")],
    )
    history = model.fit(
        x, np.eye(3)[y], class_weight={0: 2.0, 1: 1.0, 2: 0.5}, verbose=0
    ).history
    assert set(history) == {"loss", "hits"}
    model.compile(loss="sparse_categorical_crossentropy")
    loss = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    log_p = np.log(model.predict(x, batch_size=48, verbose=0)["probabilities"])
    np.testing.assert_allclose(loss, -log_p[np.arange(48), y].mean(), rtol=1e-4)


def test_sample_weights_of_zero_remove_samples_from_every_loss_term():
    x, y = vectors()
    half = {k: v[:24] for k, v in x.items()}
    weights = np.r_[np.full(24, 2.0), np.zeros(24)].astype("float32")
    model = keras_mmrel.LateFusion(SHAPES, 3)
    model.compile()
    whole = model.evaluate(
        x, y, batch_size=48, sample_weight=weights, verbose=0, return_dict=True
    )
    part = model.evaluate(half, y[:24], verbose=0, return_dict=True)
    np.testing.assert_allclose(
        whole["modality_loss"], part["modality_loss"], rtol=1e-5
    )
    np.testing.assert_allclose(whole["loss"], part["loss"], rtol=1e-5)


def test_gradient_groups_split_the_variables_by_layer():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    groups = model.gradient_groups()
    assert list(groups) == ["a", "b", "c", "fusion"]
    grouped = [id(v) for group in groups.values() for v in group]
    assert sorted(grouped) == sorted(id(v) for v in model.trainable_variables)
    assert len(groups["fusion"]) == 4


def test_auxiliary_losses_must_be_the_declared_ones():
    class Undeclared(keras_mmrel.ConcatFusion):
        def auxiliary_losses(self, y, outputs, sample_weight=None):
            return {"surprise": ops.sum(outputs["logits"])}

    model = Undeclared(SHAPES, 3)
    model.compile()
    with pytest.raises(ValueError, match="surprise"):
        model.fit(*vectors(), verbose=0)


def test_a_resumed_run_is_exact(tmp_path):
    x, y = vectors()

    def new_model():
        keras.utils.set_random_seed(3)
        encoders = {
            name: keras_mmrel.encoders.MLPEncoder((16,), seed=index)
            for index, name in enumerate(SHAPES)
        }
        model = keras_mmrel.LateFusion(encoders, 3)
        model.compile(keras.optimizers.Adam(1e-2))
        return model

    kwargs = {"batch_size": 16, "shuffle": False, "verbose": 0}
    straight = new_model()
    straight.fit(x, y, epochs=4, **kwargs)
    first = new_model()
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(
            first, "stop_training", epoch == 1
        )
    )
    first.fit(x, y, epochs=4, callbacks=[stop], **kwargs)
    first.save(tmp_path / "half.keras")
    second = keras.saving.load_model(tmp_path / "half.keras")
    second.fit(x, y, epochs=4, initial_epoch=2, **kwargs)
    for a, b in zip(straight.weights, second.weights, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-6
        )


def test_summary_counts_weights_before_any_data():
    model = keras_mmrel.ConcatFusion({"a": (6,)}, 3)
    # encoder 6*64+64, head 64*3, bias 3, class counts 3, informative 1, clock
    # 6, and what is wrong with a, the mask, labels or weights, in training and
    # evaluation, with the samples, and how many of them there is something of
    assert model.count_params() == 448 + 192 + 3 + 3 + 1 + 6 + 2 * 6


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(16 * index, 16 * index + 16)
        return {k: v[part] for k, v in self.x.items()}, self.y[part]


def data_sources(x, y):
    yield Batches(x, y)
    yield (batch for batch in [(x, y)] * 2)
    try:
        import tensorflow as tf

        yield tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    except ImportError:
        pass
    try:
        import torch

        tensors = {k: torch.from_numpy(v) for k, v in x.items()}
        rows = [
            ({k: v[i] for k, v in tensors.items()}, int(y[i]))
            for i in range(len(y))
        ]
        yield torch.utils.data.DataLoader(rows, batch_size=16)
    except ImportError:
        pass


def test_every_data_source_of_keras_feeds_fit():
    x, y = vectors()
    for source in data_sources(x, y):
        model = keras_mmrel.LateFusion(SHAPES, 3)
        model.compile()
        history = model.fit(source, steps_per_epoch=2, verbose=0).history
        assert np.isfinite(history["loss"]).all(), type(source)


MODELS = [
    name
    for name in keras_mmrel.models.__all__
    if name not in ("AuxiliaryPaths", "Clock", "MultimodalModel", "SideInput")
]


@pytest.mark.filterwarnings("ignore:CAL measures")
@pytest.mark.parametrize("name", everywhere(MODELS, ["QADMNet", "AIM", "QMF"]))
def test_training_and_inference_have_the_same_outputs_but_for_the_record(name):
    x, _ = vectors()
    model = getattr(keras_mmrel, name)(SHAPES, 3, seed=1)
    assert model.seed == 1 and model.get_config()["seed"] == 1
    inference = model(x, training=False)
    training = dict(model(x, training=True))
    training.pop("training_record", None)
    assert set(training) == set(inference)
    for key, value in inference.items():
        assert tuple(training[key].shape) == tuple(value.shape), key


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("name", everywhere(MODELS, ["QADMNet", "MICINet"]))
def test_a_seed_makes_what_a_model_draws_repeatable(name):
    x, _ = vectors()
    first, second, other = (
        getattr(keras_mmrel, name)(SHAPES, 3, seed=seed) for seed in (5, 5, 6)
    )
    for model in (second, other):
        for target, source in zip(model.weights, first.weights, strict=True):
            target.assign(ops.convert_to_numpy(source))
    logits = [
        ops.convert_to_numpy(m(x, training=True)["logits"])
        for m in (first, second, other)
    ]
    np.testing.assert_array_equal(logits[0], logits[1])
    # In the state that a model begins with, some draw nothing yet.
    if name not in ("AIM", "CAL"):
        assert (logits[0] != logits[2]).any()


@pytest.mark.slow_on("jax", "tensorflow")
def test_labels_of_both_forms_are_scored_alike_whatever_comes_first():
    x, y = vectors()
    rows = np.eye(3, dtype="float32")[y]
    for first, second in ((rows, y), (y, rows)):
        model = keras_mmrel.LateFusion(SHAPES, 3)
        model.compile(run_eagerly=EAGER)
        logs = model.fit(
            x, first, validation_data=(x, second), verbose=0
        ).history
        right = (
            model.predict(x, batch_size=48, verbose=0)["logits"].argmax(1) == y
        )
        np.testing.assert_allclose(logs["val_accuracy"][0], right.mean())
        for labels in (first, second, y[:, None]):
            result = model.evaluate(x, labels, verbose=0, return_dict=True)
            np.testing.assert_allclose(result["accuracy"], right.mean())
    model.compile(metrics=["acc"], run_eagerly=EAGER)
    result = model.evaluate(x, rows, verbose=0, return_dict=True)
    np.testing.assert_allclose(result["acc"], right.mean())


def test_positional_arguments_are_those_of_keras():
    x, y = vectors()
    model = keras_mmrel.LateFusion(SHAPES, 3)
    model.compile(run_eagerly=EAGER)
    assert isinstance(model.evaluate(x, y, 24, 0, None, None, None, True), dict)
    assert model.predict(x, 24, 0, None, [])["logits"].shape == (48, 3)
    history = model.fit(
        x, y, 24, 3, 0, None, 0.0, None, False, None, np.ones(48), 2
    )
    assert history.epoch == [2]


def test_a_refused_modulation_leaves_the_compiled_model_as_it_was():
    taken = keras_mmrel.modulations.OGM()
    other = keras_mmrel.LateFusion(SHAPES, 3)
    other.compile("sgd", modulation=taken)
    model = keras_mmrel.LateFusion(SHAPES, 3)
    model.compile("adam")
    with pytest.raises(ValueError, match="one model only"):
        model.compile("sgd", modulation=taken)
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    # A model that is gone owns nothing.
    del other
    gc.collect()
    model.compile("sgd", modulation=taken)


def test_the_parts_of_a_model_are_built():
    # Keras calls a model with an unbuilt layer anew before each `predict` on
    # JAX.
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile(modulation=keras_mmrel.modulations.OGM())
    assert [layer.name for layer in model.layers if not layer.built] == []
    names = {layer.name for layer in model.layers}
    assert {"clock", "modulation_slot"} <= names


@pytest.mark.one_backend
def test_a_step_does_not_wait_for_what_its_device_computes(monkeypatch):
    x, y = vectors()
    model = keras_mmrel.ConcatFusion(SHAPES, 3, modality_loss_weight=1.0)
    model.compile()
    model.fit(x, y, verbose=0)

    def fetched(tensor):
        raise AssertionError("values were fetched")

    for module in (class_scores, _class_loss, _counted_weight):
        monkeypatch.setattr(module, "known_values", fetched)
    weight = np.ones(len(y))
    model.fit(x, y, sample_weight=weight, verbose=0)
    model.evaluate(x, y, sample_weight=weight, verbose=0)
    # A call of one's own says what is wrong, as ever.
    with pytest.raises(AssertionError, match="values were fetched"):
        keras_mmrel.losses.LabelCrossentropy()(y, np.zeros((len(y), 3)))
