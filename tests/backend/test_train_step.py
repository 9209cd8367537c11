"""The canary: our train step is `keras.Model`'s, bit for bit."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import vectors


def train(own_step, policy, **optimizer_kwargs):
    class Model(keras_mmrel.ConcatFusion):
        def train_step(self, *args):
            step = (
                keras_mmrel.ConcatFusion.train_step
                if own_step
                else keras.Model.train_step
            )
            return step(self, *args)

    keras.utils.set_random_seed(7)
    model = Model({"a": (6,), "b": (4,), "c": (5,)}, 3, dtype=policy)
    model.compile(keras.optimizers.Adam(1e-2, **optimizer_kwargs))
    x, y = vectors()
    history = model.fit(x, y, batch_size=8, epochs=3, verbose=0).history
    return [ops.convert_to_numpy(v) for v in model.variables], history


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    "optimizer_kwargs",
    [{}, {"gradient_accumulation_steps": 2, "clipnorm": 0.1}],
)
def test_train_step_is_bit_identical_to_keras(policy, optimizer_kwargs):
    ours, our_history = train(True, policy, **optimizer_kwargs)
    theirs, their_history = train(False, policy, **optimizer_kwargs)
    assert our_history == their_history
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_first_step_is_traced_once():
    """Nothing is made in it, or TensorFlow would trace it again."""

    class Counting(keras_mmrel.ConcatFusion):
        steps = 0

        def train_step(self, *args):
            Counting.steps += 1
            return super().train_step(*args)

    model = Counting({"a": (6,), "b": (4,), "c": (5,)}, 3)
    model.compile()
    model.fit(*vectors(), batch_size=48, epochs=1, verbose=0)
    assert Counting.steps == 1


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="strategies of TensorFlow"
)
def test_fit_is_called_outside_of_a_strategys_scope():
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = keras_mmrel.ConcatFusion({"a": (6,), "b": (4,), "c": (5,)}, 3)
        model.compile()
    logs = model.fit(*vectors(), batch_size=48, verbose=0).history
    assert np.isfinite(logs["loss"]).all()


def test_hook_edits_the_gradients_of_one_encoder_only():
    class FrozenFirst(keras_mmrel.ConcatFusion):
        def modulate_gradients(self, gradients, variables, signals):
            frozen = {id(v) for v in self.gradient_groups()["a"]}
            return [
                g * 0.0 if id(v) in frozen else g
                for g, v in zip(gradients, variables, strict=True)
            ]

    model = FrozenFirst({"a": (6,), "b": (4,), "c": (5,)}, 3)
    model.compile(keras.optimizers.SGD(0.1))
    groups = model.gradient_groups()
    before = {
        name: [ops.convert_to_numpy(v) for v in group]
        for name, group in groups.items()
    }
    x, y = vectors()
    model.fit(x, y, batch_size=24, epochs=1, verbose=0)
    for name, group in model.gradient_groups().items():
        moved = any(
            np.abs(ops.convert_to_numpy(v) - old).max() > 0
            for v, old in zip(group, before[name], strict=True)
        )
        assert moved == (name != "a")


def test_hook_may_assign_non_trainable_weights_that_persist():
    class Counting(keras_mmrel.ConcatFusion):
        def modulate_gradients(self, gradients, variables, signals):
            self.class_counts.assign(self.class_counts + 100.0)
            return gradients

    model = Counting({"a": (6,), "b": (4,), "c": (5,)}, 3)
    model.compile()
    x, y = vectors()
    model.fit(x, y, batch_size=24, epochs=1, verbose=0)
    counts = ops.convert_to_numpy(model.class_counts)
    np.testing.assert_allclose(counts, 200 + np.bincount(y))


class Nested(keras.layers.Layer):
    """Layers in a list of lists, of which PyTorch's module knows nothing."""

    def __init__(self):
        super().__init__()
        self.parts = [[keras.layers.Dense(3)], [keras.layers.Dense(3)]]

    def build(self, input_shape):
        for (part,) in self.parts:
            part.build(input_shape)

    def call(self, inputs):
        return sum(part(inputs) for (part,) in self.parts)


def test_gradients_of_a_step_are_none_of_the_one_before():
    x = {"a": np.ones((4, 2), "float32")}
    model = keras_mmrel.ConcatFusion({"a": Nested()}, 2)
    model(x)
    model.compile(keras.optimizers.SGD(0.1))
    y = np.array([0, 1, 0, 0])
    start = [ops.convert_to_numpy(w) for w in model.weights]
    ends = []
    for _ in range(2):
        for weight, value in zip(model.weights, start, strict=True):
            weight.assign(value)
        model.train_on_batch(x, y)
        ends.append([ops.convert_to_numpy(w) for w in model.trainable_weights])
    for first, second in zip(*ends, strict=True):
        np.testing.assert_array_equal(first, second)
