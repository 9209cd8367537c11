import numpy as np
import pytest

from keras_mmrel.corruptions import DroppedFrames

pytestmark = pytest.mark.one_backend
CLIPS = {"video": np.random.default_rng(0).uniform(1, 2, (200, 10, 4, 4, 1))}


@pytest.mark.parametrize("share, count", [(0.01, 1), (0.3, 3), (1.0, 10)])
@pytest.mark.parametrize("fill", [0.0, 255.0])
def test_share_of_the_frames_is_blank_and_the_others_as_before(
    share, count, fill
):
    result = DroppedFrames(share, "video", fill=fill)(CLIPS)["video"]
    blank = (result == fill).all(axis=(2, 3, 4))
    assert (blank.sum(axis=1) == count).all()
    np.testing.assert_array_equal(result[~blank], CLIPS["video"][~blank])
    assert blank.any(axis=0).all()


def test_more_blank_frames_include_the_fewer():
    few, many = (
        (DroppedFrames(s, "video")(CLIPS, 4)["video"] == 0) for s in (0.2, 0.6)
    )
    assert (few <= many).all() and few.sum() < many.sum()
