"""JAX: a stateless train step, global-view reductions."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras
from jax.experimental import multihost_utils
from jax.scipy import special

from keras_mmrel.backend import upstream


def train_step(model: Any, state: Any, data: Any) -> tuple[dict, tuple]:
    """Run `keras.Model`'s JAX train step, open to modulation.

    Variables hold no values while `fit` runs under JAX, so the hook sees the
    step's arrays through a `keras.StatelessScope`; what it assigns to
    non-trainable weights flows out of the step.
    """
    trainable, non_trainable, optimizer_variables, metrics_variables = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    arguments = (non_trainable, metrics_variables, x, y, sample_weight)
    gradients, added, auxiliary = _gradients(
        model, trainable, arguments, optimizer_variables
    )
    loss, y_pred, non_trainable, metrics_variables = auxiliary
    signals = {"y": y, "y_pred": y_pred, **added}

    mapping = [
        *zip(model.trainable_variables, trainable, strict=True),
        *zip(model.non_trainable_variables, non_trainable, strict=True),
        *zip(model.optimizer.variables, optimizer_variables, strict=True),
    ]
    with keras.StatelessScope(state_mapping=mapping) as scope:
        gradients = model.modulate_gradients(
            gradients, model.trainable_variables, signals
        )
    non_trainable = [
        scope.get_current_value(v) for v in model.non_trainable_variables
    ]

    old = trainable
    trainable, optimizer_variables = model.optimizer.stateless_apply(
        optimizer_variables, gradients, trainable
    )
    if model.modulation_slot.edits_updates:
        mapping = [
            *zip(model.trainable_variables, trainable, strict=True),
            *zip(model.non_trainable_variables, non_trainable, strict=True),
            *zip(model.optimizer.variables, optimizer_variables, strict=True),
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            trainable = model.modulation_slot.edit_updates(
                old, trainable, model.trainable_variables, model.optimizer
            )
        optimizer_variables = [
            scope.get_current_value(v) for v in model.optimizer.variables
        ]
    logs, metrics_variables = upstream.update_metrics(
        model, metrics_variables, loss, x, y, y_pred, sample_weight
    )
    return logs, (
        trainable,
        non_trainable,
        optimizer_variables,
        metrics_variables,
    )


def _gradients(
    model: Any, trainable: Any, arguments: tuple, optimizer_variables: Any
) -> tuple[Any, dict, tuple]:
    """Gradients of the loss, those of an added one, and what the step has."""
    function = functools.partial(
        upstream.loss_and_updates(model),
        training=True,
        optimizer_variables=optimizer_variables,
    )
    slot = model.modulation_slot
    if not slot.splits_gradients:
        gradient_function = jax.value_and_grad(function, has_aux=True)
        (_, auxiliary), gradients = gradient_function(trainable, *arguments)
        return gradients, {}, auxiliary

    def losses(trainable: Any) -> tuple:
        loss, auxiliary = function(trainable, *arguments)
        state = zip(model.optimizer.variables, optimizer_variables, strict=True)
        with keras.StatelessScope(state_mapping=list(state)):
            added = model.optimizer.scale_loss(slot.take_added_loss())
        return jnp.stack([loss, added]), auxiliary

    _, pull_back, auxiliary = jax.vjp(losses, trainable, has_aux=True)
    (gradients,) = pull_back(jnp.array([1.0, 0.0]))
    (added,) = pull_back(jnp.array([0.0, 1.0]))
    return gradients, {"added_gradients": added}, auxiliary


def all_reduce_sum(x: Any) -> Any:
    """Return `x`: JAX sees the global batch, so its sums are global."""
    return x


def all_reduce_max(x: Any) -> Any:
    """Return `x`, as `all_reduce_sum` does."""
    return x


def of_first_process(x: Any) -> Any:
    """Return what the first of JAX's processes has as `x`."""
    if jax.process_count() == 1:
        return x
    return multihost_utils.broadcast_one_to_all(x)


def replica_share(x: Any) -> Any:
    """Return `x`: JAX has one loss for all devices."""
    return x


def variable_scope(model: Any) -> Any:
    """Return the context in which `model`'s variables are made: any."""
    return contextlib.nullcontext()


@contextlib.contextmanager
def kept_state(model: Any) -> Iterator[None]:
    """Give `model` its weights back where a run breaks off.

    Keras takes them away for a run, and where drawing a batch raises, or
    Ctrl-C does in an evaluation, they would stay away.
    """
    # A model that was never compiled has no such attribute.
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else [])]
    values = [v.value for v in variables]
    try:
        yield
    except BaseException:
        # Of the steps so far, if there was one.
        model.jax_state_sync()
        for variable, value in zip(variables, values, strict=True):
            if upstream.is_emptied(variable) and not value.is_deleted():
                variable.assign(value)
        # A run makes some of its metrics, and each begins with them anew.
        if any(map(upstream.is_emptied, model.metrics_variables)):
            model.reset_metrics()
        raise


def is_about_inputs(error: Exception) -> bool:
    """Whether JAX says that it does not take some tensors, by its own class.

    It says so by those of Python.
    """
    return False


def runs_as_read(x: Any) -> bool:
    """Whether Python and NumPy may work on a tensor in a step: never."""
    return False


def compiles_loops() -> bool:
    """Whether a compiled step may hold a loop with an open end: yes."""
    return True


def host_value(x: Any) -> Any:
    """Return a tensor or a variable as an array of NumPy."""
    return keras.ops.convert_to_numpy(x)


def lgamma(x: Any) -> Any:
    """Log of the absolute gamma function, in float32."""
    return special.gammaln(keras.ops.cast(x, "float32"))


def digamma(x: Any) -> Any:
    """Derivative of `lgamma`, in float32."""
    return special.digamma(keras.ops.cast(x, "float32"))


def value_and_gradients(function: Any, tensors: list) -> tuple:
    """Return `function(tensors)`, a scalar, and its gradients, eagerly."""
    return jax.value_and_grad(function)(list(tensors))
