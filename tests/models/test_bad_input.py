"""Bad input is refused in one sentence before the first step."""

import json
import tracemalloc
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.models.validation import CHUNK_BYTES
from keras_mmrel.models.validation import check_arrays
from tests.helpers import SHAPES
from tests.helpers import vectors


def compiled():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile()
    return model


def change(x, **changes):
    return {k: v for k, v in {**x, **changes}.items() if v is not None}


X, Y = vectors()
ONE_HOT = np.eye(3, dtype="float32")[Y]
MASK = np.ones((48, 3), "float32")
BAD_ARRAYS = {
    "missing": (change(X, b=None), Y, r"missing: \['b'\]"),
    "extra": (change(X, d=X["a"]), Y, r"unknown: \['d'\]"),
    "no dict": (X["a"], Y, "Inputs must be a dict"),
    "rank": (change(X, a=X["a"][:, :, None]), Y, r"\(batch, 6\).*48, 6, 1"),
    "size": (change(X, a=X["a"][:, :5]), Y, r"\(batch, 6\).*\(48, 5\)"),
    "lengths": (change(X, a=X["a"][:40]), Y, "same number of samples"),
    "empty": ({k: v[:0] for k, v in X.items()}, Y[:0], "at least one sample"),
    "nan": (
        change(X, b=np.where(X["b"] > 0.5, np.nan, X["b"])),
        Y,
        f"Modality 'b' .* {int((X['b'] > 0.5).sum())} NaN",
    ),
    "inf": (change(X, b=X["b"] + np.inf), Y, "Modality 'b' .* 192 NaN"),
    "huge": (change(X, b=X["b"] * 1e19), Y, "Modality 'b' .* at most 1e.15"),
    "text": (
        change(X, b=X["b"].astype(str)),
        Y,
        "Modality 'b' must hold numbers",
    ),
    "list": (change(X, b=X["b"].tolist()), Y, "Modality 'b' must be an array"),
    "list of labels": (X, Y.tolist(), "`y` must be an array"),
    "order beside a mask": (
        {k: X[k] for k in ("c", "b", "a")} | {"modality_mask": MASK},
        Y,
        r"order of its columns, which is \['a', 'b', 'c'\]",
    ),
    "mask shape": (
        change(X, modality_mask=MASK[:, :2]),
        Y,
        r"'modality_mask' must have the shape \(batch, 3\)",
    ),
    "mask values": (
        change(X, modality_mask=MASK * 0.5),
        Y,
        "only 0 .missing. and 1 .present.",
    ),
    "negative label": (X, Y - 1, r"\[0, 3\). Received: values from -1 to 1"),
    "large label": (X, Y + 1, r"\[0, 3\). Received: values from 1 to 3"),
    "float label": (X, Y.astype("float32"), "integer class numbers"),
    "one-hot width": (X, np.eye(4)[Y], "must have 3 columns"),
    "one-hot sum": (X, ONE_HOT * 2, "rows that sum to 1"),
    "label rank": (X, ONE_HOT[:, :, None], r"y.shape=\(48, 3, 1\)"),
    "label count": (X, Y[:40], "40 labels for 48 samples"),
    "no label": (X, None, "y=None"),
    "one class": (X, np.zeros_like(Y), "at least two classes"),
}


@pytest.fixture(scope="module")
def one_model():
    return compiled()


# Refused on the host, before any backend is asked.
@pytest.mark.one_backend
@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_fit_refuses_and_leaves_the_model_usable(one_model, case):
    x, y, text = BAD_ARRAYS[case]
    model = one_model
    before = [ops.convert_to_numpy(w) for w in model.weights]
    with pytest.raises(ValueError, match=text):
        model.fit(x, y, verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), old)
    model.fit(X, Y, verbose=0)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "arguments",
    [
        {"validation_split": 0.7},
        {"class_weight": {0: 1.0, 1: 0.0, 2: 0.0}},
        {"sample_weight": (np.sort(Y) == 0)},
        {
            "validation_split": 0.4,
            "sample_weight": (np.sort(Y) != 0).astype("float32"),
        },
    ],
    ids=["validation", "class weight", "sample weight", "two together"],
)
def test_two_classes_must_be_left_to_train_on(one_model, arguments):
    left = 1 if len(arguments) == 2 else 0
    text = (
        rf"two classes .* `validation_split`. Received: only class \[{left}\]"
    )
    with pytest.raises(ValueError, match=text):
        one_model.fit(X, np.sort(Y), verbose=0, **arguments)


def test_predict_evaluate_and_validation_data_are_checked_too():
    model = compiled()
    bad, y, text = BAD_ARRAYS["nan"]
    with pytest.raises(ValueError, match=text):
        model.predict(bad)
    with pytest.raises(ValueError, match=text):
        model.evaluate(bad, y)
    with pytest.raises(ValueError, match=text):
        model.fit(X, Y, validation_data=(bad, y), verbose=0)
    # One class is enough to evaluate on.
    model.evaluate(X, np.zeros_like(Y), verbose=0)


def test_a_pipeline_is_checked_by_its_first_batch():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X, Y + 1

    with pytest.raises(ValueError, match="class numbers in"):
        compiled().fit(Batches(), verbose=0)


def test_a_torch_loader_is_checked_by_its_first_batch():
    torch = pytest.importorskip("torch")
    samples = [({k: v[i] for k, v in X.items()}, Y[i] + 2) for i in range(48)]
    model = compiled()
    with pytest.raises(ValueError, match=r"class numbers in \[0, 3\)"):
        model.fit(torch.utils.data.DataLoader(samples, batch_size=16))


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
def test_single_batches_are_checked(method):
    call = getattr(compiled(), method)
    with pytest.raises(ValueError, match="values from 1 to 3"):
        call(X, Y + 1)
    with pytest.raises(ValueError, match="Modality 'a' must be finite"):
        call(change(X, a=X["a"] * np.nan), Y)
    assert np.isfinite(call(X, Y)).all()


@pytest.mark.parametrize("labels", [None, ()])
def test_held_out_data_need_labels(labels):
    model = compiled()
    held_out = (X,) if labels == () else (X, labels)
    with pytest.raises(ValueError, match="a label for each sample"):
        model.fit(X, Y, validation_data=held_out, verbose=0)
    with pytest.raises(ValueError, match="a label for each sample"):
        model.evaluate(X)


def test_an_augmentation_must_be_a_layer():
    noise = keras_mmrel.corruptions.GaussianNoise(0.5)
    with pytest.raises(ValueError, match="`augmentation` must be .*Gaussian"):
        keras_mmrel.ConcatFusion(SHAPES, 3, augmentation=noise)


def test_nan_under_mask_zero_is_allowed():
    mask = MASK.copy()
    mask[:, 1] = 0
    x = change(X, b=np.full_like(X["b"], np.nan), modality_mask=mask)
    history = compiled().fit(x, Y, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("classes", [1, 0, -3, 2.5, "3", None, True])
def test_num_classes_must_be_an_integer_of_at_least_two(classes):
    with pytest.raises(ValueError, match="`num_classes` must be an integer"):
        keras_mmrel.ConcatFusion(SHAPES, classes)


@pytest.mark.parametrize(
    "modalities, text",
    [
        ({}, "non-empty dict"),
        ([(6,)], "non-empty dict"),
        ({"": (6,)}, "non-empty strings"),
        ({"modality_mask": (6,)}, "non-empty strings"),
        ({"a": 6}, r"`modalities\['a'\]` must be a shape"),
        ({"a": (6, -1)}, r"`modalities\['a'\]` must be a shape"),
        ({"a": ()}, r"`modalities\['a'\]` must be a shape"),
        ({"a": (2, 2, 2, 2, 2)}, "one to four axes"),
    ],
)
def test_bad_modalities_are_named(modalities, text):
    with pytest.raises(ValueError, match=text):
        keras_mmrel.ConcatFusion(modalities, 3)


def test_an_encoder_that_returns_a_map_is_named():
    encoder = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 3)]
    )
    with pytest.raises(ValueError, match="encoder of modality 'image'"):
        keras_mmrel.ConcatFusion({"image": encoder}, 3)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.KLDivergence(),
        keras.losses.categorical_crossentropy,
        "kl_divergence",
        "poisson",
    ],
)
def test_a_loss_on_probabilities_is_refused(loss):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    with pytest.raises(ValueError, match="`loss` must take logits"):
        model.compile(loss=loss)


@pytest.mark.parametrize("loss", [{"logits": "mse"}, ["mse", "mae"]])
def test_several_losses_are_refused(loss):
    with pytest.raises(ValueError, match="`loss` must be one loss"):
        keras_mmrel.ConcatFusion(SHAPES, 3).compile(loss=loss)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        ["sparse_categorical_crossentropy"],
        "SparseCategoricalCrossentropy",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ],
)
def test_a_named_loss_takes_logits(loss):
    model, default = keras_mmrel.ConcatFusion(SHAPES, 3), compiled()
    default.set_weights(model.get_weights())
    model.compile(loss=loss)
    np.testing.assert_allclose(
        model.evaluate(X, Y, 16, 0)[0], default.evaluate(X, Y, 16, 0)[0], 1e-5
    )


def test_weights_of_another_class_are_refused(tmp_path):
    path = str(tmp_path / "late.weights.h5")
    keras_mmrel.LateFusion(SHAPES, 3).save_weights(path)
    with pytest.raises(ValueError):
        compiled().load_weights(path)


def test_a_file_of_another_class_loads_as_what_it_is(tmp_path):
    path = tmp_path / "late.keras"
    keras_mmrel.LateFusion(SHAPES, 3).save(path)
    assert type(keras.saving.load_model(path)) is keras_mmrel.LateFusion
    with pytest.raises(TypeError, match="LateFusion"):
        keras_mmrel.ConcatFusion.load(path)
    assert type(keras_mmrel.LateFusion.load(path)) is keras_mmrel.LateFusion


def test_a_config_of_another_class_is_named():
    config = keras.layers.Dense(3).get_config()
    with pytest.raises(ValueError, match="ConcatFusion and hold 'modalities'"):
        keras_mmrel.ConcatFusion.from_config(config)


@pytest.mark.parametrize("damage", ["truncated", "no zip", "no weights"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "model.keras"
    compiled().save(path)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "no zip":
        path.write_bytes(b"hello")
    else:
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", config)
    with pytest.raises(ValueError, match="model.keras"):
        keras_mmrel.ConcatFusion.load(path)


def test_a_file_of_more_classes_than_weights_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    compiled().save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["num_classes"] = 10**12
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="weights of all its classes"):
        keras_mmrel.ConcatFusion.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.keras"):
        keras_mmrel.ConcatFusion.load(tmp_path / "nowhere.keras")


def test_after_ctrl_c_the_model_predicts_and_saves(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=8, callbacks=[Interrupt()], verbose=0)
    before = model.predict(X, verbose=0)
    assert np.isfinite(before["logits"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras_mmrel.ConcatFusion.load(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0)["logits"], before["logits"], atol=1e-6
    )
    model.fit(X, Y, verbose=0)


# -- What checking costs ------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_checking_copies_no_data(masked):
    x = {k: np.ones((200_000, v.shape[1]), "float32") for k, v in X.items()}
    if masked:
        x["modality_mask"] = np.ones((200_000, 3), "bool")
        x["modality_mask"][::2, 1] = 0
        x["b"][::2] = np.nan
    largest = max(v.nbytes for v in x.values())
    tracemalloc.start()
    check_arrays(x, SHAPES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Chunks, and a mask as booleans.
    assert peak < largest / 2 + 2 * 200_000 * 3 + 2 * CHUNK_BYTES
    assert CHUNK_BYTES < largest
    x["a"][150_000, 3] = np.inf
    x["c"][150_000, 2] = 1e20
    with pytest.raises(ValueError, match="Modality 'a' .* 1 NaN or infinite"):
        check_arrays(x, SHAPES)
    x["a"][150_000, 3] = 0
    with pytest.raises(ValueError, match="Modality 'c' .* Received: 1e.20"):
        check_arrays(x, SHAPES)


def test_only_the_samples_that_are_used_are_looked_at():
    model = compiled()
    bad = {k: v.copy() for k, v in X.items()}
    bad["a"][32:] = np.nan
    out = model.predict(bad, batch_size=16, steps=2, verbose=0)
    assert np.isfinite(out["logits"]).all()
    model.evaluate(bad, Y, batch_size=16, steps=2, verbose=0)
    with pytest.raises(ValueError, match="Modality 'a' must be finite"):
        model.predict(bad, batch_size=16, steps=3, verbose=0)
    labels = np.where(np.arange(len(Y)) < 32, Y, 7)
    model.evaluate(X, labels, batch_size=16, steps=2, verbose=0)
    with pytest.raises(ValueError, match="Received: values from 0 to 7"):
        model.evaluate(X, labels, batch_size=16, steps=3, verbose=0)
    with pytest.raises(ValueError, match="32 labels for 48 samples"):
        model.evaluate(X, Y[:32], batch_size=16, steps=2, verbose=0)


def peak_of(call):
    """Most bytes that NumPy held during a call."""
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_tensors_are_checked_in_chunks_and_only_what_is_used():
    n = 600_000
    x = {k: ops.ones((n, v.shape[1]), "float32") for k, v in X.items()}
    y = ops.arange(n, dtype="int32") % 3
    inputs = compiled().modality_inputs
    # JAX compiles the slices first.
    inputs.check(x, y, rows=64)
    assert peak_of(lambda: inputs.check(x, y, rows=64)) < 200_000
    assert peak_of(lambda: inputs.check(x)) < 2.5 * CHUNK_BYTES
    assert x["a"].shape[1] * n * 4 > 3 * CHUNK_BYTES
    x["a"] = ops.concatenate([x["a"][1:], x["a"][:1] + np.inf])
    with pytest.raises(ValueError, match="Modality 'a' .* 6 NaN or infinite"):
        inputs.check(x)
    inputs.check(x, rows=n - 1)


def test_a_generator_is_checked_by_its_first_batch():
    batches = ((x, Y) for x in [change(X, a=X["a"] * np.nan), X])
    model = compiled()
    with pytest.raises(ValueError, match="Modality 'a' must be finite"):
        model.fit(batches, steps_per_epoch=2, verbose=0)


@pytest.mark.filterwarnings("ignore:Modality 'b' holds values up to")
def test_what_float16_cannot_hold_is_refused_by_a_model_that_computes_in_it():
    x = {k: v.copy() for k, v in X.items()}
    x["b"][3, 1] = 7e4
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile()
    model.fit(x, Y, verbose=0)
    half = keras_mmrel.ConcatFusion(SHAPES, 3, dtype="mixed_float16")
    half.compile()
    text = "Modality 'b' must hold values of at most 65504 .* Received: 7e.04"
    for run in (half.fit, half.evaluate):
        with pytest.raises(ValueError, match=text):
            run(x, Y, verbose=0)
    with pytest.raises(ValueError, match=text):
        half.predict(x, verbose=0)
    half.fit(X, Y, verbose=0)


def test_a_model_is_not_compiled_without_a_loss():
    model = keras_mmrel.LateFusion(SHAPES, 3)
    with pytest.raises(ValueError, match="`loss` must be .* Received: loss="):
        model.compile(loss=None)


def test_arrays_of_bfloat16_are_numbers():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    model = compiled()
    rounded = {k: v.astype(ml_dtypes.bfloat16) for k, v in X.items()}
    expected = model.predict(
        {k: v.astype("float32") for k, v in rounded.items()}, verbose=0
    )
    out = model.predict(rounded, verbose=0)
    np.testing.assert_allclose(out["logits"], expected["logits"], atol=0.02)
    model.fit(rounded, Y, verbose=0)
