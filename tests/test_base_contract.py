"""Any model, any modalities, any labels: good outputs or one sentence.

`hypothesis` draws what a user might pass. What a model accepts gives finite
outputs of the documented shapes; what it refuses gives a `ValueError` or
`TypeError` of one sentence that says what was received. A few draws a model
by default, many in the slow test.
"""

import warnings
import zlib

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import seed
from hypothesis import settings
from hypothesis import strategies as st

import keras_mmrel

OPTIONS = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
MODELS = [
    name
    for name in keras_mmrel.models.__all__
    if name not in ("AuxiliaryPaths", "Clock", "MultimodalModel", "SideInput")
]
# Those that judge inputs unless told otherwise.
JUDGED = ["QADMNet", "MICINet", "ReliableFusion"]
SHAPES = [(3,), (1,), (5,), (4, 3), (4, 4, 1), (5, 4, 2)]
DTYPES = ["float32", "float64", "float16", "int32", "uint8", "bool"]
DAMAGE = [
    *[None] * 8,
    "NaN",
    "infinity",
    "huge",
    "text",
    "rank",
    "size",
    "rows",
    "missing name",
    "other name",
    "list",
    "labels too large",
    "labels negative",
    "labels float",
    "labels few",
    "labels None",
    "mask narrow",
    "mask of halves",
    "mask of NaN",
    "mask of one axis",
    "batch of 0",
]


@st.composite
def cases(draw, sizes=(2, 7, 9, 40)):
    """Shapes, number of classes, inputs and labels, damaged or not."""
    count = draw(st.integers(1, 3))
    names = draw(
        st.lists(
            st.sampled_from(["a", "b/c", "d.e", "Ä", "a b", "x" * 40]),
            min_size=count,
            max_size=count,
            unique=True,
        )
    )
    shapes = {name: draw(st.sampled_from(SHAPES)) for name in names}
    classes = draw(st.sampled_from([2, 3, 5]))
    samples = draw(st.sampled_from(sizes))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = {}
    for name, shape in shapes.items():
        scale = draw(st.sampled_from([1e-8, 1.0, 1.0, 100.0]))
        values = scale * rng.uniform(size=(samples, *shape))
        x[name] = values.astype(draw(st.sampled_from(DTYPES)))
    y = rng.permutation(np.arange(samples) % classes)
    form = draw(st.sampled_from(["numbers", "column", "rows", "uint8"]))
    if form == "column":
        y = y[:, None]
    elif form == "rows":
        y = np.eye(classes, dtype="float32")[y]
    elif form == "uint8":
        y = y.astype("uint8")
    if draw(st.booleans()):
        mask = rng.uniform(size=(samples, count)) < 0.7
        mask[0] = True
        kind = draw(st.sampled_from(["bool", "int32", "float16", "float32"]))
        x["modality_mask"] = mask.astype(kind)
    damage = draw(st.sampled_from(DAMAGE))
    if damage:
        x, y = damaged(damage, x, y, names, classes)
    return shapes, classes, x, y, damage


def damaged(kind, x, y, names, classes):
    """Data with one thing that is wrong."""
    last, x = names[-1], dict(x)
    values = x[last]
    mask = np.ones((len(values), len(names)), "float32")
    numbers = np.arange(len(values)) % classes
    if kind in ("NaN", "infinity", "huge"):
        bad = {"NaN": np.nan, "infinity": np.inf, "huge": 1e20}[kind]
        x[last] = values.astype("float32")
        x[last][1] = bad
        x.pop("modality_mask", None)
    elif kind == "text":
        x[last] = values.astype(str)
    elif kind == "rank":
        x[last] = values[..., None, None]
    elif kind == "size":
        x[last] = np.concatenate([values, values], axis=1)
    elif kind == "rows":
        x[last] = values[:-1]
    elif kind == "missing name":
        del x[last]
    elif kind == "other name":
        x["unknown"] = values
    elif kind == "list":
        x[last] = values.tolist()
    elif kind == "labels too large":
        y = numbers + classes
    elif kind == "labels negative":
        y = numbers - 1
    elif kind == "labels float":
        y = numbers.astype("float32")
    elif kind == "labels few":
        y = y[:-1]
    elif kind == "labels None":
        y = None
    elif kind == "mask narrow":
        x["modality_mask"] = mask[:, 1:]
    elif kind == "mask of halves":
        x["modality_mask"] = 0.5 * mask
    elif kind == "mask of NaN":
        x["modality_mask"] = np.nan * mask
    elif kind == "mask of one axis":
        x["modality_mask"] = mask[:, 0]
    else:
        x, y = {k: v[:0] for k, v in x.items()}, y[:0]
    return x, y


def is_one_sentence(error):
    text = str(error)
    return "Received: " in text and "\n" not in text and len(text) < 600


def check_outputs(model, x, samples, modalities, classes):
    outputs = model.predict(x, batch_size=16, verbose=0)
    shapes = {
        "logits": (samples, classes),
        "probabilities": (samples, classes),
        "modality_logits": (samples, modalities, classes),
        "confidence": (samples, modalities),
        "modality_mask": (samples, modalities),
    }
    for key, value in outputs.items():
        assert len(value) == samples, key
        assert np.isfinite(value).all(), key
        assert value.shape == shapes.get(key, value.shape), key
    total = outputs["probabilities"].sum(axis=1)
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    confidence = outputs["confidence"]
    assert confidence.min() >= 0 and confidence.max() <= 1
    assert (confidence[outputs["modality_mask"] == 0] == 0).all()


def check_case(name, case):
    shapes, classes, x, y, damage = case
    keras.utils.set_random_seed(0)
    model = getattr(keras_mmrel, name)(shapes, classes, seed=0)
    model.compile(run_eagerly=keras.config.backend() != "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            size = 4 if y is None or len(y) < 30 else 20
            history = model.fit(x, y, batch_size=size, verbose=0).history
        except (TypeError, ValueError) as error:
            assert damage, f"Good data were refused: {error}"
            assert is_one_sentence(error), f"{damage}: {error}"
            return None
        assert not damage, f"{damage} was taken"
        assert all(np.isfinite(v).all() for v in history.values()), history
        check_outputs(model, x, len(y), len(shapes), classes)
    keras.utils.clear_session(free_memory=False)
    return model


@pytest.mark.one_backend
@pytest.mark.parametrize("name", MODELS)
def test_accepted_data_give_finite_outputs_and_others_one_sentence(name):
    @seed(zlib.crc32(name.encode()))
    @settings(max_examples=5, **OPTIONS)
    @given(cases(sizes=(2, 7, 9)))
    def check(case):
        check_case(name, case)

    check()


@pytest.mark.one_backend
@pytest.mark.parametrize("name", JUDGED)
def test_so_do_enough_of_them_for_a_judge_to_learn(name):
    learnt = []

    @seed(zlib.crc32(name.encode()))
    @settings(max_examples=2, **OPTIONS)
    @given(cases(sizes=(40,)))
    def check(case):
        model = check_case(name, case)
        learnt.append(model is not None and model.quality.adapted)

    check()
    assert any(learnt)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_and_so_do_many_more(name):
    @seed(zlib.crc32(name[::-1].encode()))
    @settings(max_examples=60, **OPTIONS)
    @given(cases())
    def check(case):
        check_case(name, case)

    check()
