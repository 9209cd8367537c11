"""Tables are read by their labels, and odd arrays as what they are."""

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from keras import ops

import keras_mmrel
from keras_mmrel import contract
from keras_mmrel import corruptions
from keras_mmrel import evaluation
from tests.helpers import everywhere

RNG = np.random.default_rng(0)
A = RNG.normal(size=(12, 3)).astype("float32")
B = RNG.normal(size=(12, 2)).astype("float32")
Y = np.arange(12) % 3
IDS = [f"p{i}" for i in range(12)]
FRAME_A = pd.DataFrame(A, index=IDS, columns=["u", "v", "w"])
FRAME_B = pd.DataFrame(B, index=IDS, columns=["r", "s"])
SERIES = pd.Series(Y, index=IDS)
MASK = np.ones((12, 2), "float32")


@pytest.fixture(scope="module")
def shared():
    model = keras_mmrel.ConcatFusion({"a": (3,), "b": (2,)}, 3)
    model.compile(run_eagerly=True)
    return model


@pytest.fixture
def model(shared):
    """One model, which has seen no columns."""
    shared.modality_inputs.columns = {}
    return shared


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def mapped(array, path):
    memory = np.memmap(path, array.dtype, "w+", shape=array.shape)
    memory[:] = array
    return memory


SAME = {
    "frame": lambda _: FRAME_A,
    "nullable": lambda _: FRAME_A.astype("Float64"),
    "sparse columns": lambda _: FRAME_A.astype(pd.SparseDtype("float32")),
    "memory map": lambda folder: mapped(A, folder / "a.dat"),
    "big endian": lambda _: A.astype(">f4"),
    "long double": lambda _: A.astype(np.longdouble),
    "double": lambda _: A.astype("float64"),
    "fortran": lambda _: np.asfortranarray(A),
    "negative strides": lambda _: A[::-1].copy()[::-1],
    "read-only": lambda _: read_only(A),
    "matrix": lambda _: np.matrix(A),
    "nothing masked": lambda _: np.ma.array(A),
    "tensor": lambda _: ops.convert_to_tensor(A),
}


@pytest.mark.parametrize("name", SAME)
def test_it_is_read_as_what_it_holds(name, model, tmp_path):
    expected = model.predict({"a": A, "b": B}, verbose=0)["logits"]
    found = model.predict({"a": SAME[name](tmp_path), "b": B}, verbose=0)
    np.testing.assert_allclose(found["logits"], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["polars", "pyarrow", "arrow columns"])
def test_tables_of_other_libraries_are_read(kind, model):
    package = "polars" if kind == "polars" else "pyarrow"
    module = pytest.importorskip(package)
    columns = {name: A[:, i] for i, name in enumerate("uvw")}
    table, labels = {
        "polars": lambda: (module.DataFrame(columns), module.Series(Y)),
        "pyarrow": lambda: (module.table(columns), module.array(Y)),
        "arrow columns": lambda: (
            FRAME_A.astype("float[pyarrow]"), SERIES.astype("int64[pyarrow]"),
        ),
    }[kind]()  # fmt: skip
    expected = model.evaluate({"a": A, "b": B}, Y, verbose=0)
    found = model.evaluate({"a": table, "b": B}, labels, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [
    "uint64", "uint32", "uint16", "uint8", "int64", "int8", "bool", "float16",
])  # fmt: skip
def test_numbers_of_every_width_are_read(dtype, model):
    values = (np.arange(36).reshape(12, 3) % 2).astype(dtype)
    expected = model.predict(
        {"a": values.astype("float32"), "b": B}, verbose=0
    )["logits"]
    found = model.predict({"a": values, "b": B}, verbose=0)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


LABELS = {
    "series": SERIES,
    "nullable": SERIES.astype("Int64"),
    "category": SERIES.astype("category"),
    "frame": SERIES.to_frame(),
    "dummies": pd.get_dummies(SERIES),
    "index": pd.Index(Y),
    "uint64": Y.astype("uint64"),
    "uint32": Y.astype("uint32"),
    "uint16": Y.astype("uint16"),
    "big endian": Y.astype(">i8"),
    "negative strides": Y[::-1].copy()[::-1],
    "column": Y[:, None],
    "nothing masked": np.ma.array(Y),
    "rows": np.eye(3)[Y],
    "tensor": ops.convert_to_tensor(Y.astype("int32")),
}


# Those whose dtype or shape reaches the backend, on all.
REACHING = ["series", "dummies", "uint64", "uint16", "column", "rows", "tensor"]


@pytest.mark.parametrize("name", everywhere(LABELS, REACHING))
def test_labels_are_read_as_what_they_hold(name, model):
    x = {"a": FRAME_A, "b": FRAME_B}
    model.compile(run_eagerly=True)
    expected = model.evaluate({"a": A, "b": B}, Y, verbose=0)
    found = model.evaluate(x, LABELS[name], verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    weight = pd.Series(np.ones(12), index=IDS)
    model.train_on_batch(x, LABELS[name], sample_weight=weight)
    model.fit(
        x, LABELS[name], sample_weight=weight, verbose=0,
        validation_data=(x, LABELS[name], weight),
    )  # fmt: skip


def test_labels_of_every_form_are_one_program():
    # A column among rows and numbers was a shape too many for TensorFlow.
    model = keras_mmrel.ConcatFusion({"a": (3,), "b": (2,)}, 3)
    model.compile()
    expected = model.evaluate({"a": A, "b": B}, Y, verbose=0)
    for y in (np.eye(3)[Y], Y[:, None], np.eye(3)[Y], Y):
        found = model.evaluate({"a": A, "b": B}, y, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def with_text(frame):
    frame = frame.copy()
    frame["u"] = pd.Categorical(["f", "m"] * 6)
    return frame


def with_missing(frame):
    frame = frame.astype("Float64")
    frame.iloc[3, 1] = pd.NA
    return frame


BAD = {
    "missing value": ({"a": with_missing(FRAME_A)}, "'a' must be finite"),
    "category": ({"a": with_text(FRAME_A)}, "'u': 'category'"),
    "object": ({"a": FRAME_A.astype(object)}, "'u': 'object'"),
    "date": ({"a": A.astype("datetime64[s]")}, "hold numbers.*datetime64"),
    "duration": ({"a": A.astype("timedelta64[s]")}, "timedelta64"),
    "complex": ({"a": A.astype(complex)}, "hold numbers.*complex128"),
    "text": ({"a": A.astype(str)}, "hold numbers.*<U"),
    "bytes": ({"a": A.astype("S")}, "hold numbers.*S32"),
    "objects": ({"a": A.astype(object)}, "hold numbers.*object"),
    "structured": (
        {"a": np.zeros(12, [("u", "f4"), ("v", "f4")])},
        "hold numbers",
    ),
    "masked": ({"a": np.ma.masked_greater(A, 1)}, "no masked entries"),
    "csr": ({"a": scipy.sparse.csr_matrix(A)}, "dense.*csr_matrix"),
    "coo": ({"a": scipy.sparse.coo_array(A)}, "dense.*coo_array"),
    "other rows": ({"a": FRAME_A[::-1], "b": FRAME_B}, "same row labels"),
    "mask in another order": (
        {"modality_mask": pd.DataFrame(MASK, columns=["b", "a"])},
        r"columns \['a', 'b'\], in this order",
    ),
    "masked mask": (
        {"modality_mask": np.ma.masked_equal(MASK, 1)},
        "no masked entries",
    ),
    "list for a mask": (
        {"modality_mask": MASK.tolist()},
        "'modality_mask' must be an array",
    ),
    "text for a mask": (
        {"modality_mask": MASK.astype(str)},
        "'modality_mask' must hold numbers",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_array_of_numbers_is_refused(name, model):
    change, text = BAD[name]
    x = {"a": A, "b": B, **change}
    for call in (
        lambda: model.predict(x, verbose=0),
        lambda: model.evaluate(x, Y, verbose=0),
        lambda: model.fit(x, Y, verbose=0),
        lambda: model.train_on_batch(x, Y),
        lambda: model.test_on_batch(x, Y),
        lambda: model.fit(
            {"a": A, "b": B}, Y, validation_data=(x, Y), verbose=0
        ),
    ):
        with pytest.raises(ValueError, match=text) as error:
            call()
        assert "\n" not in str(error.value)


def test_sparse_and_ragged_tensors_are_refused(model):
    backend = keras.config.backend()
    if backend == "torch":
        import torch

        bad = [torch.tensor(A).to_sparse(), torch.tensor(A).to_sparse_csr()]
    elif backend == "tensorflow":
        import tensorflow as tf

        bad = [tf.sparse.from_dense(A), tf.RaggedTensor.from_tensor(A)]
    else:
        from jax.experimental import sparse

        bad = [sparse.BCOO.fromdense(A)]
    for tensor in bad:
        with pytest.raises(ValueError, match="'a' must be dense"):
            model.predict({"a": tensor, "b": B})


BAD_LABELS = {
    "other rows": (SERIES[::-1], "'a' and `y` must have the same row labels"),
    "no labels": (pd.Series(Y), "same row labels"),
    "text": (SERIES.map(str), "integer class numbers"),
    "text category": (SERIES.map(str).astype("category"), "integer class"),
    "missing": (SERIES.astype("Int64").where(Y > 0), "y.dtype=float64"),
    "masked": (np.ma.masked_equal(Y, 2), "`y` must have no masked entries"),
    "dummies in another order": (
        pd.get_dummies(SERIES)[[2, 0, 1]],
        r"order of the classes. Received: \[2, 0, 1\]",
    ),
    "by output": ({"logits": Y}, "`y` must be one array of labels"),
    "sparse": (scipy.sparse.csr_matrix(np.eye(3)[Y]), "`y` must be dense"),
    "huge": (np.full(12, 2**63 + 5, "uint64"), "class numbers in"),
    "complex": (Y.astype(complex), "integer class numbers"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_that_are_none_are_refused(name, model):
    y, text = BAD_LABELS[name]
    x = {"a": FRAME_A, "b": FRAME_B}
    for call in (
        lambda: model.evaluate(x, y, verbose=0),
        lambda: model.fit(x, y, verbose=0),
        lambda: model.train_on_batch(x, y),
    ):
        with pytest.raises(ValueError, match=text):
            call()


def test_weights_have_the_rows_of_the_data(model):
    weight = pd.Series(np.ones(12), index=IDS[::-1])
    x = {"a": FRAME_A, "b": B}
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="and `sample_weight` must have"):
            call(x, Y, sample_weight=weight, verbose=0)


def test_columns_are_those_of_the_training(tmp_path):
    x = {"a": FRAME_A, "b": FRAME_B}
    model = keras_mmrel.ConcatFusion({"a": (3,), "b": (2,)}, 3)
    model.compile(run_eagerly=True)
    turned = {**x, "a": FRAME_A[["v", "u", "w"]]}
    with pytest.raises(ValueError, match="must be finite"):
        model.fit({**turned, "b": np.nan * B}, Y, verbose=0)
    # What was refused has taught no columns.
    model.fit(x, SERIES, verbose=0)
    expected = model.predict(x, verbose=0)["logits"]
    text = r"columns that the model was trained .*\['v'\] .* \['u'\]"
    for call in (
        lambda model: model.predict(turned, verbose=0),
        lambda model: model.evaluate(turned, Y, verbose=0),
        lambda model: model.fit(turned, Y, verbose=0),
        lambda model: model.fit(x, Y, validation_data=(turned, Y), verbose=0),
    ):
        with pytest.raises(ValueError, match=text):
            call(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=text):
        loaded.predict(turned, verbose=0)
    # Without names it is the user who knows.
    for plain in ({"a": A, "b": B}, x):
        found = loaded.predict(plain, verbose=0)["logits"]
        np.testing.assert_allclose(found, expected, atol=1e-6)


P = np.exp(RNG.normal(size=(12, 3)))
P /= P.sum(1, keepdims=True)
FRAME_P = pd.DataFrame(P, index=IDS)
FRAME_Z = pd.DataFrame(np.log(P), index=IDS)
FRAMES = {"a": FRAME_A, "b": FRAME_B}
CALLS = {
    "temperature": lambda y: evaluation.TemperatureScaling().fit(FRAME_Z, y),
    "conformal": lambda y: evaluation.ConformalSets(0.5).fit(FRAME_P, y),
    "conformal, evaluated": lambda y: (
        evaluation.ConformalSets(0.5).fit(P, Y).evaluate(FRAME_P, y)
    ),
    "selective": lambda y: evaluation.selective_prediction(
        FRAME_P, y, 0.9, 0.5
    ),
    "predictions": lambda y: evaluation.Predictions(FRAME_P, y),
    "conflict": lambda y: corruptions.ModalityConflict(0.5)(FRAMES, labels=y),
    "brier": lambda y: keras_mmrel.metrics.BrierScore().update_state(
        y, FRAME_Z
    ),
    "auroc": lambda y: keras_mmrel.metrics.DetectionAUROC().update_state(
        y.clip(0, 1), FRAME_P[0]
    ),
    "loss": lambda y: keras_mmrel.losses.LabelCrossentropy()(y, FRAME_Z),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_no_rows_are_joined_by_position_against_their_labels(name):
    CALLS[name](SERIES)
    for other in (SERIES[::-1], pd.Series(Y)):
        with pytest.raises(ValueError, match="same row labels"):
            CALLS[name](other)


def test_evaluations_of_a_model_read_tables(model):
    x = {"a": FRAME_A, "b": FRAME_B}
    turned = {"a": FRAME_A, "b": FRAME_B[::-1]}
    plain = {"a": A, "b": B}
    noise = corruptions.GaussianNoise(1.0)
    np.testing.assert_array_equal(noise(x)["a"], noise(plain)["a"])
    np.testing.assert_array_equal(noise.corrupted(x), noise.corrupted(plain))

    def report(x, y):
        return evaluation.evaluate_robustness(
            model, x, y, ["missing"], verbose=0, scores=["accuracy", "nll"]
        ).scores

    def contributions(x, y):
        return evaluation.modality_contributions(model, x, y)

    for function in (report, contributions):
        pd.testing.assert_frame_equal(function(x, SERIES), function(plain, Y))
        for bad, y in ((turned, Y), (x, SERIES[::-1])):
            with pytest.raises(ValueError, match="same row labels"):
                function(bad, y)
    for call in (noise, noise.corrupted):
        with pytest.raises(ValueError, match="same row labels"):
            call(turned)


@pytest.mark.slow_on("jax")
def test_what_is_fitted_or_explained_reads_tables():
    x = {"a": FRAME_A, "b": FRAME_B}
    turned = {"a": FRAME_A, "b": FRAME_B[::-1]}
    shapes = {"a": (3,), "b": (2,)}
    explained = keras_mmrel.MICINet(shapes, 3).explain
    adapted = keras_mmrel.QADMNet(shapes, 3).adapt
    control = keras_mmrel.layers.RangeControl()
    for call in (
        explained,
        lambda x: adapted(x, SERIES),
        control.adapt,
        lambda x: keras_mmrel.callbacks.ModalityMonitor(x, SERIES),
    ):
        call(x)
        with pytest.raises(ValueError, match="same row labels"):
            call(turned)


def test_a_plain_array_is_handed_on_without_a_copy():
    x, y, weight = contract.read_tables({"a": A, "b": {"i": B}}, Y, None)
    assert x["a"] is A
    assert x["b"]["i"] is B
    assert y is Y
    assert weight is None
