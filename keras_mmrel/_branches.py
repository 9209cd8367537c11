"""One tensor for several uses, with one order of summing their gradients."""

from keras import ops

from keras_mmrel.contract import Tensor


def branches(x: Tensor, count: int) -> list[Tensor]:
    """Return `count` times `x`, for as many uses of it.

    TensorFlow adds three and more tensors of one shape by one operation, into
    the first of them that nobody else needs any more: where others use the
    first one too, the order, and with it the rounding, is a matter of chance.
    It does so with the gradients of all uses of a tensor, and with a chain of
    `+`. Through this they are stacked and summed, always in one order.
    """
    return ops.unstack(ops.broadcast_to(x, (count, *ops.shape(x))), count)
