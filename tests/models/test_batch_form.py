"""Batches of a pipeline are alike, or a sentence of ours says what is not."""

import gc

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import vectors

X, Y = vectors()
NAMES = list(SHAPES)


@pytest.fixture(autouse=True)
def tidy():
    """TensorFlow waits long for many pipelines that ended early, at once."""
    yield
    gc.collect()


def batches(change=None, mask=False):
    """Three batches; `change` makes another one of the last."""
    parts = []
    for start in range(0, 48, 16):
        rows = slice(start, start + 16)
        x = {name: value[rows] for name, value in X.items()}
        if mask:
            x["modality_mask"] = np.ones((16, 3), "float32")
        parts.append((x, Y[rows]))
    if change:
        parts[-1] = change(*parts[-1])
    return parts


class Pipeline(keras.utils.PyDataset):
    def __init__(self, parts, **kwargs):
        super().__init__(**kwargs)
        self.parts = parts
        self.epochs = 0

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]

    def on_epoch_end(self):
        self.epochs += 1


def generator(parts):
    yield from parts


def loader(parts):
    torch = pytest.importorskip("torch")
    tensors = [keras.tree.map_structure(torch.tensor, part) for part in parts]
    return torch.utils.data.DataLoader(tensors, batch_size=None)


SOURCES = {
    "dataset": Pipeline,
    "threads": lambda parts: Pipeline(parts, workers=2),
    "generator": generator,
    "iterator": iter,
    "loader": loader,
}


def turned(x, y):
    names = ["b", "a", "c", "modality_mask"]
    return {name: x[name] for name in names}, y


def masked(x, y):
    return {**x, "modality_mask": np.ones((16, 3), "float32")}, y


def lost(x, y):
    return {"a": x["a"], "b": x["b"]}, y


def another(x, y):
    return {**x, "d": x["a"]}, y


def narrow(x, y):
    return {**x, "a": x["a"][:, :5]}, y


def short(x, y):
    return {**x, "a": x["a"][:7]}, y


def rows_of_labels(x, y):
    return x, np.eye(3, dtype="float32")[y]


CASES = {
    "order": (turned, "must list the modalities in the order of its columns"),
    "mask": (masked, r"Every batch must hold .*'c', 'y'\]. Received: .*mask"),
    "lost": (lost, "must have exactly the modalities .*missing: .'c'"),
    "another": (another, "must have exactly the modalities .*unknown: .'d'"),
    "narrow": (narrow, r"Modality 'a' must have the shape \(batch, 6\)"),
    "short": (short, "must have the same number of samples.*'a': 7, 'b': 16"),
    "labels": (lambda x, y: (x, y[:7]), "`y` must have one row a sample, 16"),
    "form": (rows_of_labels, "Every batch must hold .*'y as rows'"),
    "listed": (lambda x, y: (x, y.tolist()), "hold .*'y'.* 'y as a list'"),
    "text": (lambda x, y: (x, y.astype(str)), "hold .*'y'.* 'y as text'"),
    "halves": (lambda x, y: (x, y + 0.5), "hold .*'y'.* .*'y as floats'"),
    "weight": (
        lambda x, y: (x, y, np.ones(16, "float32")),
        "Every batch must hold .*'sample_weight'",
    ),
    "no labels": (lambda x, y: (x,), "Every batch must hold"),
}


@pytest.fixture(scope="module")
def model():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile(run_eagerly=EAGER)
    return model


def one_line(error):
    return str(error.value).count("\n") == 0


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("source", ["dataset", "generator"])
def test_another_batch_than_the_first_is_refused(model, source, case):
    change, text = CASES[case]
    parts = batches(change, mask=case == "order")
    with pytest.raises(ValueError, match=text) as error:
        model.fit(SOURCES[source](parts), epochs=2, verbose=0)
    assert one_line(error)


@pytest.mark.parametrize("source", ["threads", "iterator", "loader"])
def test_every_source_is_looked_at(model, source):
    change, text = CASES["order"]
    parts = batches(change, mask=True)
    with pytest.raises(ValueError, match=text) as error:
        model.fit(SOURCES[source](parts), verbose=0)
    assert one_line(error)


def test_evaluation_validation_and_prediction_are_looked_at(model):
    change, text = CASES["narrow"]
    parts = batches(change)
    with pytest.raises(ValueError, match=text):
        model.fit(X, Y, validation_data=Pipeline(parts), verbose=0)
    with pytest.raises(ValueError, match=text):
        model.evaluate(Pipeline(parts), verbose=0)
    with pytest.raises(ValueError, match=text):
        model.predict(Pipeline(parts), verbose=0)


@pytest.mark.parametrize("source", [s for s in SOURCES if s != "threads"])
def test_good_batches_train_as_arrays_do(source):
    results = []
    for data in ((X, Y), (SOURCES[source](batches()),)):
        keras.utils.set_random_seed(0)
        model = keras_mmrel.ConcatFusion(SHAPES, 3, seed=0)
        model.compile(run_eagerly=EAGER)
        size = {"batch_size": 16} if len(data) == 2 else {}
        model.fit(*data, shuffle=False, verbose=0, **size)
        results.append(model.predict(X, verbose=0)["logits"])
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def test_a_data_set_is_told_of_epochs(model):
    data = Pipeline(batches())
    model.fit(data, epochs=3, verbose=0)
    # Keras tells it once more, before the first epoch.
    assert data.epochs >= 3


@pytest.mark.parametrize("source", ["dataset", "generator"])
def test_tables_in_batches_are_read(source):
    pandas = pytest.importorskip("pandas")

    def framed(x, y):
        return {**x, "a": pandas.DataFrame(x["a"], columns=list("uvwxyz"))}, y

    def renamed(x, y):
        return {**x, "a": pandas.DataFrame(x["a"], columns=list("vuwxyz"))}, y

    results = []
    for parts in (batches(), [framed(*part) for part in batches()]):
        keras.utils.set_random_seed(0)
        model = keras_mmrel.ConcatFusion(SHAPES, 3, seed=0)
        model.compile(run_eagerly=EAGER)
        model.fit(SOURCES[source](parts), shuffle=False, verbose=0)
        results.append(model.predict(X, verbose=0)["logits"])
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)
    parts = [framed(*part) for part in batches()[:2]]
    parts.append(renamed(*batches()[2]))
    with pytest.raises(ValueError, match="must have the columns .*'v'.*'u'"):
        model.fit(SOURCES[source](parts), verbose=0)


class Broken(Pipeline):
    """It breaks when the last of its batches is drawn once more."""

    draws = 9

    def __getitem__(self, index):
        self.draws -= 1
        if self.draws == 0:
            raise OSError("the disk is gone")
        return super().__getitem__(index)


@pytest.mark.parametrize("draws", [3, 4, 5, 9])
def test_what_a_pipeline_raises_is_told_as_it_is_and_nothing_is_lost(
    model, draws
):
    for run in (
        lambda data: model.fit(data, epochs=4, verbose=0),
        lambda data: model.evaluate(data, verbose=0),
        lambda data: model.predict(data, verbose=0),
    ):
        data = Broken(batches() * 3)
        data.draws = draws
        with pytest.raises(OSError, match="^the disk is gone$"):
            run(data)
        assert np.isfinite(model.predict(X, verbose=0)["logits"]).all()
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


def test_a_model_that_was_never_compiled_keeps_its_weights_too():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    with pytest.raises(OSError, match="^the disk is gone$"):
        model.predict(Broken(batches() * 4), verbose=0)
    assert np.isfinite(model.predict(X, verbose=0)["logits"]).all()


# -- What is beside a pipeline -----------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 8},
        {"y": Y},
        {"sample_weight": np.ones(48)},
        {"validation_split": 0.2},
    ],
    ids=str,
)
def test_fit_takes_nothing_beside_batches_that_keras_ignores(model, arguments):
    name = next(iter(arguments))
    for source in (Pipeline(batches()), generator(batches())):
        with pytest.raises(ValueError, match=f"`{name}` must not be given"):
            model.fit(source, verbose=0, **arguments)


@pytest.mark.one_backend
def test_nor_do_evaluation_validation_and_prediction(model):
    text = "`batch_size` must not be given beside .* Received: batch_size=8"
    with pytest.raises(ValueError, match=text):
        model.evaluate(Pipeline(batches()), batch_size=8)
    with pytest.raises(ValueError, match=text):
        model.predict(generator(batches()), batch_size=8)
    with pytest.raises(ValueError, match="`validation_batch_size` must not"):
        model.fit(
            X, Y, validation_data=Pipeline(batches()), validation_batch_size=8
        )


@pytest.mark.one_backend
def test_classes_are_weighted_where_keras_can(model):
    weight = {0: 1.0, 1: 2.0, 2: 1.0}
    model.fit(Pipeline(batches()), class_weight=weight, verbose=0)
    with pytest.raises(ValueError, match="`class_weight` must be None for"):
        model.fit(generator(batches()), class_weight=weight)
    weighted = [(x, y, np.ones(16)) for x, y in batches()]
    with pytest.raises(ValueError, match="`class_weight` must be None where"):
        model.fit(Pipeline(weighted), class_weight=weight)


@pytest.mark.one_backend
def test_no_source_and_no_batches_are_named(model):
    class Rows:
        def __len__(self):
            return 48

        def __getitem__(self, index):
            return {name: value[index] for name, value in X.items()}, Y[index]

    with pytest.raises(ValueError, match="Inputs must be a dict .*: Rows"):
        model.fit(Rows())
    with pytest.raises(ValueError, match="at least one sample"):
        model.fit(generator([]))
    four = [(x, y, None, y) for x, y in batches()]
    with pytest.raises(ValueError, match=r"A batch must be .*tuple of 4"):
        model.fit(generator(four))
    for call in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="Inputs must be a dict"):
            call(Pipeline(batches()))


# -- What only a whole epoch shows -------------------------------------------


def fit_with(cls, name, values, **kwargs):
    model = cls(SHAPES, 3)
    model.compile(run_eagerly=EAGER)
    parts = [
        ({**x, name: value}, y)
        for (x, y), value in zip(batches(), values, strict=True)
    ]
    model.fit(Pipeline(parts), verbose=0, **kwargs)
    return model


IDS = np.arange(48, dtype="int32").reshape(3, 16)
OUT = np.zeros((3, 16), "float32")


def test_samples_of_one_number_end_the_epoch():
    with pytest.raises(ValueError, match="must number .* 0 for all 48 of this"):
        fit_with(keras_mmrel.QMF, "sample_id", IDS * 0)
    fit_with(keras_mmrel.QMF, "sample_id", IDS)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (OUT + 1, "must leave samples .* all 48 of this epoch held out"),
        (OUT + [[0], [0], [0.5]], r"must hold only 0 .* and 1 .*0\.5"),
        (OUT + [[0], [0], [2]], r"must hold only 0 .* and 1 .*2\.0"),
        (OUT + [[0], [0], [np.nan]], "'held_out' must hold finite numbers"),
    ],
)
def test_held_out_samples_of_an_epoch_are_refused(values, text):
    with pytest.raises(ValueError, match=text):
        fit_with(keras_mmrel.CAL, "held_out", values.astype("float32"))


@pytest.mark.slow_on("tensorflow")
def test_some_held_out_samples_are_not():
    values = OUT.copy()
    values[:, ::3] = 1
    model = fit_with(keras_mmrel.CAL, "held_out", values, epochs=2)
    for weight in model.weights:
        assert np.isfinite(ops.convert_to_numpy(weight)).all()


def test_a_tf_data_set_is_looked_at_in_the_step():
    tf = pytest.importorskip("tensorflow")
    x = {**X, "held_out": np.ones(48, "float32")}
    model = keras_mmrel.CAL(SHAPES, 3)
    model.compile(run_eagerly=EAGER)
    data = tf.data.Dataset.from_tensor_slices((x, Y)).batch(16)
    with pytest.raises(ValueError, match="all 48 of this epoch held out"):
        model.fit(data, verbose=0)


def test_a_pipeline_of_one_class_is_warned_of(model):
    model.class_counts.assign(np.zeros(3))
    parts = [(x, np.full_like(y, 2)) for x, y in batches()]
    with pytest.warns(UserWarning, match="two classes .*: only class 2 in 48"):
        model.fit(Pipeline(parts), verbose=0)


def test_a_pipeline_without_any_modality_ends_the_epoch(model):
    parts = [
        ({**x, "modality_mask": np.zeros((16, 3), "float32")}, y)
        for x, y in batches()
    ]
    with pytest.raises(ValueError, match="48 samples without any in this"):
        model.fit(Pipeline(parts), verbose=0)
    weightless = [(x, y, np.zeros(16)) for x, y in batches()[1:]]
    some = [(*batches()[0], np.eye(16)[0]), *weightless]
    model.fit(Pipeline(some), verbose=0)


# -- One batch, and a call ---------------------------------------------------


NOTHING = {**X, "modality_mask": np.zeros((48, 3), "float32")}


@pytest.mark.parametrize(
    "cls", ["QADMNet", "MICINet", "AIM", "CAL", "ConcatFusion", "LateFusion"]
)
@pytest.mark.one_backend
def test_a_batch_with_nothing_to_learn_from_moves_no_weight(cls):
    model = getattr(keras_mmrel, cls)(SHAPES, 3)
    model.compile()
    before = [ops.convert_to_numpy(w) for w in model.weights]
    with pytest.raises(ValueError, match="must have a sample with a modality"):
        model.train_on_batch(NOTHING, Y)
    halves = np.repeat([[1.0], [0.0]], 24, axis=0).astype("float32")
    mask = np.repeat(1 - halves, 3, axis=1)
    with pytest.raises(ValueError, match="must have a sample with a modality"):
        model.train_on_batch(
            {**X, "modality_mask": mask}, Y, sample_weight=halves[:, 0]
        )
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), old)
    model.test_on_batch(NOTHING, Y)


def test_a_call_refuses_a_mask_that_is_none(model):
    good = np.ones((48, 3), "float32")
    for mask in (good * 0.5, good * np.nan, -good):
        with pytest.raises(ValueError, match="must hold only 0 .missing"):
            model({**X, "modality_mask": mask})
    for mask in (good, good.astype("bool"), ops.convert_to_tensor(good)):
        model({**X, "modality_mask": mask})


def test_a_call_refuses_different_numbers_of_samples(model):
    for wrong in ({"a": X["a"][:20]}, {"modality_mask": np.ones((20, 3))}):
        with pytest.raises(ValueError, match="same number of samples") as error:
            model({**X, **wrong})
        assert one_line(error)
