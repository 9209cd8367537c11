"""One tensor for several uses, with one order of summing their gradients."""

from keras import ops

from keras_mmrel.contract import Tensor


def branches(x: Tensor, count: int) -> list[Tensor]:
    """Return `count` times `x`, for as many uses of it.

    TensorFlow adds the gradients of all uses by one operation, into whichever
    of them is free at that moment. From three on the order, and with it the
    rounding, is then a matter of chance where the first one is used elsewhere
    too. Through this they are stacked and summed, always in one order.
    """
    return ops.unstack(ops.broadcast_to(x, (count, *ops.shape(x))), count)
