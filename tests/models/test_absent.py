"""A modality whose key is not among the inputs is a missing one."""

import keras
import numpy as np
import pytest

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import vectors

X, Y = vectors()
MASKED = np.ones((48, 3), "float32") * [1, 0, 1]


@pytest.fixture(scope="module")
def model():
    model = keras_mmrel.QADMNet(SHAPES, 3, seed=0)
    model.compile(run_eagerly=EAGER)
    model.fit(X, Y, batch_size=24, verbose=0)
    return model


def without(name):
    return {k: v for k, v in X.items() if k != name}


@pytest.mark.slow_on("jax")
def test_what_is_absent_is_missing_in_predict(model):
    expected = model.predict({**X, "modality_mask": MASKED}, verbose=0)
    found = model.predict(without("b"), verbose=0)
    assert not found["modality_mask"][:, 1].any()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-6)
    turned = {name: X[name] for name in ("c", "a")}
    np.testing.assert_allclose(
        model.predict(turned, verbose=0)["logits"],
        expected["logits"],
        atol=1e-6,
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_other_methods_that_do_not_train_take_it_too(model):
    full = {**X, "modality_mask": MASKED}
    for run in (
        lambda x: model.evaluate(x, Y, verbose=0, return_dict=True)["loss"],
        lambda x: model.test_on_batch(x, Y)[0],
        lambda x: model.predict_on_batch(x)["logits"],
    ):
        np.testing.assert_allclose(run(without("b")), run(full), atol=1e-5)


def test_a_mask_must_say_so_too(model):
    mask = MASKED.copy()
    part = {**without("b"), "modality_mask": mask}
    model.predict(part, verbose=0)
    mask[:2, 1] = 1
    with pytest.raises(ValueError, match="must be 0 for the modality 'b'.* 2 "):
        model.predict(part, verbose=0)


def test_a_mask_may_know_those_alone_that_are_there(model):
    own = np.ones((48, 2), "float32")
    own[:5, 0] = 0
    mask = MASKED.copy()
    mask[:5, 2] = 0
    expected = model.predict({**X, "modality_mask": mask}, verbose=0)
    given = {"c": X["c"], "a": X["a"], "modality_mask": own}
    found = model.predict(given, verbose=0)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-6)


@pytest.mark.parametrize(
    "x, expected",
    [
        ({}, "must have exactly the modalities"),
        ({"d": X["a"]}, "unknown: .'d'"),
        ({"a": X["a"], "d": X["b"]}, "unknown: .'d'"),
        ({"a": None}, "must have exactly the modalities"),
        ({"a": X["a"][:, :2]}, "Modality 'a' must have the shape"),
    ],
)
def test_what_is_something_else_is_still_refused(model, x, expected):
    with pytest.raises(ValueError, match=expected):
        model.predict(x, verbose=0)


def test_a_training_must_have_all_modalities(model):
    with pytest.raises(ValueError, match="missing: .'b'"):
        model.fit(without("b"), Y, verbose=0)
    with pytest.raises(ValueError, match="missing: .'b'"):
        model.train_on_batch(without("b"), Y)


def test_all_tensors_of_an_absent_modality_are_filled():
    tokens = {
        n: keras.Input((None,), dtype="int32", name=n)
        for n in ("token_ids", "padding_mask")
    }
    backbone = keras.Model(
        tokens, keras.layers.Embedding(9, 4)(tokens["token_ids"])
    )
    text = keras_mmrel.encoders.TextEncoder(backbone, 5)
    model = keras_mmrel.LateFusion({"text": text, "a": (6,)}, 3)
    out = model.predict({"a": X["a"]}, verbose=0)
    assert out["modality_mask"].tolist() == [[0, 1]] * 48
    assert np.isfinite(out["logits"]).all()


class Batches(keras.utils.PyDataset):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]


def batches(x):
    for start in (0, 24):
        rows = slice(start, start + 24)
        yield {name: value[rows] for name, value in x.items()}, Y[rows]


@pytest.mark.parametrize("source", [lambda p: Batches(list(p)), lambda p: p])
def test_batches_may_lack_a_modality_as_well(model, source):
    full = {**X, "modality_mask": MASKED}
    expected = model.predict(full, verbose=0)["logits"]
    found = model.predict(source(batches(without("b"))), verbose=0)
    np.testing.assert_allclose(found["logits"], expected, atol=1e-6)
    loss, *_ = model.evaluate(source(batches(without("b"))), verbose=0)
    known, *_ = model.evaluate(full, Y, batch_size=24, verbose=0)
    assert abs(loss - known) < 1e-4
    with pytest.raises(ValueError, match="missing: .'b'"):
        model.fit(source(batches(without("b"))), verbose=0)


@pytest.mark.one_backend
def test_batches_that_nobody_rewrites_have_all_of_them(model):
    torch = pytest.importorskip("torch")
    parts = [
        keras.tree.map_structure(torch.tensor, part)
        for part in batches(without("b"))
    ]
    loader = torch.utils.data.DataLoader(parts, batch_size=None)
    for run in (model.predict, model.evaluate):
        with pytest.raises(ValueError, match="DataLoader must have all .*'b'"):
            run(loader, verbose=0)
