import numpy as np
import pytest

from keras_mmrel.layers import DepthAllocator
from tests.helpers import assert_same_state
from tests.helpers import check_statistics_move_in_fit_only
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy


def test_standard_checks():
    confidence = np.random.default_rng(0).uniform(size=(9, 3))
    run_layer_checks(
        DepthAllocator(3, (0.1, 0.5)),
        confidence.astype("float32"),
        output_shapes=(9, 3),
    )


def test_quantiles_follow_clean_confidence_and_ignore_missing_modalities():
    layer = DepthAllocator(4, quantiles=(0.1, 0.5), momentum=0.5)
    layer.build((None, 2))
    values = np.arange(100, dtype="float32").reshape(50, 2) / 100
    mask = np.ones_like(values)
    layer.update_statistics(values, mask, use=0.0)
    assert float(layer.ready) == 0
    layer.update_statistics(values, mask)
    assert abs(float(layer.low) - 0.09) < 1e-6
    assert abs(float(layer.high) - 0.49) < 1e-6
    mask[:, 0] = 0  # leaves 0.01, 0.03, ..., 0.99
    layer.update_statistics(values, mask)
    assert abs(float(layer.low) - (0.5 * 0.09 + 0.5 * 0.09)) < 1e-6
    assert abs(float(layer.high) - 0.5 * (0.49 + 0.49)) < 1e-6
    layer.update_statistics(values, 0 * mask)
    assert abs(float(layer.high) - 0.49) < 1e-6


def test_depth_is_monotone_and_spans_its_range():
    layer = DepthAllocator(4)
    layer.build((None, 1))
    layer.low.assign(0.2)
    layer.high.assign(0.6)
    layer.ready.assign(1.0)
    confidence = np.linspace(0, 1, 41, dtype="float32")[:, None]
    pairs = np.concatenate([confidence, np.ones_like(confidence)], axis=1)
    depth = to_numpy(layer(pairs))[:, 0]
    assert (np.diff(depth) >= 0).all()
    assert set(depth) == {0, 1, 2, 3, 4}
    assert depth[confidence[:, 0] <= 0.2].max() == 0
    assert depth[confidence[:, 0] >= 0.6].min() == 4


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"max_depth": 2, "quantiles": (0.5, 0.5)}, "increasing pair"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        DepthAllocator(**kwargs)


def test_a_training_call_has_taken_in_its_batch():
    values = np.random.default_rng(0).uniform(size=(50, 2)).astype("float32")
    mask = np.ones_like(values)
    mask[::4, 0] = 0
    called = DepthAllocator(4, (0.1, 0.5))
    updated = DepthAllocator(4, (0.1, 0.5))
    updated.build(values.shape)
    updated.update_statistics(values, mask)
    # What a missing modality holds is not read.
    spoiled = np.where(mask > 0, values, np.nan)
    out = to_numpy(called(spoiled, mask, training=True))
    np.testing.assert_array_equal(out, to_numpy(updated(values, mask)))
    assert_same_state(called, updated)
    assert 0 < (out[mask > 0] == 4).mean() < 1
    assert (out[mask == 0] == 0).all()


def test_quantiles_move_in_fit_only_unless_frozen():
    values = np.random.default_rng(0).uniform(size=(40, 2)).astype("float32")
    check_statistics_move_in_fit_only(DepthAllocator(4, (0.1, 0.5)), [values])


def test_statistics_build_the_layer():
    layer = DepthAllocator(4)
    layer.update_statistics(np.ones((4, 2)))
    assert layer.built and layer.non_trainable_weights
