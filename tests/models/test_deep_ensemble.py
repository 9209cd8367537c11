import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import SHAPES
from tests.helpers import run_model_checks
from tests.helpers import vectors

X, Y = vectors()


def small(modalities=SHAPES, num_classes=3, **options):
    options = {"members": 2, **options}
    return keras_mmrel.DeepEnsemble(modalities, num_classes, **options)


def weights_of(model, index):
    encoders, heads = model.member(index)
    return [v for part in (*encoders, *heads) for v in part.trainable_variables]


def test_standard_checks(tmp_path):
    run_model_checks(small, tmp_path)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


@pytest.mark.parametrize("average", ["entropy", "mean"])
def test_who_is_sure_counts_more(average):
    model = small(members=3, average=average)
    out = model.predict({n: 3 * v for n, v in X.items()}, verbose=0)
    p = softmax(out["member_logits"])
    weights = np.ones((48, 3)) / 3
    if average == "entropy":
        weights = softmax(-entropy(p))
    fused = (weights[:, :, None] * p).sum(1)
    np.testing.assert_allclose(out["probabilities"], fused, atol=1e-5)
    np.testing.assert_allclose(
        out["disagreement"],
        entropy(fused) - (weights * entropy(p)).sum(1),
        atol=1e-5,
    )


def test_members_learn_apart():
    """Another member's weights change nothing of what one learns."""
    results = []
    for factor in (1.0, 3.0):
        keras.utils.set_random_seed(0)
        model = small(seed=0)
        for variable in weights_of(model, 1):
            variable.assign(factor * ops.convert_to_tensor(variable))
        model.compile(keras.optimizers.SGD(0.1))
        model.fit(X, Y, epochs=2, shuffle=False, verbose=0)
        results.append([ops.convert_to_numpy(v) for v in weights_of(model, 0)])
        other = [ops.convert_to_numpy(v) for v in weights_of(model, 1)]
        pairs = zip(results[-1], other, strict=True)
        assert any((a != b).any() for a, b in pairs)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_encoders_of_a_user_are_copied_unless_they_are_frozen():
    def encoder(size):
        return keras.Sequential(
            [keras.Input((size,)), keras.layers.Dense(4, "relu")]
        )

    frozen = encoder(4)
    frozen.trainable = False
    model = small({"a": encoder(6), "b": frozen}, 3)
    (copy, shared), first = model.further_encoders, model.encoders[0]
    assert shared is frozen
    kernels = [ops.convert_to_numpy(e.layers[0].kernel) for e in (first, copy)]
    assert (kernels[0] != kernels[1]).any()


def test_a_modulation_is_refused():
    with pytest.raises(ValueError, match="must be None for DeepEnsemble"):
        small().compile("sgd", modulation=keras_mmrel.modulations.OGM())


def test_bad_input():
    with pytest.raises(ValueError, match="`members` must be"):
        small(members=1)
    with pytest.raises(ValueError, match="`average` must be"):
        small(average="votes")
