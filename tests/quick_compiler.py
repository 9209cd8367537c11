"""Tests compile many small programs: none is worth much optimisation."""

import keras


def use_quick_compiler():
    if keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_disable_most_optimizations", True)
    elif keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options(
            {"disable_meta_optimizer": True}
        )
