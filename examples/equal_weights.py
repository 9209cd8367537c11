"""QADM-Net whose depths and weights are the same whatever the quality."""

import keras

import keras_mmrel


@keras.saving.register_keras_serializable(package="examples")
class EqualWeights(keras_mmrel.QADMNet):
    """Full depth and the same weight for every present modality."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        allocator = self.fusion.allocator
        allocate = allocator.call

        def call(*args, **kwargs):
            # Whatever is present has a positive weight.
            weight = allocate(*args, **kwargs)["weight"]
            present = keras.ops.cast(weight > 0, "float32")
            return {"weight": present, "depth": self.max_depth * present}

        allocator.call = call
