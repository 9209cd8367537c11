"""Fair comparisons: rows in, a report out.

In Python `Comparison(...).run(folder)`, or a YAML file and
`python -m keras_mmrel.benchmark`.
"""

from keras_mmrel.benchmark._probes import PROBES
from keras_mmrel.benchmark._report import report
from keras_mmrel.benchmark._run import run
from keras_mmrel.benchmark.comparison import Comparison
from keras_mmrel.benchmark.dataset import Dataset
from keras_mmrel.benchmark.evaluation import Evaluation
from keras_mmrel.benchmark.method import Method
from keras_mmrel.benchmark.regime import Regime
from keras_mmrel.benchmark.training import Training
from keras_mmrel.benchmark.tuning import Tuning

__all__ = [
    "PROBES",
    "Comparison",
    "Dataset",
    "Evaluation",
    "Method",
    "Regime",
    "Training",
    "Tuning",
    "report",
    "run",
]
