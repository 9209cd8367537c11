"""A balance method with a model of any kind, or one sentence why not."""

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel import modulations
from keras_mmrel.models import MultimodalModel

# Compiles for long: the modulations themselves are tested on every backend.
pytestmark = pytest.mark.one_backend("torch")

MODELS = [
    name
    for name in keras_mmrel.models.__all__
    if issubclass(getattr(keras_mmrel.models, name), MultimodalModel)
    and name != "MultimodalModel"
]
# One for each way to act: on gradients, on what the losses see, by a loss of
# its own, by two gradients, by parts of an encoder.
MODULATIONS = {
    "OGM": {},
    "ARL": {},
    "MMPareto": {},
    "DGL": {},
    "InfoReg": {},
    "GradientBlending": {"weights": [1.0, 2.0, 1.0]},
    "OPM": {"seed": 0},
    "PMR": {},
    "AMSS": {"seed": 0},
    "UMT": {},
}
ONE_HEAD = ("OPM", "PMR", "AMSS", "UMT")
HAVE_ONE = ("AIM", "CAL", "ConcatFusion", "MCDropout", "UDML")
RNG = np.random.default_rng(0)
Y = np.arange(24) % 3
X = {
    name: (RNG.normal(size=(3, size))[Y] + RNG.normal(size=(24, size))).astype(
        "float32"
    )
    for name, size in {"a": 6, "b": 4}.items()
}


def trained(name, modulation):
    keras.utils.set_random_seed(0)
    # QADM-Net and MICINet have no encoders of their own for vectors.
    encoders = {
        modality: keras.Sequential(
            [keras.Input(x.shape[1:]), keras.layers.Dense(8, "relu")]
        )
        for modality, x in X.items()
    }
    model = getattr(keras_mmrel, name)(encoders, 3, seed=0)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1), modulation=modulation, metrics=[]
    )
    fitted = model.fit(X, Y, batch_size=12, epochs=2, verbose=0, shuffle=False)
    assert np.isfinite(fitted.history["loss"]).all()
    return [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_takes_a_modulation_or_says_what_it_lacks(name):
    plain = trained(name, None)
    for kind, options in MODULATIONS.items():
        late = {} if kind == "GradientBlending" else {"warmup": 0.0}
        if kind == "UMT":
            # A new one each time: a teacher is frozen.
            options = {"teachers": {"a": keras.layers.Dense(8, "relu")}}
        modulation = getattr(modulations, kind)(**options, **late)
        lacks = None
        if name == "DeepEnsemble":
            lacks = "which has several encoders a modality.*Received: "
        elif kind in ONE_HEAD and name not in HAVE_ONE:
            lacks = f"needs one with a head .*Received: {name}"
        if lacks:
            with pytest.raises(ValueError, match=lacks) as error:
                trained(name, modulation)
            assert "\n" not in str(error.value)
            continue
        found = trained(name, modulation)
        assert all(np.isfinite(w).all() for w in found), kind
        changed = [
            not np.allclose(a, b) for a, b in zip(found, plain, strict=True)
        ]
        assert any(changed), kind
