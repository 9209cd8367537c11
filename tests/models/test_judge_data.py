"""What the judge of a model learns from, whatever the data come in."""

import warnings

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.layers import FeatureRepair
from keras_mmrel.layers import InputQuality
from keras_mmrel.models._quality import adapt_quality
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import everywhere
from tests.helpers import vectors

X, Y = vectors(96)
OWN = ["ReliableFusion", "QADMNet", "MICINet"]


def make(name, shapes=None, classes=3, **kwargs):
    keras.utils.set_random_seed(0)
    if name == "LateFusion":
        kwargs.setdefault("quality", InputQuality())
    model = getattr(keras_mmrel, name)(
        shapes or SHAPES, classes, seed=1, **kwargs
    )
    model.compile(run_eagerly=EAGER)
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, weight=None, size=32):
        super().__init__()
        self.parts = (x, y) if weight is None else (x, y, weight)
        self.size = size
        self.read = []

    def __len__(self):
        return -(-len(self.parts[1]) // self.size)

    def __getitem__(self, index):
        self.read.append(index)
        rows = slice(index * self.size, (index + 1) * self.size)
        return keras.tree.map_structure(lambda v: v[rows], self.parts)


class Sequence:
    """Another pipeline, which can be read in its order alone."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class Stop(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        raise KeyboardInterrupt


def judge(model, data, y=None, **kwargs):
    """Let a `fit` teach the judge, and stop before the first step."""
    put_back = model.quality.variables
    known = {}

    def stop():
        known.update({v.path: keras.ops.copy(v) for v in put_back})
        raise KeyboardInterrupt

    model._build_optimizer = stop
    with pytest.raises(KeyboardInterrupt):
        model.fit(data, y, verbose=0, **kwargs)
    for variable in put_back:
        variable.assign(known[variable.path])
    return model


def quality(model, x):
    return np.asarray(model.predict(x, verbose=0)["modality_quality"])


@pytest.mark.one_backend
@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("name", [*OWN, "LateFusion"])
def test_a_modality_that_no_sample_has_stops_nothing(name, pipeline):
    mask = np.tile(np.float32([1, 0, 1]), (96, 1))
    x = {**X, "modality_mask": mask}
    data = (Batches(x, Y),) if pipeline else (x, Y)
    model = make(name)
    with pytest.warns(UserWarning, match=r"Modalities \['b'\] are the same"):
        judge(model, *data)
    assert model.quality.adapted
    assert np.asarray(
        keras.ops.convert_to_numpy(model.informative)
    ).tolist() == [1, 0, 1]


@pytest.mark.one_backend
@pytest.mark.parametrize("layer", [InputQuality, FeatureRepair])
def test_a_layer_adapts_to_what_no_sample_has(layer):
    layer = layer()
    mask = np.tile(np.float32([1, 0, 1]), (96, 1))
    layer.adapt({**X, "modality_mask": mask}, Y)
    assert layer.adapted


@pytest.mark.one_backend
@pytest.mark.parametrize("iterable", [False, True])
def test_a_pipeline_sorted_by_class_teaches_all_classes(iterable):
    x, y = vectors(3000, classes=10)
    order = np.argsort(y, kind="stable")
    x, y = {k: v[order] for k, v in x.items()}, y[order]
    data = Batches(x, y)
    if iterable:
        data = Sequence([data[i] for i in range(len(data))])
    model = make("LateFusion", classes=10, quality=InputQuality(samples=256))
    seen = {}
    adapt = model.quality.adapt
    model.quality.adapt = lambda x, y: (seen.update(y=y), adapt(x, y))
    adapt_quality(model, data, None)
    counts = np.bincount(seen["y"], minlength=10)
    assert counts.min() > 0.4 * counts.mean()
    assert (quality(model, x)[y == 9].mean(axis=0) > 0.8).all()


@pytest.mark.one_backend
def test_a_cut_pipeline_says_which_classes_it_lacks():
    x, y = vectors(96)
    y = np.sort(y)
    x = {k: np.repeat(v, 4, axis=0) for k, v in x.items()}
    data = [({k: v[:8] for k, v in x.items()}, y[:8])] * 99
    source = Sequence(data)
    model = make("LateFusion", quality=InputQuality(samples=32))
    with pytest.warns(UserWarning, match=r"no sample of the classes \[1, 2\]"):
        adapt_quality(model, source, None)


@pytest.mark.one_backend
def test_rows_of_weight_0_use_up_no_place_in_a_pipeline():
    x, y = vectors(2000)
    weight = (np.arange(2000) % 8 == 0).astype("float32")
    bad = {k: np.where(weight[:, None] > 0, v, 50.0) for k, v in x.items()}
    bad = {k: v.astype("float32") for k, v in bad.items()}
    model = make("LateFusion", quality=InputQuality(samples=200))
    judge(model, Batches(bad, y, weight))
    assert model.quality.adapted
    assert (quality(model, x).mean(axis=0) > 0.9).all()


@pytest.mark.one_backend
def test_what_varies_in_classes_of_weight_0_alone_does_not_vary():
    x = {**X, "b": np.where(Y[:, None] == 1, X["b"], 0).astype("float32")}
    model = make("ReliableFusion")
    with pytest.warns(UserWarning, match=r"Modalities \['b'\] are the same"):
        judge(model, x, Y, class_weight={0: 1.0, 1: 0.0, 2: 1.0})


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("name", [*OWN, "LateFusion"])
def test_a_constant_modality_of_a_judged_pipeline_counts_as_missing(name):
    model = make(name)
    zeros = {**X, "b": np.zeros_like(X["b"])}
    with pytest.warns(UserWarning, match=r"Modalities \['b'\] are the same"):
        judge(model, Batches(zeros, Y))
    out = model.predict(zeros, verbose=0)
    assert (out["modality_mask"] == [1, 0, 1]).all()
    assert (out["confidence"][:, 1] == 0).all()


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize(
    "name",
    everywhere([*OWN, "LateFusion", "FeatureRepair"], ["ReliableFusion"]),
)
def test_a_fit_that_fails_before_its_first_step_teaches_nothing(name):
    own = {"quality": FeatureRepair()} if name == "FeatureRepair" else {}
    model = make("LateFusion" if own else name, **own)
    wild = {k: 100 * v + 5 for k, v in X.items()}
    with pytest.raises(KeyboardInterrupt):
        model.fit(wild, Y, verbose=0, callbacks=[Stop()])
    assert not model.quality.adapted
    judge(model, X, Y)
    assert quality(model, X).mean() > (0.7 if own else 0.9)


@pytest.mark.one_backend
@pytest.mark.parametrize("wrong", ["value", "label", "NaN"])
def test_broken_rows_of_a_later_batch_are_refused_before_a_step(wrong):
    x, y = {k: v.copy() for k, v in X.items()}, Y.copy()
    if wrong == "label":
        y[40] = 7
    else:
        x["a"][40] = 1e20 if wrong == "value" else np.nan
    model = make("ReliableFusion")
    message = "`y` must" if wrong == "label" else "'modality_mask' to 0.*impute"
    with pytest.raises(ValueError, match=message):
        model.fit(Batches(x, y), verbose=0)
    assert not model.quality.adapted
    assert not float(keras.ops.convert_to_numpy(model.clock.step))


@pytest.mark.one_backend
def test_integers_leave_an_own_judge_without_work_and_it_says_so():
    x = {k: (v * 10).astype("int32") for k, v in X.items()}
    with pytest.warns(UserWarning, match="does without its InputQuality"):
        judge(make("ReliableFusion"), x, Y)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*does without")
        few = {k: v[:24] for k, v in X.items()}
        judge(make("ReliableFusion"), few, Y[:24])


@pytest.mark.one_backend
@pytest.mark.parametrize("layer", [InputQuality, FeatureRepair])
def test_a_value_beyond_the_float32_range_is_refused(layer):
    x = {**X, "a": X["a"].astype("float64")}
    x["a"][3] = 1e300
    with pytest.raises(ValueError, match=r"at most 1e\+15.*1e\+300"):
        layer().adapt(x, Y)


@pytest.mark.one_backend
@pytest.mark.parametrize("y", [None, Y.astype(str), np.full(96, np.nan)])
def test_labels_that_are_none_are_refused(y):
    with pytest.raises(ValueError, match=r"^`y` must .* Received: "):
        InputQuality().adapt(X, y)


@pytest.mark.one_backend
def test_a_layer_for_tensors_judges_no_modalities():
    with pytest.raises(ValueError, match="quality"):
        make("ReliableFusion", quality=keras.layers.Normalization())
    with pytest.raises(ValueError, match="quality"):
        make("LateFusion", quality=keras.layers.Normalization())


class Read(np.ndarray):
    """An array that says how many rows were taken out of it."""

    def __getitem__(self, key):
        rows = super().__getitem__(key).view(np.ndarray)
        if isinstance(key, np.ndarray):
            self.taken.append(len(rows))
        return rows


@pytest.mark.one_backend
def test_a_weight_of_0_copies_no_more_rows_than_are_drawn():
    x, y = vectors(600)
    for name in x:
        x[name] = x[name].view(Read)
        x[name].taken = []
    taken = {name: v.taken for name, v in x.items()}
    model = make("LateFusion", quality=InputQuality(samples=50))
    adapt_quality(model, x, y, (np.arange(600) > 0).astype("float32"))
    assert all(rows and max(rows) <= 50 for rows in taken.values())
