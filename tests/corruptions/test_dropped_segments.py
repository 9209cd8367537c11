import numpy as np
import pytest

from keras_mmrel.corruptions import DroppedSegments

pytestmark = pytest.mark.one_backend


def clips(n=30, shape=(2000,)):
    waves = np.ones((n, *shape), "float32")
    waves[:, :200] = waves[:, 1200:] = 0
    return {"audio": waves}


def lost_segments(before, after):
    """Where each lost segment begins, and behind its end."""
    edges = np.diff(np.pad((before != after).astype(int), 1))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.77, 1.0])
@pytest.mark.parametrize("segments", [1, 4])
@pytest.mark.parametrize("shape", [(2000,), (2000, 2)])
def test_share_of_the_sound_is_silent(share, segments, shape):
    inputs = clips(shape=shape)
    lost = DroppedSegments(share, "audio", segments=segments)
    result = lost(inputs)["audio"]
    gone = inputs["audio"] != result
    np.testing.assert_array_equal(
        gone[:, 200:1200].mean(axis=1), np.full(gone[:, 0].shape, share)
    )
    assert not result[gone].any()


def test_segments_are_apart_equally_long_and_anywhere():
    inputs = clips(300)
    result = DroppedSegments(0.2, "audio", segments=4)(inputs)["audio"]
    begins = []
    for before, after in zip(inputs["audio"], result, strict=True):
        begin, end = lost_segments(before, after)
        # Two may touch; then they are one of twice the length.
        assert set(end - begin) <= {50, 100, 150, 200}
        begins += begin.tolist()
    counts, _ = np.histogram(begins, bins=5, range=(200, 1150))
    assert counts.min() > 0.6 * counts.max()


def test_more_segments_than_points_in_time_are_no_error():
    inputs = clips()
    result = DroppedSegments(0.003, "audio", segments=50)(inputs)["audio"]
    assert ((inputs["audio"] != result).sum(axis=1) == 3).all()


def test_silence_stays_as_it_is():
    inputs = {"audio": np.zeros((2, 900))}
    lost = DroppedSegments(0.5, "audio")
    np.testing.assert_array_equal(lost(inputs)["audio"], inputs["audio"])
