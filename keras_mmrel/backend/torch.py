"""PyTorch: a backward-pass train step, process-group reductions."""

import contextlib
import warnings
from typing import Any

import keras
import torch
import torch.distributed.nn

from keras_mmrel.backend import upstream


def train_step(model: Any, data: Any) -> dict:
    """Run `keras.Model`'s torch train step, open to modulation.

    A parameter that the loss does not reach has the gradient `None`, which
    the hook must pass on.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    y_pred = model(x, training=True)
    # Not by `zero_grad`, which knows nothing of layers in a list of lists.
    for weight in model.trainable_weights:
        weight.value.grad = None
    loss = upstream.compute_loss(
        model,
        x=x,
        y=y,
        y_pred=y_pred,
        sample_weight=sample_weight,
        training=True,
    )
    batch = next(leaf for leaf in keras.tree.flatten(x) if leaf is not None)
    tracker = upstream.loss_tracker(model)
    tracker.update_state(loss, sample_weight=batch.shape[0])
    loss = model.optimizer.scale_loss(loss)

    variables = model.trainable_weights[:]
    slot = model.modulation_slot
    signals = {"y": y, "y_pred": y_pred}
    if variables:
        if slot.splits_gradients:
            added = model.optimizer.scale_loss(slot.take_added_loss())
            signals["added_gradients"] = torch.autograd.grad(
                added,
                [v.value for v in variables],
                retain_graph=True,
                allow_unused=True,
            )
        loss.backward()
        with torch.no_grad():
            gradients = model.modulate_gradients(
                [v.value.grad for v in variables], variables, signals
            )
            edits = slot.edits_updates
            old = [v.value.clone() for v in variables] if edits else []
            model.optimizer.apply(gradients, variables)
            if edits:
                new = [v.value for v in variables]
                edited = slot.edit_updates(old, new, variables, model.optimizer)
                for variable, value in zip(variables, edited, strict=True):
                    variable.assign(value)
    else:
        warnings.warn("The model has no trainable weights.", stacklevel=2)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def all_reduce_sum(x: Any) -> Any:
    """Sum `x` over the processes of the default process group.

    Its gradient is the sum of the processes' gradients.
    """
    if _has_group() and x.requires_grad:
        return torch.distributed.nn.functional.all_reduce(x)
    return _all_reduce(x, "SUM")


def all_reduce_max(x: Any) -> Any:
    """Take the maximum of `x` over the processes of that group."""
    return _all_reduce(x, "MAX")


def _all_reduce(x: Any, operation: str) -> Any:
    if not _has_group():
        return x
    total = x.detach().clone()
    torch.distributed.all_reduce(
        total, getattr(torch.distributed.ReduceOp, operation)
    )
    return total


def _has_group() -> bool:
    group = torch.distributed
    return group.is_available() and group.is_initialized()


def of_first_process(x: Any) -> Any:
    """Return what the first process of the default group has as `x`."""
    if not _has_group():
        return x
    first = x.detach().clone()
    torch.distributed.broadcast(first, 0)
    return first


def replica_share(x: Any) -> Any:
    """Return `x`: gradients of the processes are averaged, not summed."""
    return x


def variable_scope(model: Any) -> Any:
    """Return the context in which `model`'s variables are made: any."""
    return contextlib.nullcontext()


def kept_state(model: Any) -> Any:
    """Return the context in which `model` runs: its weights are where it is."""
    return contextlib.nullcontext()


def is_about_inputs(error: Exception) -> bool:
    """Whether PyTorch says that it does not take some tensors.

    It says so by the same class as that there is no memory, or no device.
    """
    words = str(error)
    return (
        isinstance(error, RuntimeError)
        and not isinstance(error, torch.OutOfMemoryError)
        and not any(word in words for word in ("CUDA", "alloc", "NCCL"))
    )


def runs_as_read(x: Any) -> bool:
    """Whether Python and NumPy may work on a tensor in a step.

    They may on the processor's own memory, where nothing is compiled.
    """
    plain = type(x) is torch.Tensor and x.device.type == "cpu"
    # What a gradient flows through has to be recorded.
    plain = plain and not x.requires_grad
    return plain and not torch.compiler.is_compiling()


def compiles_loops() -> bool:
    """Whether a compiled step may hold a loop with an open end: no."""
    return False


def host_value(x: Any) -> Any:
    """Return a tensor or a variable as NumPy sees its memory.

    Only where `runs_as_read`: it takes a tenth of what a conversion takes.
    """
    tensor = getattr(x, "value", x).detach()
    # NumPy has no bfloat16.
    return (
        tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    ).numpy()


def lgamma(x: Any) -> Any:
    """Log of the absolute gamma function, in float32."""
    return torch.lgamma(keras.ops.cast(x, "float32"))


def digamma(x: Any) -> Any:
    """Derivative of `lgamma`, in float32."""
    return torch.digamma(keras.ops.cast(x, "float32"))


def value_and_gradients(function: Any, tensors: list) -> tuple:
    """Return `function(tensors)`, a scalar, and its gradients, eagerly."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    value = function(leaves)
    return value.detach(), list(torch.autograd.grad(value, leaves))
