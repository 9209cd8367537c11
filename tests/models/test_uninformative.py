"""What tells nothing is not trusted, and makes no number infinite."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.models.uninformative import informative_modalities
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import assert_close
from tests.helpers import everywhere
from tests.helpers import vectors

MODELS = [
    name
    for name in keras_mmrel.models.__all__
    if name not in ("AuxiliaryPaths", "Clock", "MultimodalModel", "SideInput")
]
CHOSEN = ["LateFusion", "QADMNet", "MICINet"]
ROWS = {"batch_size": 16, "verbose": 0}


def make(name, run_eagerly=EAGER):
    keras.utils.set_random_seed(0)
    model = getattr(keras_mmrel, name)(SHAPES, 3, seed=0)
    model.compile(run_eagerly=run_eagerly)
    return model


class Batches(keras.utils.PyDataset):
    """A pipeline, which nobody looks at before the first step."""

    def __init__(self, x, y, size=16):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.y) // self.size)

    def __getitem__(self, index):
        part = slice(index * self.size, (index + 1) * self.size)
        x = {k: v[part] for k, v in self.x.items()}
        x["sample_id"] = np.arange(len(self.y), dtype="int32")[part]
        return x, self.y[part]


def pipeline(name, x, y):
    batches = Batches(x, y)
    if name == "QMF":
        return batches
    draw = batches.__getitem__

    class Plain(Batches):
        def __getitem__(self, index):
            part, labels = draw(index)
            part.pop("sample_id")
            return part, labels

    return Plain(x, y)


def finite(model, history):
    assert all(np.isfinite(v).all() for v in history.values()), history
    for variable in model.variables:
        if "float" in variable.dtype:
            assert np.isfinite(ops.convert_to_numpy(variable)).all(), (
                variable.path
            )


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.filterwarnings("ignore:CAL measures")
@pytest.mark.parametrize("value", everywhere([0.0, 7.0], [0.0]))
@pytest.mark.parametrize("name", everywhere(MODELS, CHOSEN))
def test_a_modality_that_never_varies_counts_as_missing(name, value):
    x, y = vectors()
    x["b"][:] = value
    model = make(name)
    with pytest.warns(UserWarning, match=r"Modalities \['b'\] are the same"):
        history = model.fit(x, y, epochs=2, **ROWS).history
    finite(model, history)
    # CAL's bottleneck costs about 100 a modality at first, on any data.
    assert max(max(v) for k, v in history.items() if "loss" in k) < 300
    out = model.predict(x, verbose=0)
    assert (out["confidence"][:, 1] == 0).all()
    assert (out["confidence"][:, [0, 2]] > 0).any()
    assert (out["modality_mask"] == [1, 0, 1]).all()
    # It cannot say anything later either.
    other = model.predict({**x, "b": x["b"] + 3}, verbose=0)
    assert_close(other, out, atol=0)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("name", ["QADMNet", "MICINet"])
def test_a_constant_modality_of_a_pipeline_is_not_trusted(name):
    x, y = vectors()
    x["b"][:] = 7.0
    model = make(name, run_eagerly=False)
    history = model.fit(pipeline(name, x, y), epochs=30, verbose=0).history
    finite(model, history)
    # Ordinary once its statistics are known; before, 7 is 7.
    assert max(v[-1] for k, v in history.items() if k.endswith("loss")) < 30
    out = model.predict(x, verbose=0)
    # That of MICINet is the probability of the true class, here chance.
    others = out["confidence"][:, [0, 2]].mean()
    limit = {"QADMNet": 0.0, "MICINet": 0.7 * others}[name]
    assert out["confidence"][:, 1].mean() <= limit
    key = {"QADMNet": "depth", "MICINet": "discriminative_power"}[name]
    assert out[key][:, 1].mean() < 0.5 * out[key][:, 0].mean()


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("name", everywhere(MODELS, CHOSEN))
def test_constant_features_of_a_modality_are_no_trouble(name):
    x, y = vectors()
    x["a"][:, :3] = [0.0, 7.0, -1000.0]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Modalities")
        warnings.filterwarnings("ignore", "CAL measures")
        model = make(name)
        history = model.fit(x, y, epochs=2, **ROWS).history
    finite(model, history)
    out = model.predict(x, verbose=0)
    assert np.isfinite(out["probabilities"]).all()
    assert (out["modality_mask"] == 1).all()


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.filterwarnings("ignore:CAL measures", "ignore:Modalities")
@pytest.mark.parametrize("name", everywhere(MODELS, CHOSEN))
def test_batches_without_any_modality_change_nothing_but_the_clock(name):
    x, y = vectors()
    mask = np.ones((48, 3), "float32")
    mask[16:32] = 0
    model = make(name)
    x["modality_mask"] = mask
    history = model.fit(x, y, epochs=2, shuffle=False, **ROWS).history
    finite(model, history)
    before = [
        ops.convert_to_numpy(v)
        for v in model.trainable_variables
        if "log_variance" not in v.path
    ]
    empty = {k: v[16:32] * np.nan for k, v in x.items() if k in SHAPES}
    empty["modality_mask"] = mask[16:32]
    if name == "QMF":
        empty["sample_id"] = np.arange(16)
    model.optimizer.learning_rate = 0.0
    # The step runs before the epoch is known to have nothing.
    with pytest.raises(ValueError, match="16 samples without any in this"):
        model.fit(iter([(empty, y[16:32])]), verbose=0)
    after = [
        ops.convert_to_numpy(v)
        for v in model.trainable_variables
        if "log_variance" not in v.path
    ]
    assert_close(after, before, atol=1e-6)
    finite(model, {})


@pytest.mark.parametrize("nothing", ["modality_mask", "sample_weight"])
def test_training_data_without_anything_are_refused(nothing):
    x, y = vectors()
    weights = np.ones(48)
    if nothing == "sample_weight":
        weights[:] = 0
    else:
        x["modality_mask"] = np.zeros((48, 3))
    with pytest.raises(ValueError, match="a sample.* Received: 48"):
        make("LateFusion").fit(x, y, sample_weight=weights, verbose=0)


def test_only_samples_that_count_say_whether_a_modality_varies():
    x, _ = vectors()
    x["b"][:40] = 1.0
    names = list(SHAPES)
    assert informative_modalities(x, names).all()
    weights = np.r_[np.ones(40), np.zeros(8)]
    with pytest.warns(UserWarning, match=r"\['b'\]"):
        found = informative_modalities(x, names, weights)
    assert found.tolist() == [1, 0, 1]
    mask = np.ones((48, 3))
    mask[40:, 1] = 0
    mask[:, 2] = 0
    with pytest.warns(UserWarning, match=r"\['b', 'c'\]"):
        found = informative_modalities({**x, "modality_mask": mask}, names)
    assert found.tolist() == [1, 0, 0]


def test_what_varied_before_stays_informative():
    x, y = vectors()
    constant = {**x, "b": 0 * x["b"]}
    model = make("LateFusion")
    model.fit(x, y, **ROWS)
    with pytest.warns(UserWarning, match=r"\['b'\]"):
        model.fit(constant, y, **ROWS)
    assert ops.convert_to_numpy(model.informative).all()
    model = make("LateFusion")
    with pytest.warns(UserWarning, match=r"\['b'\]"):
        model.fit(constant, y, **ROWS)
    model.fit(x, y, **ROWS)
    assert ops.convert_to_numpy(model.informative).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e20, 1e30])
@pytest.mark.parametrize("name", everywhere(MODELS, CHOSEN))
def test_values_that_are_none_make_a_modality_missing(name, bad):
    x, _ = vectors()
    mask = np.ones((48, 3), "float32")
    mask[::2, 1] = 0
    model = make(name)
    expected = model({**x, "modality_mask": mask}, training=False)
    x["b"][::2, 2] = bad
    assert_close(dict(model(x, training=False)), dict(expected), atol=0)


@pytest.mark.slow_on("jax", "tensorflow")
def test_zeros_in_place_of_standardised_features_are_not_trusted():
    x, y = vectors(480)
    for name, values in x.items():
        x[name] = (values - values.mean(0)) / values.std(0)
    model = make("QADMNet", run_eagerly=False)
    model.fit(x, y, epochs=10, **ROWS)
    good = model.predict(x, verbose=0)
    assert good["confidence"][:, 0].mean() > 0.5
    zeros = model.predict({**x, "a": 0 * x["a"]}, verbose=0)
    assert zeros["confidence"][:, 0].max() < 0.05
    assert zeros["depth"][:, 0].max() == 0


def test_samples_of_one_number_are_refused_and_doubles_warned_of():
    x, y = vectors()
    model = make("QMF")
    same = np.full(48, 3)
    with pytest.raises(ValueError, match="'sample_id' must number .* all 48"):
        model.fit({**x, "sample_id": same}, y, verbose=0)
    with pytest.warns(UserWarning, match="3 numbers for 48 samples"):
        model.fit({**x, "sample_id": y}, y, verbose=0)


@pytest.mark.slow_on("jax", "tensorflow")
def test_somebody_must_be_trained_on():
    x, y = vectors(60)
    model = make("CAL")
    with pytest.raises(ValueError, match="leave samples .* all 60 held out"):
        model.fit({**x, "held_out": np.ones(60)}, y, verbose=0)
    with pytest.warns(UserWarning, match="holds out none of 60"):
        model.fit({**x, "held_out": np.zeros(60)}, y, verbose=0)
    model = keras_mmrel.CAL(SHAPES, 3, holdout=0.999, bottleneck=0.0)
    model.compile()
    history = model.fit(x, y, verbose=0).history
    assert history["loss"][0] > 0
    finite(model, history)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["ConcatFusion", "MICINet"])
def test_a_constant_modality_of_a_pipeline_is_named_once(name):
    x, y = vectors()
    data = Batches({**x, "b": np.full_like(x["b"], 7.0)}, y)
    model = make(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(pipeline(name, data.x, y), epochs=2, verbose=0)
    texts = [str(w.message) for w in caught if "['b']" in str(w.message)]
    assert len(texts) == 1, texts
