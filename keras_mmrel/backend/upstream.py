"""Every name of Keras in use that is not public.

One function a name, and one test each in `tests/backend/test_upstream.py`,
which fails when a new Keras drops it.
"""

import contextlib
import functools
import importlib
import types
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

# `evaluate(..., _use_cached_eval_dataset=True)`: how `fit` calls it.
CACHED_EVALUATION = "_use_cached_eval_dataset"

# Words of the errors about what is refused because it may run foreign code,
# reach for other files or fill the memory.
UNSAFE = ("safe_mode=False", "Not allowed: ", "for security")

# Words of the error about a class that is not registered.
UNKNOWN_CLASS = "Could not locate class"

# Mark of an error to which Keras has added what it called the layer with.
CALL_INFO = "_keras_call_info_injected"

# Attribute of a callback that holds the model.
MODEL_OF_A_CALLBACK = "_model"


def plain(error: ValueError) -> ValueError:
    """Return an error of a layer's `call` that Keras leaves as it is.

    Keras adds many lines about the arguments, unless the error is marked as
    one that has them already.
    """
    setattr(error, CALL_INFO, True)
    return error


def compute_loss(model: Any, **arguments: Any) -> Any:
    """`compute_loss`, by the signature that a subclass has."""
    return model._compute_loss(**arguments)


def loss_tracker(model: Any) -> Any:
    """Metric that averages the loss of an epoch."""
    return model._loss_tracker


def loss_and_updates(model: Any) -> Any:
    """JAX: the stateless function of the weights that a step differentiates."""
    return model.compute_loss_and_updates


def update_metrics(model: Any, *arguments: Any) -> tuple:
    """JAX: logs of a step and the metrics' new weights."""
    return model._update_metrics_variables(*arguments)


def weight_averages(optimizer: Any) -> Sequence[Any]:
    """Moving averages of the weights, one a variable, of an optimizer."""
    return optimizer._model_variables_moving_average


def built_for(optimizer: Any, variables: Sequence[Any]) -> tuple[int, int, int]:
    """Numbers of weights: that an optimizer was built for, of others, both."""
    built = set(optimizer._trainable_variables_indices)
    others = {optimizer._var_key(v) for v in variables}
    return len(built), len(others), len(built & others)


def is_emptied(variable: Any) -> bool:
    """JAX: whether a run holds the value of a variable."""
    return variable._value is None


def made_by(tensor: Any) -> str:
    """Return the name of the layer that a symbolic tensor is the output of."""
    return tensor._keras_history.operation.name


def sublayers(layer: keras.layers.Layer) -> Sequence[keras.layers.Layer]:
    """Return the layers that a layer holds itself, in order."""
    return layer._flatten_layers(include_self=False, recursive=False)


def all_layers(layer: keras.layers.Layer) -> Sequence[keras.layers.Layer]:
    """Return a layer and all layers inside it, each once."""
    return layer._flatten_layers()


def moving_state(layer: keras.layers.Layer) -> list[Any]:
    """Return what a call in training moves, such as moving averages.

    It is not what is frozen: PyTorch may need that for its gradients as it is.
    """
    return [
        variable
        for part in all_layers(layer)
        if part.trainable
        for variable in part._non_trainable_variables
    ]


def in_symbolic_scope() -> bool:
    """Whether Keras is finding out shapes, on invented values maybe."""
    with keras.SymbolicScope() as scope:
        return scope.original_scope is not None


@functools.cache
def symbolic_shape(shape: str, constraints: tuple[str, ...]) -> tuple:
    """JAX: the one symbolic shape of a name and what is known of it."""
    export = importlib.import_module("jax.export")
    return export.symbolic_shape(shape, constraints=constraints)


@contextlib.contextmanager
def one_symbolic_batch() -> Iterator[None]:
    """JAX: what is built inside has one and the same symbolic batch size.

    Keras makes a new one whenever it calls a layer symbolically. JAX then
    traces all again, and keeps it for good: a megabyte a model.
    """
    if keras.config.backend() != "jax":
        yield
        return
    core: Any = importlib.import_module("keras.src.backend.jax.core")
    export = core.jax_export
    core.jax_export = types.SimpleNamespace(
        symbolic_shape=lambda shape, constraints=(): symbolic_shape(
            shape, tuple(constraints)
        )
    )
    try:
        yield
    finally:
        core.jax_export = export


def build_state(model: Any, batch: tuple) -> None:
    """JAX, PyTorch: build what is left to build, from a batch.

    Keras would draw the batch from the data. Where workers draw ahead, those
    that they drew come again in the first epoch, before its own, in the place
    of its last ones.
    """
    if keras.config.backend() != "tensorflow":
        model._symbolic_build(data_batch=batch)


def own_state(layer: Any) -> Sequence[Any]:
    """Non-trainable variables of a layer itself, without its sublayers'."""
    return layer._non_trainable_variables


def keep_seeds(layer: Any) -> None:
    """PyTorch: let a layer's dropout draw from its seed generator.

    Without a seed Keras' dropout draws from torch's own generator, whose
    state no file has; what looks like a given seed makes it use the state of
    its `keras.random.SeedGenerator`, as on the other backends.
    """
    if keras.config.backend() != "torch":
        return
    for part in layer._flatten_layers():
        for generator in part._seed_generators:
            if generator._initial_seed is None:
                state = keras.ops.convert_to_numpy(generator.state)
                generator._initial_seed = int(state[0])


def global_seed_generator() -> keras.random.SeedGenerator:
    """Return what random operations without a seed draw from."""
    module = importlib.import_module(keras.random.SeedGenerator.__module__)
    return module.global_seed_generator()


def neutral_optimizer(config: Any) -> Any:
    """Name an optimizer's class in a config as every backend knows it.

    Keras on PyTorch names that of PyTorch, which other backends then take
    for theirs.

    Args:
        config: What Keras makes of an optimizer, or a part of it.
    """
    if not isinstance(config, Mapping):
        return config
    config = {name: neutral_optimizer(part) for name, part in config.items()}
    known = hasattr(keras.optimizers, str(config.get("class_name")))
    if known and str(config.get("module")).startswith("keras."):
        config |= {"module": "keras.optimizers", "registered_name": None}
    return config


def fit_compile_arguments(arguments: dict[str, Any]) -> None:
    """Change what a saved model was compiled with, if it runs only elsewhere.

    Keras on PyTorch refuses several steps at a time, in `predict` too. How
    many there are is no part of what a step computes.
    """
    if keras.config.backend() == "torch":
        arguments["steps_per_execution"] = 1


def readers(network: Any, tensor: Any) -> list[tuple[Any, list]]:
    """Return the operations of a graph that read a tensor, with outputs."""
    if isinstance(network, keras.Sequential):
        network = network._functional
    depths = getattr(network, "_nodes_by_depth", {})
    return [
        (node.operation, node.outputs)
        for nodes in depths.values()
        for node in nodes
        if any(x is tensor for x in node.input_tensors)
    ]


def in_a_call() -> bool:
    """Whether a layer of Keras is being called."""
    attributes = importlib.import_module(
        "keras.src.backend.common.global_state"
    )
    return attributes.get_global_attribute("current_call_ctx") is not None
