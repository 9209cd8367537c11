"""Run a guide in a small way: few epochs, a third of the digits.

Every line runs, and what it prints of a model is that of a worse one.
"""

import contextlib
import runpy
import sys
import warnings
from collections.abc import Iterator

import keras

import keras_mmrel

EPOCHS = 3
SHARE = 3


@contextlib.contextmanager
def small() -> Iterator[None]:
    """Make every `fit` end early, and the digits few, until it is left."""
    fit = keras.Model.fit
    load = keras_mmrel.datasets.load_multiview_digits

    def few_epochs(self, *args, epochs=1, **kwargs):
        return fit(self, *args, epochs=min(epochs, EPOCHS), **kwargs)

    def few_digits(*args, **kwargs):
        parts = load(*args, **kwargs)
        return tuple(
            ({name: values[::SHARE] for name, values in x.items()}, y[::SHARE])
            for x, y in parts
        )

    keras.Model.fit = few_epochs
    keras_mmrel.datasets.load_multiview_digits = few_digits
    try:
        yield
    finally:
        keras.Model.fit = fit
        keras_mmrel.datasets.load_multiview_digits = load


def run(script: str) -> None:
    """Run a script in this process, which has imported the framework."""
    arguments = sys.argv
    sys.argv = [str(script)]
    try:
        with small(), warnings.catch_warnings():
            runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = arguments
