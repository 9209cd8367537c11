"""TensorFlow: a gradient-tape train step, replica-context reductions."""

import contextlib
import warnings
from typing import Any

import keras
import tensorflow as tf

from keras_mmrel.backend import upstream


def train_step(model: Any, data: Any) -> dict:
    """Run `keras.Model`'s TensorFlow train step, open to modulation.

    A variable that the loss does not reach has the gradient `None`, which
    the hook must pass on.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    slot = model.modulation_slot
    with tf.GradientTape(persistent=slot.splits_gradients) as tape:
        y_pred = model(x, training=True)
        loss = upstream.compute_loss(
            model,
            x=x,
            y=y,
            y_pred=y_pred,
            sample_weight=sample_weight,
            training=True,
        )
        upstream.loss_tracker(model).update_state(
            _unscale_for_distribution(loss),
            sample_weight=tf.shape(_first_tensor(x))[0],
        )
        loss = model.optimizer.scale_loss(loss)
        if slot.splits_gradients:
            added = model.optimizer.scale_loss(slot.take_added_loss())

    variables = model.trainable_weights
    if variables:
        signals = {"y": y, "y_pred": y_pred}
        gradients = tape.gradient(loss, variables)
        if slot.splits_gradients:
            signals["added_gradients"] = tape.gradient(added, variables)
            del tape
        gradients = model.modulate_gradients(gradients, variables, signals)
        edits = slot.edits_updates
        old = [tf.identity(v.value) for v in variables] if edits else []
        model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if edits:
            new = [tf.identity(v.value) for v in variables]
            edited = slot.edit_updates(old, new, variables, model.optimizer)
            for variable, value in zip(variables, edited, strict=True):
                variable.assign(value)
    else:
        warnings.warn("The model has no trainable weights.", stacklevel=2)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _first_tensor(x: Any) -> Any:
    return next(leaf for leaf in keras.tree.flatten(x) if leaf is not None)


def _unscale_for_distribution(loss: Any) -> Any:
    """Undo the division by the replica count that Keras' losses apply."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return loss * replicas if replicas > 1 else loss


def all_reduce_sum(x: Any) -> Any:
    """Sum `x` over the replicas of the current strategy."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)


def all_reduce_max(x: Any) -> Any:
    """Take the maximum of `x` over the replicas of the current strategy."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return tf.reduce_max(context.all_gather(x[None], axis=0), axis=0)


def of_first_process(x: Any) -> Any:
    """Return `x`: the strategies that Keras takes have one process."""
    return x


def replica_share(x: Any) -> Any:
    """Divide a loss by the replica count, as gradients are summed."""
    return x / tf.distribute.get_strategy().num_replicas_in_sync


def variable_scope(model: Any) -> Any:
    """Return the context in which `model`'s variables are made."""
    return model.distribute_strategy.scope()


def kept_state(model: Any) -> Any:
    """Return the context in which `model` runs: its weights are where it is."""
    return contextlib.nullcontext()


def is_about_inputs(error: Exception) -> bool:
    """Whether TensorFlow says that it does not take some tensors."""
    return isinstance(error, tf.errors.InvalidArgumentError)


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
    return tf.math.lgamma(tf.cast(x, "float32"))


def digamma(x: Any) -> Any:
    """Derivative of `lgamma`, in float32."""
    return tf.math.digamma(tf.cast(x, "float32"))


def value_and_gradients(function: Any, tensors: list) -> tuple:
    """Return `function(tensors)`, a scalar, and its gradients, eagerly."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = function(tensors)
    return value, tape.gradient(value, tensors)
