"""On TensorFlow a training is the same from run to run."""

import keras
import numpy as np
import pytest

import keras_mmrel
from tests.helpers import SHAPES
from tests.helpers import everywhere
from tests.helpers import vectors

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="it is about an operation of TensorFlow",
)
MODELS = {
    cls.__name__: cls
    for cls in (
        keras_mmrel.QADMNet,
        keras_mmrel.MICINet,
        keras_mmrel.AIM,
        keras_mmrel.CAL,
        keras_mmrel.ReliableFusion,
        keras_mmrel.ConcatFusion,
        keras_mmrel.LateFusion,
        keras_mmrel.MMDynamics,
        keras_mmrel.TMC,
        keras_mmrel.QMF,
        keras_mmrel.PDF,
        keras_mmrel.ETMC,
        keras_mmrel.RCML,
        keras_mmrel.MMCosine,
        keras_mmrel.UDML,
        keras_mmrel.MCDropout,
        keras_mmrel.DeepEnsemble,
    )
}


SUMS = ("Add", "AddV2", "AddN")
# Their output may be the memory of their input: a sum over no axis is.
ALIASES = ("Reshape", "Identity", "Squeeze", "ExpandDims", "Sum")


def inputs_of_a_sum(operation):
    """What TensorFlow adds by one operation: sums of sums are merged."""
    inputs = []
    for tensor in operation.inputs:
        merged = (
            tensor.op.type in SUMS
            and str(tensor.shape) == str(operation.outputs[0].shape)
            and len(tensor.consumers()) == 1
        )
        inputs += inputs_of_a_sum(tensor.op) if merged else [tensor]
    return inputs


def shared(tensor):
    """Whether somebody else needs the memory of a tensor."""
    if len(tensor.consumers()) > 1:
        return True
    source = tensor.op.inputs[0] if tensor.op.type in ALIASES else None
    if source is None or source.shape.rank == 0:
        return False
    if tensor.op.type == "Sum" and source.shape.is_fully_defined():
        # It is known to sum over something.
        return source.shape == tensor.shape and shared(source)
    return shared(source)


def sums_in_any_order(graph):
    """Sums of three and more whose order depends on who is done first.

    It is added into the first input that nobody else needs any more. That is
    the first of all if nobody else uses it.
    """
    found = []
    for operation in graph.get_operations():
        # What is logged does not change weights.
        if operation.type not in SUMS or operation.outputs[0].shape.rank == 0:
            continue
        inputs = inputs_of_a_sum(operation)
        same = len({str(tensor.shape) for tensor in inputs}) == 1
        if same and len(inputs) > 2 and shared(inputs[0]):
            found.append(
                f"{operation.name}: {[tensor.name for tensor in inputs]}"
            )
    return found


# Those with most terms; the others are slow.
@pytest.mark.parametrize("name", everywhere(MODELS, ["MICINet", "QMF"]))
def test_nothing_is_summed_in_an_order_of_chance(name):
    import tensorflow as tf

    x, y = vectors()
    if name == "QMF":
        x = {**x, "sample_id": np.arange(len(y))}
    model = MODELS[name](SHAPES, 3)
    model.compile()
    step = tf.function(lambda x, y: model.train_step((x, y)))
    # As in `fit`, whose last batch may be smaller.
    tensors = keras.tree.map_structure(
        lambda v: tf.TensorSpec((None, *v.shape[1:]), v.dtype), (x, y)
    )
    graph = step.get_concrete_function(*tensors).graph
    assert sums_in_any_order(graph) == []


def test_such_a_sum_is_found():
    import tensorflow as tf

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.square(x) * 2.0 + (x - tf.roll(x, 1, 0)) * tf.exp(x)
            loss = tf.reduce_sum(tf.tanh(y) - tf.roll(x, 1, 0) + x)
        return tape.gradient(loss, x)

    graph = gradient.get_concrete_function(tf.ones((4, 3))).graph
    sums = [o for o in graph.get_operations() if o.type == "AddN"]
    assert len(sums) == 1 and len(sums[0].inputs) > 2
    assert sums_in_any_order(graph)
