"""What is no tensor, or one of other axes, is named wherever a layer is."""

import re

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel import encoders
from keras_mmrel import layers
from keras_mmrel.layers._auxiliary_block_encoder import AuxiliaryBlockEncoder
from tests.helpers import to_numpy

X = np.random.default_rng(0).uniform(size=(6, 3, 5)).astype("float32")
C = np.full((6, 3), 0.5, "float32")
BIAS = np.zeros(4, "float32")


def dense():
    return keras.layers.Dense(4)


# Layer, and the other arguments of a call.
LAYERS = {
    "PrototypeConfidence": (lambda: layers.PrototypeConfidence(4), {}),
    "DepthAllocator": (lambda: layers.DepthAllocator(4), {}),
    "DynamicDepthFusion": (
        lambda: layers.DynamicDepthFusion(4),
        {"confidence": C},
    ),
    "RunningStandardization": (layers.RunningStandardization, {}),
    "ModalityEmbedding": (lambda: layers.ModalityEmbedding(7), {}),
    "ModalityContribution": (layers.ModalityContribution, {"bias": BIAS}),
    "DiscriminativePower": (layers.DiscriminativePower, {}),
    "ICIRemoval": (layers.ICIRemoval, {}),
    "CrossModalityCompensation": (
        layers.CrossModalityCompensation,
        {"power_logits": C},
    ),
    "InformationBottleneck": (layers.InformationBottleneck, {}),
    "SampleHistory": (lambda: layers.SampleHistory(10), {}),
    "GradientScale": (layers.GradientScale, {}),
    "CorruptionAugmentation": (layers.CorruptionAugmentation, {}),
    "FeatureGate": (lambda: layers.FeatureGate(4), {}),
    "RangeControl": (layers.RangeControl, {}),
    "InputQuality": (layers.InputQuality, {}),
    "FeatureRepair": (layers.FeatureRepair, {}),
    "MLPEncoder": (encoders.MLPEncoder, {}),
    "ConvEncoder": (encoders.ConvEncoder, {}),
    "ResidualBlock": (lambda: encoders.ResidualBlock(4), {}),
    "BlockEncoder": (lambda: encoders.BlockEncoder([dense()]), {}),
    "PooledEncoder": (lambda: encoders.PooledEncoder(dense()), {}),
    "ImageEncoder": (
        lambda: encoders.ImageEncoder(keras.layers.Conv2D(4, 3), (4, 4, 3)),
        {},
    ),
    "AudioEncoder": (lambda: encoders.AudioEncoder(dense(), (3,)), {}),
    "VideoEncoder": (lambda: encoders.VideoEncoder(dense()), {}),
    "LogMelSpectrogram": (lambda: encoders.LogMelSpectrogram(8000), {}),
    "AuxiliaryBlockEncoder": (lambda: AuxiliaryBlockEncoder([dense()], 3), {}),
}
NO_TENSOR = {
    "list": [[1.0, 2.0], [3.0, 4.0]],
    "three axes": np.ones((2, 3, 5)).tolist(),
    "ragged": [[1.0], [2.0, 3.0]],
    "number": 1.0,
    "text": "a",
    "texts": np.array([["a", "b"]]),
    "nothing": None,
    "empty": [],
    "dict of lists": {"a": [1.0, 2.0]},
}
# Axes that none of these takes.
NO_SHAPE = {
    "MLPEncoder": np.ones(6, "float32"),
    "ConvEncoder": C,
    "ResidualBlock": np.ones((6, 3, 2, 2, 2), "float32"),
    "InformationBottleneck": np.ones(6, "float32"),
    "ModalityContribution": np.ones(6, "float32"),
    "DiscriminativePower": C,
    "ModalityEmbedding": C,
    "SampleHistory": np.ones((6, 3), "int32"),
    "BlockEncoder": np.ones(6, "float32"),
    "PooledEncoder": np.ones(6, "float32"),
    "VideoEncoder": C,
    "LogMelSpectrogram": np.ones(6, "float32"),
    "AuxiliaryBlockEncoder": np.ones(6, "float32"),
    "RunningStandardization": C,
    "DepthAllocator": X,
}
CASES = [(name, bad) for name in LAYERS for bad in NO_TENSOR.values()]
CASES += NO_SHAPE.items()


class Outer(keras.layers.Layer):
    """Calls another layer with something else than it is called with."""

    def __init__(self, inner, bad, options):
        super().__init__()
        self.inner = inner
        self.call_inner = lambda: inner(bad, **options)

    def call(self, inputs):
        return self.call_inner()


@pytest.mark.parametrize(
    ("name", "bad"),
    [pytest.param(*case, id=f"{case[0]}-{i}") for i, case in enumerate(CASES)],
)
@pytest.mark.parametrize("inside", [False, True])
def test_what_is_no_tensor_is_named_in_one_line(name, bad, inside):
    make, options = LAYERS[name]
    layer = make()
    with pytest.raises(ValueError) as error:
        if inside:
            Outer(layer, bad, options)(C)
        else:
            layer(bad, **options)
    pattern = r"(`\w+`|Block 0, '\w+',) must .* Received: .+"
    assert re.fullmatch(pattern, str(error.value)), str(error.value)


def test_a_first_argument_by_name_is_looked_at_too():
    layer = layers.RunningStandardization()
    with pytest.raises(ValueError, match="`inputs` must be a tensor"):
        layer(inputs=[[[1.0, 2.0]]])
    layer(inputs=X)


def test_symbolic_calls_say_it_in_one_line_too():
    inputs, mask = keras.Input((2,)), keras.Input((3,))
    with pytest.raises(ValueError, match="^`modality_mask` must") as error:
        layers.DepthAllocator(4)(inputs, modality_mask=mask)
    assert "\n" not in str(error.value)
    encoder = encoders.PooledEncoder(dense(), output_key="pooled")
    with pytest.raises(ValueError, match="^`output_key` must be None"):
        keras_mmrel.ConcatFusion({"a": encoder, "b": (3,)}, 4).build(
            {"a": (None, 3), "b": (None, 3)}
        )


def test_arrays_of_any_number_pass():
    encoder = encoders.MLPEncoder((4,), dropout=0.0)
    expected = to_numpy(encoder(C))
    for other in (C.astype("float64"), ops.convert_to_tensor(C)):
        np.testing.assert_allclose(
            to_numpy(encoder(other)), expected, atol=1e-6
        )
    for dtype in ("int32", "uint8", "bool"):
        encoder(C.astype(dtype))
    symbolic = encoder(keras.KerasTensor((None, 3)))
    assert symbolic.shape == (None, 4)


def test_a_block_that_does_not_take_the_one_before_is_named():
    blocks = [keras.layers.Dense(4), keras.layers.Conv2D(3, 3, name="wide")]
    for encoder in (
        encoders.BlockEncoder(blocks),
        AuxiliaryBlockEncoder(blocks, 3),
    ):
        with pytest.raises(ValueError, match="Block 1, 'wide', must take what"):
            encoder(C)


def test_a_backbone_of_one_output_has_no_output_key():
    encoder = encoders.PooledEncoder(dense(), output_key="pooled")
    with pytest.raises(ValueError, match="`output_key` must be None, since"):
        encoder(C)
