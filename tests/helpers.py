"""Standard checks, so that a test reads like a table of arguments."""

import json
import tempfile

import keras
import numpy as np
import pytest
from keras import ops

SHAPES = {"a": (6,), "b": (4,), "c": (5,)}

# A model trains in float16, the harder one, on every backend. What bfloat16
# may break besides, in a cast or a dtype, breaks on the fastest backend too;
# layers are called in both on all three.
MODEL_POLICIES = ("mixed_float16",)
if keras.config.backend() == "torch":
    MODEL_POLICIES = ("mixed_float16", "mixed_bfloat16")

# How a few steps are trained soonest: JAX would compile each operation alone.
EAGER = keras.config.backend() != "jax"


def everywhere(names, chosen):
    """Parameters of a test that `chosen` take on every backend.

    The others are slow where a model compiles for long: what is to be seen
    differs from model to model there less than from backend to backend.
    """
    assert set(chosen) <= set(names)
    slow = pytest.mark.slow_on("jax", "tensorflow")
    return [pytest.param(n, marks=() if n in chosen else slow) for n in names]


def to_numpy(outputs):
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


def assert_close(actual, expected, atol=1e-6):
    keras.tree.map_structure(
        lambda a, e: np.testing.assert_allclose(
            ops.convert_to_numpy(a), ops.convert_to_numpy(e), atol=atol
        ),
        actual,
        expected,
    )


def vectors(samples=48, shapes=None, classes=3, seed=0):
    """A separable dataset of vector modalities in about [0, 1]."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % classes
    x = {}
    for name, shape in (shapes or SHAPES).items():
        centres = rng.uniform(0.2, 0.8, size=(classes, *shape))
        noise = 0.1 * rng.normal(size=(samples, *shape))
        x[name] = (centres[y] + noise).astype("float32")
    return x, y.astype("int32")


def json_round_trip(obj):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(obj)))
    return keras.saving.deserialize_keras_object(config)


def plain(config):
    """A config without the layers nested in it, which Keras itself checks."""
    return {
        k: v
        for k, v in config.items()
        if not (isinstance(v, dict) and "class_name" in v)
    }


def run_layer_checks(layer, inputs, call_kwargs=None, output_shapes=None):
    """What every layer of the library must pass, alone and in a model.

    Args:
        layer: An unbuilt layer.
        inputs: NumPy array, or list of arrays for several call arguments.
        call_kwargs: Keyword arguments of every call.
        output_shapes: Structure of the expected eager output shapes.
    """
    call_kwargs = call_kwargs or {}
    args = inputs if isinstance(inputs, list) else [inputs]
    config = layer.get_config()
    assert plain(json_round_trip(layer).get_config()) == plain(config)

    outputs = layer(*args, **call_kwargs)
    if output_shapes is not None:
        shapes = keras.tree.map_structure(lambda t: tuple(t.shape), outputs)
        assert shapes == output_shapes
    for leaf in keras.tree.flatten(outputs):
        assert np.isfinite(ops.convert_to_numpy(leaf)).all()

    symbolic = type(layer).from_config(config)(
        *keras.tree.map_structure(
            lambda a: keras.KerasTensor((None, *a.shape[1:]), dtype="float32"),
            args,
        ),
        **call_kwargs,
    )
    for tensor, leaf in zip(
        keras.tree.flatten(symbolic), keras.tree.flatten(outputs), strict=True
    ):
        assert len(tensor.shape) == len(leaf.shape)
        assert tuple(tensor.shape[1:]) == tuple(leaf.shape[1:])

    for policy in ("mixed_float16", "mixed_bfloat16"):
        low = type(layer).from_config({**config, "dtype": policy})
        for leaf in keras.tree.flatten(low(*args, **call_kwargs)):
            assert np.isfinite(
                ops.convert_to_numpy(ops.cast(leaf, "float32"))
            ).all()

    check_in_functional_model(
        type(layer).from_config(config), args, call_kwargs
    )


def check_in_functional_model(layer, args, call_kwargs):
    """Jit, order of samples, saving, `fit` and gradients in a Keras model."""
    tensors = [keras.Input(a.shape[1:]) for a in args]
    outputs = layer(*tensors, **call_kwargs)
    # What has no batch axis, such as prototypes, is nothing to predict.
    if isinstance(outputs, dict):
        outputs = {k: v for k, v in outputs.items() if v.shape[0] is None}
    model = keras.Model(tensors, outputs)
    compiled = model.predict(args, verbose=0)
    assert_close(to_numpy(model(args, training=False)), compiled, atol=2e-5)
    order = np.random.default_rng(1).permutation(len(args[0]))
    shuffled = model.predict([a[order] for a in args], verbose=0)
    expected = keras.tree.map_structure(lambda v: v[order], compiled)
    assert_close(shuffled, expected, atol=2e-5)

    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.saving.load_model(f"{folder}/model.keras")
    assert_close(loaded.predict(args, verbose=0), compiled, atol=1e-6)

    rng = np.random.default_rng(2)
    targets = keras.tree.map_structure(
        lambda v: rng.normal(size=v.shape).astype("float32"), compiled
    )
    before = [ops.convert_to_numpy(w) for w in model.trainable_weights]
    losses = keras.tree.map_structure(lambda v: "mse", compiled)
    model.compile(keras.optimizers.SGD(0.1), losses)
    model.fit(args, targets, batch_size=64, verbose=0)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.abs(ops.convert_to_numpy(weight) - old).max() > 0, weight.path


def assert_same_state(layer, other):
    """Two layers hold the same statistics."""
    pairs = zip(
        layer.non_trainable_weights, other.non_trainable_weights, strict=True
    )
    for own, expected in pairs:
        np.testing.assert_array_equal(
            ops.convert_to_numpy(own), ops.convert_to_numpy(expected)
        )


def check_statistics_move_in_fit_only(
    layer, args, as_list=False, output=None, epochs=2
):
    """A layer keeps statistics as `keras.layers.BatchNormalization` does.

    They move in `fit` and as in a training call on the same batches, not in
    `predict` or `evaluate`, and not with `trainable=False`.

    Args:
        layer: An unbuilt layer.
        args: List of NumPy arrays, the layer's call arguments.
        as_list: Whether these are one argument, a list.
        output: Key of the output to train on.
        epochs: Epochs of `fit`.
    """
    tensors = [keras.Input(a.shape[1:]) for a in args]
    outputs = layer(tensors) if as_list else layer(*tensors)
    outputs = outputs[output] if output else outputs
    model = keras.Model(tensors, keras.layers.Dense(1)(outputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    twin = type(layer).from_config(layer.get_config())
    twin(args) if as_list else twin(*args)
    twin.set_weights(layer.get_weights())

    statistics = layer.non_trainable_weights
    expected = twin.non_trainable_weights

    def state():
        return [ops.convert_to_numpy(w) for w in statistics]

    def moved(before):
        pairs = zip(state(), before, strict=True)
        return any((new != old).any() for new, old in pairs)

    target = np.zeros((len(args[0]), *model.output_shape[1:]), "float32")
    start = state()
    assert start
    model.predict(args, verbose=0)
    model.evaluate(args, target, verbose=0)
    assert not moved(start)
    layer.trainable = False
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(args, target, batch_size=10, epochs=1, verbose=0)
    assert not moved(start)
    layer.trainable = True
    model.compile(keras.optimizers.SGD(0.0), "mse")
    settings = {"batch_size": 10, "shuffle": False, "verbose": 0}
    model.fit(args, target, epochs=epochs, **settings)
    assert moved(start)
    for _ in range(epochs):
        for row in range(0, len(args[0]), 10):
            batch = [a[row : row + 10] for a in args]
            if as_list:
                twin(batch, training=True)
            else:
                twin(*batch, training=True)
    for own, other in zip(state(), expected, strict=True):
        np.testing.assert_allclose(
            own, ops.convert_to_numpy(other), atol=1e-5, rtol=1e-5
        )


def run_model_checks(make_model, tmp_path, shapes=None, classes=3):
    """What every model of the library must pass.

    Args:
        make_model: Function of `(modalities, num_classes, **kwargs)`.
        tmp_path: Folder for saved files.
        shapes: Modality shapes.
        classes: Number of classes.
    """
    shapes = shapes or SHAPES
    x, y = vectors(shapes=shapes, classes=classes)
    keras.utils.set_random_seed(0)
    model = make_model(shapes, classes)
    count = len(x[next(iter(shapes))])
    modalities = len(shapes)

    copy = json_round_trip(model)
    assert copy.get_config() == model.get_config()
    assert [tuple(w.shape) for w in copy.weights] == [
        tuple(w.shape) for w in model.weights
    ]

    model.compile()
    before = [ops.convert_to_numpy(w) for w in model.trainable_weights]
    history = model.fit(x, y, batch_size=16, epochs=3, verbose=0).history
    assert all(np.isfinite(v).all() for v in history.values())
    assert set(model.auxiliary_trackers) <= set(history)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.abs(ops.convert_to_numpy(weight) - old).max() > 0, weight.path

    # Whole batches of one size: every other is a program more to compile.
    whole = {"batch_size": 16, "verbose": 0}
    outputs = model.predict(x, **whole)
    assert outputs["logits"].shape == (count, classes)
    assert outputs["probabilities"].shape == (count, classes)
    assert outputs["modality_logits"].shape == (count, modalities, classes)
    assert outputs["confidence"].shape == (count, modalities)
    assert outputs["confidence"].min() >= 0
    assert outputs["confidence"].max() <= 1
    assert outputs["logits"].dtype == np.float32
    np.testing.assert_allclose(outputs["probabilities"].sum(1), 1, atol=1e-5)

    # Eager, all rows at once, and compiled agree; rows do not know of each
    # other at inference.
    eager = dict(model(x, training=False))
    assert_close(eager, outputs, atol=2e-5)
    order = np.random.default_rng(1).permutation(count)
    shuffled = model.predict({k: v[order] for k, v in x.items()}, **whole)
    for key, value in outputs.items():
        np.testing.assert_allclose(shuffled[key], value[order], atol=2e-5)

    # A masked modality may hold anything.
    mask = np.ones((count, modalities), "float32")
    mask[::2, 0] = 0
    zeros = {k: v.copy() for k, v in x.items()}
    garbage = {k: v.copy() for k, v in x.items()}
    first = next(iter(shapes))
    zeros[first][::2] = 0
    garbage[first][::2] = np.nan
    expected = model.predict({**zeros, "modality_mask": mask}, **whole)
    assert_close(
        model.predict({**garbage, "modality_mask": mask}, **whole),
        expected,
        atol=0,
    )
    assert (expected["confidence"][::2, 0] == 0).all()

    # All modalities missing: the class prior, confidence 0, no NaN.
    nothing = {k: np.full_like(v, np.nan) for k, v in x.items()}
    answer = model.predict(
        {**nothing, "modality_mask": np.zeros_like(mask)}, **whole
    )
    prior = (np.bincount(y, minlength=classes) * 3 + 1) / (3 * count + classes)
    np.testing.assert_allclose(
        answer["probabilities"], np.tile(prior, (count, 1)), atol=1e-4
    )
    assert (answer["confidence"] == 0).all()

    # Saving keeps predictions, optimizer and compile settings.
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is type(model)
    assert_close(dict(loaded(x, training=False)), eager, atol=1e-6)
    weights = str(tmp_path / "model.weights.h5")
    model.save_weights(weights)
    fresh = make_model(shapes, classes)
    fresh.load_weights(weights)
    assert_close(dict(fresh(x, training=False)), eager, atol=1e-6)

    # It goes on, with missing data, one-hot labels, weights; batches of one.
    data = (
        {**garbage, "modality_mask": mask},
        np.eye(classes, dtype="float32")[y],
        np.linspace(0.5, 1.5, count, dtype="float32"),
    )
    history = loaded.fit(
        *data[:2], sample_weight=data[2], batch_size=count - 1, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()
    row = keras.tree.map_structure(lambda v: v[:1], data)
    logs = loaded.train_on_batch(*row[:2], sample_weight=row[2])
    assert np.isfinite(logs).all()
    if EAGER:  # On JAX a shape more is what compiles longest here.
        one = {k: v[:1] for k, v in x.items()}
        assert np.isfinite(fresh.predict(one, verbose=0)["logits"]).all()

    for policy in MODEL_POLICIES:
        low = make_model(shapes, classes, dtype=policy)
        low.compile()
        logs = low.fit(x, y, batch_size=24, epochs=2, verbose=0).history
        assert np.isfinite(logs["loss"]).all()
        answer = low.predict(x, **whole)
        assert answer["logits"].dtype == np.float32
    return model
