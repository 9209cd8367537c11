"""Tests compile many small programs: none is worth much optimisation."""

import keras


def use_quick_compiler():
    if keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_disable_most_optimizations", True)
        # On a GPU products are rounded to ten bits by default.
        jax.config.update("jax_default_matmul_precision", "highest")
    if keras.config.backend() == "torch":
        import torch

        # On a GPU the fastest convolution adds in an order of chance, and
        # some tests compare bits.
        torch.backends.cudnn.deterministic = True
    # Not so TensorFlow: without its optimiser each function keeps four times
    # the memory, for good, and thousands of tests then need all there is.
