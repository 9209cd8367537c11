"""Ways to fuse features that are not one linear layer."""

import keras
from keras import ops

import keras_mmrel


@keras.saving.register_keras_serializable(package="examples")
class Attention(keras.layers.Layer):
    """Weigh the modalities' hidden features by what they say.

    Args:
        num_classes: Number of logits.
        units: Width of the hidden layer that all modalities share.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, num_classes, units=32, **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.units = num_classes, units
        self.hidden = keras.layers.Dense(units, "relu")
        self.score = keras.layers.Dense(1)
        self.head = keras.layers.Dense(num_classes)

    def build(self, shapes):
        self.hidden.build(shapes[0])
        self.score.build((None, self.units))
        self.head.build((None, self.units))

    def call(self, features):
        hidden = self.hidden(ops.stack(features, axis=1))
        weights = ops.softmax(self.score(hidden), axis=1)
        return self.head(ops.sum(weights * hidden, axis=1))

    def get_config(self):
        own = {"num_classes": self.num_classes, "units": self.units}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="examples")
class MLP(keras.layers.Layer):
    """One hidden layer on all features together.

    Args:
        num_classes: Number of logits.
        units: Width of the hidden layer.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, num_classes, units=64, **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.units = num_classes, units
        self.hidden = keras.layers.Dense(units, "relu")
        self.head = keras.layers.Dense(num_classes)

    def build(self, shapes):
        self.hidden.build((None, sum(shape[-1] for shape in shapes)))
        self.head.build((None, self.units))

    def call(self, features):
        return self.head(self.hidden(ops.concatenate(features, axis=1)))

    def get_config(self):
        own = {"num_classes": self.num_classes, "units": self.units}
        return {**super().get_config(), **own}


def fused_by(modalities, num_classes, model, fusion, **options):
    """A model of the library with one of these in place of its linear layer.

    Args:
        modalities: As the model takes it.
        num_classes: Likewise.
        model: `"ConcatFusion"` or `"AIM"`.
        fusion: `"mlp"` or `"attention"`.
        **options: Further arguments of the model.
    """
    layer = {"mlp": MLP, "attention": Attention}[fusion](num_classes)
    cls = getattr(keras_mmrel, model)
    return cls(modalities, num_classes, fusion=layer, **options)
