"""QADM-Net with depths that are dealt out at random: a negative control."""

import keras

import keras_mmrel


@keras.saving.register_keras_serializable(package="examples")
class RandomDepth(keras_mmrel.QADMNet):
    """The depths of a batch, shuffled over its samples and modalities."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        allocator = self.fusion.allocator
        allocate = allocator.call

        def call(*args, **kwargs):
            depth = allocate(*args, **kwargs)
            flat = keras.ops.reshape(depth, (-1,))
            shuffled = keras.random.shuffle(flat, seed=7)
            return keras.ops.reshape(shuffled, keras.ops.shape(depth))

        allocator.call = call
