"""What is wrong with multimodal data, and which method to take.

In Python `run(source, out)`, or `python -m keras_mmrel.diagnose`.
"""

from keras_mmrel.diagnose._limits import LIMITS
from keras_mmrel.diagnose._run import run
from keras_mmrel.diagnose.diagnosis import Diagnosis
from keras_mmrel.diagnose.finding import Finding

__all__ = ["LIMITS", "Diagnosis", "Finding", "run"]
