"""Declared constraints make the tests of bad constructor arguments."""

import importlib
import inspect
import pkgutil
import types
import typing

import keras
import numpy as np
import pandas as pd
import pytest

import keras_mmrel
from keras_mmrel import constraints

pytestmark = pytest.mark.one_backend

MODALITIES = {"a": (4,), "b": (3,)}
# Arguments that make a valid object of each class; nothing where none is
# needed. `blocks` and `backbone` are made anew for each.
MINIMAL = {
    "Array": lambda: {"column": "a", "shape": (4,)},
    "Audio": lambda: {"column": "a"},
    "AudioEncoder": lambda: {"backbone": dense()[0], "audio_shape": (4,)},
    "AuxiliaryBlockEncoder": lambda: {"blocks": dense(), "num_classes": 3},
    "AuxiliaryPaths": lambda: {"model": blocks_model()},
    "ClassMeans": lambda: {"num_classes": 3},
    "CosineClassifier": lambda: {"num_classes": 3},
    "Decision": lambda: {
        "model": keras_mmrel.LateFusion(MODALITIES, 3),
        "shapes": {"a": [4], "b": [3]},
        "samples": 5,
        "limits": [],
    },
    "DepthAllocator": lambda: {"max_depth": 4},
    "DepthStatistics": lambda: {"num_classes": 3},
    "DynamicDepthFusion": lambda: {"num_classes": 3},
    "FileMedium": lambda: {"column": "a"},
    "FeatureTypicality": lambda: {"num_classes": 3},
    "FeatureGate": lambda: {"num_classes": 3},
    "GlobalICI": lambda: {"num_classes": 3},
    "ICIFusion": lambda: {"num_classes": 3},
    "HalfPicture": lambda: {"column": "a", "side": "left", "size": (4, 6)},
    "Image": lambda: {"column": "a", "size": (4, 6)},
    "MediaTable": lambda: {"table": frame(), "modalities": {"a": column()}},
    "ImageEncoder": lambda: {
        "backbone": keras.layers.Conv2D(4, 3),
        "image_shape": (4, 4, 3),
    },
    "LogMelSpectrogram": lambda: {"sample_rate": 8000},
    "ModalityEmbedding": lambda: {"units": 4},
    "Relearning": lambda: {
        key: ({"a": np.ones((2, 4))}, np.ones(2))
        for key in ("training_data", "validation_data")
    },
    "ModalityMonitor": lambda: {"x": {"a": np.ones((2, 4))}, "y": np.ones(2)},
    "ModalityImbalance": lambda: {"num_modalities": 2},
    "PooledEncoder": lambda: {"backbone": dense()[0]},
    "SwappedModalities": lambda: {"severity": 0.5, "target": ["a", "b"]},
    "TrainingState": lambda: {"folder": "unused"},
    "UMT": lambda: {"teachers": {"a": dense()[0]}},
    "PrototypeConfidence": lambda: {"num_classes": 3},
    "ResidualBlock": lambda: {"filters": 4},
    "Scaling": lambda: {"shape": (4,)},
    "Series": lambda: {"column": "a", "features": 3, "length": 5},
    "SampleHistory": lambda: {"num_samples": 5},
    "StoredPicture": lambda: {
        "column": "a",
        "index": "b",
        "variable": "c",
        "size": (4, 6),
    },
    "Tabular": lambda: {"columns": ("a",)},
    "Text": lambda: {"column": "a", "tokenizer": str.encode},
    "TextEncoder": lambda: {"backbone": tokens_model(), "length": 4},
    "Video": lambda: {"column": "a", "frames": 2, "size": (4, 6)},
    "VideoEncoder": lambda: {"backbone": dense()[0]},
}
# What Keras' own base class takes, and checks.
OF_KERAS = {"name", "reduction", "dtype"}
PLAIN = {int, float, bool, str, type(None)}


def dense():
    return [keras.layers.Dense(4)]


def tokens_model():
    names = ("token_ids", "padding_mask")
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    tokens = keras.layers.Embedding(10, 4)(inputs["token_ids"])
    return keras.Model(inputs, tokens)


def blocks_model():
    encoders = {name: dense() for name in MODALITIES}
    return keras_mmrel.ConcatFusion(encoders, 3)


def frame():
    return pd.DataFrame({"a": [1.0, 2.0]})


def column():
    return keras_mmrel.media.Tabular(["a"])


def minimal_arguments(cls):
    if cls.__name__ in MINIMAL:
        return MINIMAL[cls.__name__]()
    if issubclass(cls, keras_mmrel.corruptions.Corruption):
        return {"severity": 0.5}
    if issubclass(cls, keras_mmrel.MultimodalModel):
        return {"modalities": MODALITIES, "num_classes": 3}
    return {}


def constrained_classes():
    """Every class of the library that declares constraints, by name."""
    found = {}
    for module in pkgutil.walk_packages(
        keras_mmrel.__path__, prefix="keras_mmrel."
    ):
        # One backend can be imported at a time.
        if module.name.startswith("keras_mmrel.backend."):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(cls) and hasattr(cls, "constraints"):
                if cls.__module__.startswith("keras_mmrel."):
                    found[cls.__name__] = cls
    # The base of two metrics is made by them alone.
    found.pop("DetectionMetric")
    return found


CLASSES = constrained_classes()
ARGUMENTS = [
    pytest.param(cls, name, id=f"{cls.__name__}-{name}")
    for _, cls in sorted(CLASSES.items())
    for name in cls.constraints
    # A method names its terms itself, and two modalities have no chance.
    if name not in ("auxiliary_loss_names", "probability")
    or name in inspect.signature(cls).parameters
]


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_minimal_arguments_make_an_object_that_keeps_them(cls):
    arguments = minimal_arguments(cls)
    made = cls(**arguments)
    for name in set(arguments) & set(cls.constraints):
        value = arguments[name]
        assert getattr(made, name) is value or getattr(made, name) == value


@pytest.mark.parametrize("cls, name", ARGUMENTS)
def test_every_bad_value_is_refused_by_name(cls, name):
    bad = cls.constraints[name].bad
    assert bad
    for value in bad:
        with pytest.raises(ValueError) as error:
            cls(**{**minimal_arguments(cls), name: value})
        message = str(error.value)
        assert message.startswith(f"`{name}` must be "), message
        assert message.endswith(f"Received: {name}={value!r}"), message


@pytest.mark.parametrize(
    ("loader", "name"),
    [
        (loader, name)
        for loader in keras_mmrel.datasets.__all__
        if loader.startswith("load_")
        for name in getattr(
            getattr(keras_mmrel.datasets, loader), "constraints", ()
        )
    ],
)
def test_a_loader_refuses_bad_values_before_it_reads(loader, name):
    load = getattr(keras_mmrel.datasets, loader)
    for value in load.constraints[name].bad:
        if name == "path" and isinstance(value, str):
            # A path like any other.
            continue
        arguments = {name: value}
        if "path" in load.constraints:
            arguments = {"path": "no such folder", **arguments}
        with pytest.raises(ValueError, match=f"^`{name}` must be "):
            load(**arguments)


@pytest.mark.parametrize("name", ["backbone", "layer_names"])
def test_a_backbone_is_split_by_names_of_layers_only(name):
    split = keras_mmrel.encoders.split_backbone
    good = {
        "backbone": keras.Sequential([keras.Input((3,)), *dense()]),
        "layer_names": ["dense"],
    }
    for value in split.constraints[name].bad:
        with pytest.raises(ValueError, match=f"^`{name}` must be "):
            split(**{**good, name: value})


def is_plain(annotation):
    """Whether a type is a number, a flag, a string, or a union of these."""
    if isinstance(annotation, types.UnionType):
        return set(typing.get_args(annotation)) <= PLAIN
    return annotation in PLAIN


@pytest.mark.parametrize(
    "cls",
    [
        pytest.param(getattr(package, name), id=name)
        for package in (
            keras_mmrel.layers,
            keras_mmrel.losses,
            keras_mmrel.metrics,
            keras_mmrel.encoders,
            keras_mmrel.media,
        )
        for name in package.__all__
        if inspect.isclass(getattr(package, name))
    ],
)
def test_every_plain_argument_has_a_constraint(cls):
    parameters = inspect.signature(cls.__init__).parameters.values()
    plain = {p.name for p in parameters if is_plain(p.annotation)}
    assert plain - OF_KERAS <= set(getattr(cls, "constraints", {}))


# -- What is handed on to Keras ----------------------------------------------

LAYERS = {
    name: cls
    for name, cls in CLASSES.items()
    if issubclass(cls, keras.layers.Layer)
}
TAKES_MORE = {
    name: cls
    for name, cls in LAYERS.items()
    if "kwargs" in inspect.signature(cls).parameters
}


@pytest.mark.parametrize("cls", TAKES_MORE.values(), ids=TAKES_MORE)
@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"dtype": "float12"}, "`dtype` must be the name of a dtype"),
        ({"dtype": 3}, "`dtype` must be the name of a dtype"),
        ({"name": 5}, "`name` must be a string without"),
        ({"name": "a/b"}, "`name` must be a string without"),
        ({"trainable": "no"}, "`trainable` must be True or False"),
        ({"no_such": 1}, "must get arguments that it has.*: no_such=1"),
    ],
    ids=str,
)
def test_what_keras_takes_is_checked_too(cls, bad, text):
    with pytest.raises(ValueError, match=text) as error:
        cls(**{**minimal_arguments(cls), **bad})
    assert "\n" not in str(error.value)


def test_an_argument_that_may_be_meant_is_named():
    with pytest.raises(ValueError, match=r"QADMNet must .*`hidden_dim` is me"):
        keras_mmrel.QADMNet(MODALITIES, 3, hiden_dim=4)
    with pytest.raises(TypeError, match="^TMC must get .*'num_classes'$"):
        keras_mmrel.TMC(MODALITIES)

    class Mine(keras_mmrel.TMC):
        def __init__(self, *args, extra=1, **kwargs):
            super().__init__(*args, **kwargs)

    Mine(MODALITIES, 3, extra=2, dtype=keras.DTypePolicy("mixed_bfloat16"))
    with pytest.raises(ValueError, match="Mine must .*`extra` is meant"):
        Mine(MODALITIES, 3, exta=2)


@pytest.mark.parametrize(
    "make",
    [
        keras_mmrel.losses.LabelCrossentropy,
        keras_mmrel.losses.EvidentialCrossentropy,
        keras_mmrel.metrics.BrierScore,
    ],
)
def test_losses_and_metrics_know_dtypes_and_reductions(make):
    with pytest.raises(ValueError, match="`dtype` must be the name"):
        make(dtype="float12")
    if issubclass(make, keras.losses.Loss):
        with pytest.raises(ValueError, match="`reduction` must be one of"):
            make(reduction="x")
        make(reduction=None)


def test_a_number_is_one_in_float32_too():
    Number = constraints.Number
    for number, good, bad in (
        (Number(0), (0, 1e-40, 1e15, 10**15), (1e39, 10**400, 1e16)),
        (Number(0, low_open=True), (1e-15, 1e15), (1e-40, 1e-16, 1e39)),
        (Number(0, 1, high_open=True), (0, 0.9999999), (1 - 1e-12, 1)),
        (Number(0, 1, low_open=True), (1e-9, 1), (1e-40, 0)),
        (Number(), (-1e15, 0.1), (-1e39, -(10**400))),
    ):
        for value in good:
            assert number("x", value) == value
        for value in bad:
            with pytest.raises(ValueError, match="`x` must be a .*number"):
                number("x", value)


@pytest.mark.parametrize("classes", [10**9, 10**6 + 1])
def test_classes_beyond_all_memory_are_refused(classes):
    with pytest.raises(ValueError, match="an integer from 2 to 1000000"):
        keras_mmrel.ConcatFusion(MODALITIES, classes)
