"""What `test_data_parallel.py` trains on two devices: modulations."""

import keras
import numpy as np

import keras_mmrel
from keras_mmrel.modulations import AGM
from keras_mmrel.modulations import AMSS
from keras_mmrel.modulations import DGL
from keras_mmrel.modulations import OGM
from keras_mmrel.modulations import OGMGE
from keras_mmrel.modulations import OPM
from keras_mmrel.modulations import PMR
from keras_mmrel.modulations import UMT
from keras_mmrel.modulations import InfoReg
from keras_mmrel.modulations import MMPareto
from tests.modulations.helpers import TwoWays
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import make_model
from tests.modulations.helpers import make_teacher
from tests.modulations.helpers import train

CASES = {
    "OGM on gradients": (lambda: OGM(0.5), lambda: keras.optimizers.SGD(0.1)),
    "AGM on updates": (lambda: AGM(1.0), lambda: keras.optimizers.Adam(0.02)),
    "MMPareto": (MMPareto, lambda: keras.optimizers.SGD(0.1)),
    # All is dropped of the leader: replicas draw for rows of their own.
    "OPM": (
        lambda: OPM(1.0, 0.5, 1.0, seed=0),
        lambda: keras.optimizers.SGD(0.1),
    ),
    "PMR": (PMR, lambda: keras.optimizers.SGD(0.1)),
    "AMSS": (lambda: AMSS(0.5, seed=0), lambda: keras.optimizers.SGD(0.1)),
    "InfoReg": (InfoReg, lambda: keras.optimizers.SGD(0.1)),
    "UMT": (
        lambda: UMT({"a": make_teacher()}, 1.0),
        lambda: keras.optimizers.SGD(0.1),
    ),
    "DGL": (DGL, lambda: keras.optimizers.SGD(0.01)),
    "noise": (
        lambda: OGMGE(0.5, kernels="all", seed=0),
        lambda: keras.optimizers.SGD(0.1),
    ),
}

# The halves of every batch of 12 hold their modalities in unequal numbers,
# so that a mean of the halves' means is another number.
MASK = np.ones((24, 2), "float32")
MASK[[0, 1, 2, 3, 12, 13, 14], 0] = 0
MASK[[6, 22], 1] = 0
DATA = {**X, "modality_mask": MASK}


def run(case, rows=None, batch_size=12, compiled=True, parallel=None):
    """Train one case; the logs of the coefficients have to agree, too."""
    make, optimizer = CASES[case]
    rows = np.arange(24) if rows is None else np.array(rows)
    # Gradients that agree would be added up whatever the devices do.
    model_class = TwoWays if case == "MMPareto" else keras_mmrel.ConcatFusion
    model_class = parallel(model_class) if parallel else model_class
    model, history = train(
        make(),
        optimizer(),
        make_model(model_class=model_class, modality_loss_weight=0.5),
        compiled,
        x={k: v[rows] for k, v in DATA.items()},
        y=Y[rows],
        batch_size=batch_size,
        epochs=2,
    )
    own = ("coefficient", "_weight", "_pull", "_information", "_probability")
    logs = [k for k in history if k.endswith(own)]
    return model, [np.array(history[key]) for key in sorted(logs)]
