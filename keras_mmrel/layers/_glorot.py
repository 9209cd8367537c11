import math

import keras


def glorot(fan_in: int, fan_out: int) -> keras.initializers.Initializer:
    """Glorot normal for a stack of `(fan_in, fan_out)` matrices.

    Keras' own would take the stack's axis for the size of a kernel.
    """
    deviation = math.sqrt(2.0 / (fan_in + fan_out))
    return keras.initializers.RandomNormal(stddev=deviation)
