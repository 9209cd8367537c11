import keras
import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Model
from keras_mmrel.contract import rows_of
from keras_mmrel.contract import to_numpy


def encoder_features(
    model: Model, index: int, values: ArrayLike, batch_size: int
) -> Array:
    """Features of one modality's encoder, batch by batch, in float32."""
    name, encoder = model.modality_names[index], model.encoders[index]
    count = len(keras.tree.flatten(values)[0])
    features = []
    for start in range(0, count, batch_size):
        batch = rows_of({name: values}, slice(start, start + batch_size))
        inputs = model.pixel_units.scaled(name, batch[name])
        features.append(to_numpy(encoder(inputs, training=False)))
    return np.concatenate(features).astype("float32")
