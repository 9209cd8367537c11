"""What is wrong in a later batch of a pipeline does not pass silently."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import vectors

X, Y = vectors()
MASK = np.ones((len(Y), 3), "float32")
WEIGHT = np.ones(len(Y), "float32")


def at_row(array, value):
    array = np.array(array)
    array[20] = value
    return array


# What is wrong is in row 20: the second of three batches.
CASES = {
    "nan": ({"a": at_row(X["a"], np.nan)}, "Modality 'a' .*impute. .* 6 other"),
    "inf": ({"b": at_row(X["b"], np.inf)}, "Modality 'b' must be finite"),
    "huge": ({"b": at_row(X["b"], 1e30)}, "Modality 'b' .* at most 1e.15"),
    "mask": ({"mask": at_row(MASK, 0.5)}, "'modality_mask' .* 3 other"),
    "mask nan": ({"mask": at_row(MASK, np.nan)}, "'modality_mask' must hold"),
    "label": ({"y": at_row(Y, 3)}, r"`y` must hold .*\[0, 3\).* 1 other"),
    "negative label": ({"y": at_row(Y, -1)}, "`y` must hold class numbers"),
    "row": ({"y": at_row(np.eye(3)[Y], 0.7)}, "`y` must .* sum to 1"),
    "weight": ({"weight": at_row(WEIGHT, np.nan)}, "`sample_weight` must be"),
    "negative weight": (
        {"weight": at_row(WEIGHT, -1)},
        "`sample_weight` must be finite and not negative",
    ),
}


def batches(y=Y, mask=MASK, weight=WEIGHT, order=("a", "b", "c"), **modalities):
    x = {name: {**X, **modalities}[name] for name in order}
    if mask is not None:
        x["modality_mask"] = mask
    for start in range(0, len(Y), 16):
        rows = slice(start, start + 16)
        part = {name: value[rows] for name, value in x.items()}
        yield part, y[rows], weight[rows]


class Pipeline(keras.utils.PyDataset):
    def __init__(self, **changes):
        super().__init__()
        self.parts = list(batches(**changes))

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]


@pytest.fixture(scope="module")
def model():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile()
    return model


def all_weights_are_finite(model):
    return all(
        np.isfinite(ops.convert_to_numpy(w)).all() for w in model.weights
    )


@pytest.mark.parametrize("case", CASES)
def test_a_later_batch_ends_the_epoch_and_harms_no_weight(model, case):
    changes, text = CASES[case]
    reached = []
    after = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: reached.append(epoch)
    )
    with pytest.raises(ValueError, match=f"{text}.*this epoch after the first"):
        model.fit(Pipeline(**changes), epochs=3, callbacks=[after], verbose=0)
    # A checkpoint of the user's would have kept it.
    assert not reached
    assert all_weights_are_finite(model)
    history = model.fit(Pipeline(), verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_until_then_a_wrong_mask_is_a_missing_modality():
    """Weights after a batch with masks of 0.5 and 2, and one with zeros."""
    weights = []
    for value in (0.5, 2.0, 0.0):
        keras.utils.set_random_seed(0)
        model = keras_mmrel.ConcatFusion(SHAPES, 3, seed=0)
        model.compile("sgd", run_eagerly=EAGER)
        with contextlib.suppress(ValueError):
            model.fit(Pipeline(mask=at_row(MASK, value)), verbose=0)
        weights.append(model.get_weights())
    for wrong in weights[:2]:
        for value, expected in zip(wrong, weights[2], strict=True):
            if value.shape != (8,):  # What the epoch has counted.
                np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("case", CASES)
def test_evaluation_of_a_later_batch_is_refused(model, case):
    changes, text = CASES[case]
    with pytest.raises(ValueError, match=f"{text}.*evaluated data after"):
        model.evaluate(Pipeline(**changes), verbose=0)
    assert all_weights_are_finite(model)
    assert np.isfinite(model.evaluate(Pipeline(), verbose=0)).all()


@pytest.mark.parametrize("case", ["nan", "label"])
def test_validation_data_are_watched(model, case):
    changes, text = CASES[case]
    with pytest.raises(ValueError, match=f"{text}.*evaluated data after"):
        model.fit(Pipeline(), validation_data=Pipeline(**changes), verbose=0)


def test_predictions_of_a_later_batch_are_refused(model):
    changes, _ = CASES["mask"]
    with pytest.raises(ValueError, match="'modality_mask' must hold only 0"):
        model.predict(Pipeline(**changes), verbose=0)
    changes, _ = CASES["nan"]
    with pytest.raises(ValueError, match="must be .* 1 samples .* first at 20"):
        model.predict(Pipeline(mask=None, **changes), verbose=0)
    out = model.predict(Pipeline(mask=None), verbose=0)
    assert np.isfinite(out["logits"]).all()


def test_beside_a_mask_what_is_no_number_counts_as_missing(model):
    changes, _ = CASES["nan"]
    out = model.predict(Pipeline(**changes), verbose=0)
    assert np.isfinite(out["logits"]).all()
    expected = at_row(MASK, [0, 1, 1])
    np.testing.assert_array_equal(out["modality_mask"], expected)
    missing = model.predict(Pipeline(mask=expected), verbose=0)
    np.testing.assert_array_equal(out["logits"], missing["logits"])


def test_garbage_of_a_missing_modality_is_not_counted(model):
    mask = at_row(MASK, [1, 0, 1])
    changes = {"b": at_row(X["b"], np.nan), "mask": mask}
    history = model.fit(Pipeline(**changes), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    model.evaluate(Pipeline(**changes), verbose=0)
    model.predict(Pipeline(**changes), verbose=0)


def test_a_first_batch_of_weight_0_is_one_like_others(model):
    weight = np.repeat([0.0, 1.0], [16, 32]).astype("float32")
    garbage = {"a": np.where(weight[:, None] > 0, X["a"], 1e3)}
    before = ops.convert_to_numpy(model.class_counts)
    model.fit(Pipeline(weight=weight, **garbage), verbose=0)
    counted = ops.convert_to_numpy(model.class_counts) - before
    np.testing.assert_array_equal(counted, np.bincount(Y[16:]))
    model.evaluate(Pipeline(weight=weight), verbose=0)


def test_a_pipeline_of_weight_0_alone_is_refused(model):
    data = Pipeline(weight=0 * WEIGHT)
    with pytest.raises(ValueError, match="must not be 0 every.*: 48 samples"):
        model.fit(data, verbose=0)
    with pytest.raises(ValueError, match="above 0 for a .* Received: 48 zeros"):
        model.evaluate(data, verbose=0)


@pytest.mark.parametrize("case", ["nan", "mask", "label", "weight"])
def test_other_sources_are_watched(model, case):
    changes, text = CASES[case]
    with pytest.raises(ValueError, match=text):
        model.fit(batches(**changes), verbose=0)
    with pytest.raises(ValueError, match=text):
        model.evaluate(batches(**changes), verbose=0)


def test_a_tf_data_set_is_watched(model):
    tf = pytest.importorskip("tensorflow")
    changes, text = CASES["nan"]
    parts = list(batches(**changes))
    whole = [
        keras.tree.map_structure(lambda *v: np.concatenate(v), *leaves)
        for leaves in zip(*parts, strict=True)
    ]
    data = tf.data.Dataset.from_tensor_slices(tuple(whole)).batch(16)
    with pytest.raises(ValueError, match=text):
        model.fit(data, verbose=0)


def test_a_torch_loader_is_watched(model):
    torch = pytest.importorskip("torch")
    changes, text = CASES["label"]
    samples = [
        (keras.tree.map_structure(lambda v, i=i: v[i], x), y[i], weight[i])
        for x, y, weight in batches(**changes)
        for i in range(16)
    ]
    loader = torch.utils.data.DataLoader(samples, batch_size=16)
    with pytest.raises(ValueError, match=text):
        model.fit(loader, verbose=0)


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_the_order_beside_a_mask_is_checked(model, call):
    with pytest.raises(ValueError, match="must list the modalities in the"):
        getattr(model, call)(Pipeline(order=("c", "b", "a")), verbose=0)


def test_a_generators_first_batch_is_checked(model):
    with pytest.raises(ValueError, match="must list the modalities in the"):
        model.fit(batches(order=("b", "a", "c")), verbose=0)
    with pytest.raises(ValueError, match="`sample_weight` must be finite"):
        model.fit(batches(weight=WEIGHT * np.nan), verbose=0)
    with pytest.raises(ValueError, match="a label for each sample"):
        model.fit(((x,) for x, _, _ in batches()), verbose=0)


def test_steps_are_counted_together(model):
    if keras.config.backend() == "torch":
        pytest.skip("steps_per_execution is not for PyTorch")
    changes, text = CASES["nan"]
    compiled = keras_mmrel.ConcatFusion(SHAPES, 3)
    compiled.compile(steps_per_execution=3)
    with pytest.raises(ValueError, match=text):
        compiled.fit(Pipeline(**changes), verbose=0)


def test_what_float16_cannot_hold_ends_the_epoch_of_a_model_that_uses_it():
    x, y = vectors()
    x["b"][40, 1] = 7e4
    # Numbers of tokens may be as large as they like.
    x["tokens"] = np.full((48, 3), 100_000, "int32")
    encoder = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(100_001, 2),
            keras.layers.Flatten(),
        ]
    )
    modalities = {**SHAPES, "tokens": encoder}

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            part = slice(16 * index, 16 * index + 16)
            return {k: v[part] for k, v in x.items()}, y[part]

    for dtype, refused in (("float32", False), ("mixed_float16", True)):
        model = keras_mmrel.ConcatFusion(modalities, 3, dtype=dtype)
        model.compile(run_eagerly=EAGER)
        if not refused:
            model.fit(Batches(), verbose=0)
            continue
        text = "Modality 'b' must be finite, and at most 65504 .* Received: 1 "
        with pytest.raises(ValueError, match=text):
            model.fit(Batches(), verbose=0)
