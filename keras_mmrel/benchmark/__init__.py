"""Fair comparisons in one command: `python -m keras_mmrel.benchmark`."""

from keras_mmrel.benchmark.report import report
from keras_mmrel.benchmark.run import run

__all__ = ["report", "run"]
