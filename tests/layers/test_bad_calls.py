"""What a layer cannot be called with is named in one sentence."""

import functools
import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel import layers
from keras_mmrel.layers._ici_fusion import ICIFusion
from tests.helpers import to_numpy

X = np.random.default_rng(0).uniform(size=(6, 3, 5)).astype("float32")
Y = np.arange(6) % 4
P = np.full((6, 3, 4), 0.25, "float32")
C = np.full((6, 3), 0.5, "float32")
BIAS = np.zeros(4, "float32")
MASK = np.ones((6, 3), "float32")
PARTS = [X[:, 0], X[:, 1, :2], X[:, 2, :4]]
DICT = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]}

# Layer, and the arguments of a good call, which builds it.
GOOD = {
    "FeatureGate": (lambda: layers.FeatureGate(4), {"inputs": X}),
    "PrototypeConfidence": (
        lambda: layers.PrototypeConfidence(4),
        {"inputs": X, "typicality": C},
    ),
    "DepthAllocator": (lambda: layers.DepthAllocator(4), {"inputs": C}),
    "DynamicDepthFusion": (
        lambda: layers.DynamicDepthFusion(4),
        {"inputs": X, "quality": C, "prototype_probabilities": P},
    ),
    "RunningStandardization": (
        layers.RunningStandardization,
        {"inputs": X},
    ),
    "ModalityEmbedding": (
        lambda: layers.ModalityEmbedding(7),
        {"inputs": PARTS},
    ),
    "ModalityContribution": (
        layers.ModalityContribution,
        {"partial_logits": P, "bias": BIAS},
    ),
    "DiscriminativePower": (
        layers.DiscriminativePower,
        {"probabilities": P, "surprise": C, "ici_fraction": C},
    ),
    "ICIFusion": (lambda: ICIFusion(4), {"inputs": X}),
}
OTHERS = {
    "CosineClassifier": (
        lambda: layers.CosineClassifier(4),
        {"inputs": X[:, 0]},
    ),
    "ICIRemoval": (
        layers.ICIRemoval,
        {"inputs": X, "mean": X, "variance": X + 1},
    ),
    "CrossModalityCompensation": (
        layers.CrossModalityCompensation,
        {"inputs": X, "power_logits": C},
    ),
}
LONG = {k: np.concatenate([v, v]) for k, v in DICT.items()}
# Layer, argument, bad value.
BAD = [
    ("FeatureGate", "inputs", X[:, :2]),
    ("FeatureGate", "inputs", X[:, :, :3]),
    ("FeatureGate", "inputs", X[:, 0]),
    ("FeatureGate", "inputs", PARTS[:2]),
    ("FeatureGate", "inputs", [X, X, X]),
    ("PrototypeConfidence", "inputs", X[:, :, :3]),
    ("PrototypeConfidence", "inputs", X[:, :2]),
    ("PrototypeConfidence", "typicality", C[:, :2]),
    ("PrototypeConfidence", "typicality", C[:, :1]),
    ("DepthAllocator", "inputs", C[:, 0]),
    ("DepthAllocator", "inputs", X),
    ("DynamicDepthFusion", "inputs", X[:, :2]),
    ("DynamicDepthFusion", "inputs", X[:, :, :2]),
    ("DynamicDepthFusion", "quality", C[:, :1]),
    ("DynamicDepthFusion", "quality", C[:, 0]),
    ("DynamicDepthFusion", "prototype_probabilities", P[:, :, :3]),
    ("DynamicDepthFusion", "prototype_probabilities", P[:, :1]),
    ("RunningStandardization", "inputs", X[:, :2]),
    ("RunningStandardization", "inputs", X[:, 0]),
    ("ModalityEmbedding", "inputs", PARTS[:2]),
    ("ModalityEmbedding", "inputs", PARTS + PARTS[:1]),
    ("ModalityContribution", "partial_logits", P[:, :2]),
    ("ModalityContribution", "partial_logits", P[:, 0]),
    ("ModalityContribution", "bias", BIAS[:1]),
    ("DiscriminativePower", "probabilities", P[:, :2]),
    ("DiscriminativePower", "probabilities", P[:, 0]),
    ("DiscriminativePower", "surprise", C[:, :1]),
    ("DiscriminativePower", "ici_fraction", C[:, 0]),
    ("ICIFusion", "inputs", X[:, :2]),
    ("ICIFusion", "inputs", X[:, :, :2]),
    ("ICIRemoval", "inputs", X[:, :2]),
    ("ICIRemoval", "mean", X[:, :1]),
    ("ICIRemoval", "variance", X[:, :, :1]),
    ("CrossModalityCompensation", "inputs", X[:, :2]),
    ("CrossModalityCompensation", "power_logits", C[:, :1]),
]


@functools.cache
def built(name):
    """A layer that has been called: what it refuses does not change it."""
    make, arguments = {**GOOD, **OTHERS}[name]
    layer = make()
    layer(**arguments)
    return layer, arguments


def one_sentence(function, named):
    """Call what must fail; the error is ours and names the argument."""
    with pytest.raises(ValueError) as error:
        function()
    text = str(error.value)
    pattern = rf"`{re.escape(named)}[^`]*` must .* Received: .+"
    assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize(
    "name, argument, value",
    [pytest.param(*case, id=f"{case[0]}-{i}") for i, case in enumerate(BAD)],
)
def test_a_wrong_shape_is_named(name, argument, value):
    layer, arguments = built(name)
    one_sentence(lambda: layer(**{**arguments, argument: value}), argument)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    "mask",
    [MASK[:, :2], MASK[:, :1], MASK[:, 0], MASK[:4], MASK[:, :, None]],
    ids=["narrow", "one column", "one axis", "few rows", "three axes"],
)
def test_a_mask_of_another_shape_is_named(name, mask):
    layer, arguments = built(name)
    one_sentence(
        lambda: layer(**arguments, modality_mask=mask), "modality_mask"
    )


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("dtype", ["float16", "bool", "int32", "NaN"])
def test_a_mask_of_any_dtype_says_the_same_and_nan_is_missing(name, dtype):
    layer, arguments = built(name)
    mask = MASK.copy()
    mask[::2, 1] = 0
    other = np.where(mask > 0, 1.0, np.nan).astype("float32")
    other = other if dtype == "NaN" else mask.astype(dtype)
    expected = to_numpy(layer(**arguments, modality_mask=mask))
    actual = to_numpy(layer(**arguments, modality_mask=other))
    keras.tree.map_structure(np.testing.assert_array_equal, actual, expected)
    assert all(np.isfinite(v).all() for v in keras.tree.flatten(actual))


@pytest.mark.parametrize(
    "layer", [layers.RangeControl, layers.CorruptionAugmentation]
)
@pytest.mark.parametrize(
    "inputs, named",
    [
        (X, "inputs"),
        ({}, "inputs"),
        ({"modality_mask": MASK}, "inputs"),
        ({**DICT, "modality_mask": MASK[:, :2]}, "modality_mask"),
        ({**DICT, "modality_mask": MASK[:, 0]}, "modality_mask"),
    ],
    ids=["array", "nothing", "mask alone", "narrow", "one axis"],
)
def test_layers_of_a_dict_name_what_is_none(layer, inputs, named):
    one_sentence(lambda: layer()(inputs, training=True), named)


@pytest.mark.parametrize(
    "layer", [layers.RangeControl, layers.CorruptionAugmentation]
)
@pytest.mark.parametrize(
    "inputs",
    [{**DICT, "b": X[:4, 1]}, {**DICT, "modality_mask": MASK[:4]}],
    ids=["modality", "mask"],
)
def test_layers_of_a_dict_name_what_has_other_rows(layer, inputs):
    named = "modality_mask" if "modality_mask" in inputs else "inputs"
    one_sentence(lambda: layer()(inputs, training=True), named)


def test_a_range_control_takes_the_modalities_that_it_knows():
    layer = layers.RangeControl()
    layer.adapt(DICT)
    unknown = {"a": DICT["a"], "z": DICT["b"]}
    with pytest.raises(ValueError, match="Received: .'a', 'z'.$"):
        layer(unknown)
    for function in (layer, layer.update_statistics, layer.adapt):
        one_sentence(lambda function=function: function(unknown), "inputs")
    narrow = {**DICT, "b": DICT["b"][:, :2]}
    one_sentence(lambda: layer(narrow), "inputs")


@pytest.mark.parametrize(
    "scale",
    [
        "x",
        -1.0,
        float("nan"),
        [0.5, 1.0],
        np.ones(7, "float32"),
        np.ones((7, 1), "float32"),
        np.ones((6, 5, 1), "float32"),
    ],
    ids=["text", "negative", "NaN", "list", "row", "column", "three axes"],
)
def test_a_gradient_scale_names_a_scale_that_it_cannot_take(scale):
    layer = layers.GradientScale()
    one_sentence(lambda: layer(X[:, 0], scale=scale), "scale")


def test_a_gradient_scale_takes_a_tensor_alone():
    for inputs in ([[1.0, 2.0]], [X], {"a": X}, 1.0, None):
        one_sentence(
            lambda inputs=inputs: layers.GradientScale()(inputs), "inputs"
        )


def test_the_layer_itself_names_its_mask():
    layer, arguments = built("DynamicDepthFusion")
    for mask in (MASK[:4], MASK[:, :2]):
        with pytest.raises(ValueError, match="^`modality_mask` must .*6, 3"):
            layer(**arguments, modality_mask=mask)


def test_nested_inputs_are_not_corrupted():
    layer = layers.CorruptionAugmentation(noise_probability=1.0)
    nested = {"text": {"tokens": Y[:, None]}, "a": X[:, 0]}
    out = layer(nested, training=True)
    tokens = ops.convert_to_numpy(out["text"]["tokens"])
    np.testing.assert_array_equal(tokens, Y[:, None])
    assert (ops.convert_to_numpy(out["a"]) != X[:, 0]).any()


BATCHES = [(X, Y)]

DIRTY = X.copy()
DIRTY[2, 1, 3] = np.nan
SEEN = MASK.copy()
SEEN[2, 1] = 0


def of_columns(x):
    return {name: x[:, index] for index, name in enumerate("abc")}


ADAPT = {
    "a dict": (lambda: layers.FeatureGate(4).adapt(DICT, Y), "inputs"),
    "a dict alone": (lambda: layers.FeatureGate(4).adapt(DICT), "data"),
    "an array alone": (lambda: layers.FeatureGate(4).adapt(X), "data"),
    "a number": (lambda: layers.FeatureGate(4).adapt(5), "data"),
    "batches of inputs": (lambda: layers.FeatureGate(4).adapt([X]), "data"),
    "NaN": (lambda: layers.FeatureGate(4).adapt(DIRTY, Y), "data"),
    "infinity": (
        lambda: layers.FeatureGate(4).adapt([X[:, 0] + np.inf, X[:, 1]], Y),
        "data",
    ),
    "no sample": (lambda: layers.FeatureGate(4).adapt(X[:0], Y[:0]), "data"),
    "other rows": (
        lambda: layers.FeatureGate(4).adapt([X[:, 0], X[:4, 1]], Y),
        "inputs",
    ),
    "no modality": (lambda: layers.FeatureGate(4).adapt([], Y), "inputs"),
    "range of NaN": (
        lambda: layers.RangeControl().adapt(of_columns(DIRTY)),
        "inputs",
    ),
    "range of no sample": (
        lambda: layers.RangeControl().adapt(of_columns(X[:0])),
        "inputs",
    ),
    "range of other rows": (
        lambda: layers.RangeControl().adapt({**DICT, "b": X[:4, 1]}),
        "inputs",
    ),
    "range of lists": (
        lambda: layers.RangeControl().adapt({"a": [[1.0, 2.0]]}),
        "inputs",
    ),
    "a generator": (
        lambda: layers.FeatureGate(4).adapt(b for b in BATCHES),
        "data",
    ),
    "no batch": (lambda: layers.FeatureGate(4).adapt([]), "data"),
    "mask of NaN": (
        lambda: layers.FeatureGate(4).adapt(X, Y, MASK * np.nan),
        "",
    ),
    "mask of halves": (
        lambda: layers.FeatureGate(4).adapt(X, Y, 0.5 * MASK),
        "",
    ),
    "standardization by a generator": (
        lambda: layers.RunningStandardization().adapt(x for x in X),
        "inputs",
    ),
    "standardization by a matrix": (
        lambda: layers.RunningStandardization().adapt(X[0]),
        "inputs",
    ),
    "range of a generator": (
        lambda: layers.RangeControl().adapt(x for x in X),
        "inputs",
    ),
    "range of an array": (lambda: layers.RangeControl().adapt(X), "inputs"),
    "range with a mask of NaN": (
        lambda: layers.RangeControl().adapt(
            {**DICT, "modality_mask": MASK * np.nan}
        ),
        "",
    ),
}


@pytest.mark.parametrize("case", ADAPT)
def test_adapt_names_what_it_cannot_take(case):
    function, named = ADAPT[case]
    if named:
        return one_sentence(function, named)
    with pytest.raises(ValueError, match="'modality_mask' must hold only 0"):
        function()


def test_adapt_reads_nothing_of_what_is_missing():
    gate, clean = layers.FeatureGate(4), layers.FeatureGate(4)
    gate.adapt(DIRTY, Y, SEEN)
    clean.adapt(X, Y, SEEN)
    control = layers.RangeControl()
    control.adapt({**of_columns(DIRTY), "modality_mask": SEEN})
    np.testing.assert_array_equal(to_numpy(gate.means), to_numpy(clean.means))
    assert float(control.count["b"]) == 5
    assert np.isfinite(to_numpy(control.high["b"])).all()


def test_a_refused_adapt_leaves_the_statistics_as_they_were():
    gate, control = layers.FeatureGate(4), layers.RangeControl()
    gate.adapt(X, Y)
    control.adapt(DICT)
    before = [to_numpy(w) for w in gate.weights + control.weights]
    with pytest.raises(ValueError):
        gate.adapt(DIRTY, Y)
    with pytest.raises(ValueError):
        control.adapt(of_columns(DIRTY))
    after = [to_numpy(w) for w in gate.weights + control.weights]
    keras.tree.map_structure(np.testing.assert_array_equal, after, before)


def test_a_history_takes_integers_and_its_own_number_of_columns():
    history = layers.SampleHistory(5, columns=2)
    values = np.ones((3, 2), "float32")
    one_sentence(
        lambda: history.update_statistics(np.array([0.5, 1.0, 2.0]), values),
        "ids",
    )
    ids = np.arange(3)
    for bad in (values[:, :1], values[:2], values[:, 0]):
        one_sentence(lambda bad=bad: history.update_statistics(ids, bad), "val")
    one_sentence(
        lambda: history.update_statistics(ids, values, values[:, :1]), "present"
    )
    assert not ops.convert_to_numpy(history.counts).any()
