import numpy as np

from keras_mmrel.layers import DepthAllocator
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy


def test_standard_checks():
    quality = np.random.default_rng(0).uniform(size=(9, 3))
    run_layer_checks(
        DepthAllocator(3),
        quality.astype("float32"),
        output_shapes={"weight": (9, 3), "depth": (9, 3)},
    )


def test_nobody_is_dropped_where_all_suffer_alike():
    quality = np.array([[1.0], [0.3], [0.01], [0.0]], "float32")
    quality = quality * np.array([[1.0, 0.95, 0.9]], "float32")
    out = to_numpy(DepthAllocator(4)(quality))
    np.testing.assert_allclose(out["weight"], 1.0, atol=1e-4)
    np.testing.assert_array_equal(out["depth"], 4)


def test_depth_grows_with_quality_and_spans_its_range():
    quality = np.linspace(0, 1, 42, dtype="float32")[:, None]
    pairs = np.concatenate([quality, np.ones_like(quality)], axis=1)
    out = to_numpy(DepthAllocator(4, tolerance=0.8)(pairs))
    expected = np.minimum(quality[:, 0] / 0.8, 1.0)
    np.testing.assert_allclose(out["weight"][:, 0], expected, atol=1e-5)
    np.testing.assert_array_equal(out["depth"][:, 0], np.round(4 * expected))
    assert (out["depth"][:, 1] == 4).all()


def test_a_missing_modality_does_not_count_whatever_it_holds():
    quality = np.array([[0.4, np.nan, 0.2], [np.nan, np.nan, 0.1]], "float32")
    mask = np.isfinite(quality).astype("float32")
    out = to_numpy(DepthAllocator(4, tolerance=1.0)(quality, mask))
    np.testing.assert_allclose(
        out["weight"], [[1, 0, 0.5], [0, 0, 1]], atol=1e-4
    )
    np.testing.assert_array_equal(out["depth"], [[4, 0, 2], [0, 0, 4]])
    nothing = to_numpy(DepthAllocator(4)(quality, 0 * mask))
    np.testing.assert_array_equal(nothing["depth"], 0)
