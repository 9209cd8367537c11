"""The only place of the library that knows which backend runs.

Each backend file offers the same fourteen functions: `train_step`,
`value_and_gradients`, `all_reduce_sum`, `all_reduce_max`, `of_first_process`,
`replica_share`, `variable_scope`, `kept_state`, `is_about_inputs`,
`runs_as_read`, `compiles_loops`, `host_value`, `lgamma` and `digamma`.
"""

import keras

if keras.config.backend() == "jax":
    from keras_mmrel.backend.jax import all_reduce_max
    from keras_mmrel.backend.jax import all_reduce_sum
    from keras_mmrel.backend.jax import compiles_loops
    from keras_mmrel.backend.jax import digamma
    from keras_mmrel.backend.jax import host_value
    from keras_mmrel.backend.jax import is_about_inputs
    from keras_mmrel.backend.jax import kept_state
    from keras_mmrel.backend.jax import lgamma
    from keras_mmrel.backend.jax import of_first_process
    from keras_mmrel.backend.jax import replica_share
    from keras_mmrel.backend.jax import runs_as_read
    from keras_mmrel.backend.jax import train_step
    from keras_mmrel.backend.jax import value_and_gradients
    from keras_mmrel.backend.jax import variable_scope
elif keras.config.backend() == "tensorflow":
    from keras_mmrel.backend.tensorflow import all_reduce_max
    from keras_mmrel.backend.tensorflow import all_reduce_sum
    from keras_mmrel.backend.tensorflow import compiles_loops
    from keras_mmrel.backend.tensorflow import digamma
    from keras_mmrel.backend.tensorflow import host_value
    from keras_mmrel.backend.tensorflow import is_about_inputs
    from keras_mmrel.backend.tensorflow import kept_state
    from keras_mmrel.backend.tensorflow import lgamma
    from keras_mmrel.backend.tensorflow import of_first_process
    from keras_mmrel.backend.tensorflow import replica_share
    from keras_mmrel.backend.tensorflow import runs_as_read
    from keras_mmrel.backend.tensorflow import train_step
    from keras_mmrel.backend.tensorflow import value_and_gradients
    from keras_mmrel.backend.tensorflow import variable_scope
elif keras.config.backend() == "torch":
    from keras_mmrel.backend.torch import all_reduce_max
    from keras_mmrel.backend.torch import all_reduce_sum
    from keras_mmrel.backend.torch import compiles_loops
    from keras_mmrel.backend.torch import digamma
    from keras_mmrel.backend.torch import host_value
    from keras_mmrel.backend.torch import is_about_inputs
    from keras_mmrel.backend.torch import kept_state
    from keras_mmrel.backend.torch import lgamma
    from keras_mmrel.backend.torch import of_first_process
    from keras_mmrel.backend.torch import replica_share
    from keras_mmrel.backend.torch import runs_as_read
    from keras_mmrel.backend.torch import train_step
    from keras_mmrel.backend.torch import value_and_gradients
    from keras_mmrel.backend.torch import variable_scope
else:
    raise ImportError(
        "`KERAS_BACKEND` must be 'jax', 'tensorflow' or 'torch' for "
        f"keras_mmrel. Received: KERAS_BACKEND={keras.config.backend()!r}"
    )

__all__ = [
    "all_reduce_max",
    "all_reduce_sum",
    "compiles_loops",
    "digamma",
    "host_value",
    "is_about_inputs",
    "kept_state",
    "lgamma",
    "of_first_process",
    "replica_share",
    "runs_as_read",
    "train_step",
    "value_and_gradients",
    "variable_scope",
]
