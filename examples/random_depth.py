"""QADM-Net with depths that are dealt out at random: a negative control."""

import keras

import keras_mmrel


@keras.saving.register_keras_serializable(package="examples")
class RandomDepth(keras_mmrel.QADMNet):
    """Depths and weights of a batch, shuffled over samples and modalities."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        allocator = self.fusion.allocator
        allocate = allocator.call

        def call(*args, **kwargs):
            out = allocate(*args, **kwargs)
            order = keras.random.shuffle(
                keras.ops.arange(keras.ops.size(out["depth"])), seed=7
            )

            def shuffled(x):
                flat = keras.ops.take(keras.ops.reshape(x, (-1,)), order)
                return keras.ops.reshape(flat, keras.ops.shape(x))

            return {name: shuffled(value) for name, value in out.items()}

        allocator.call = call
