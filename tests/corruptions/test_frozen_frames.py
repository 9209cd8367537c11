import numpy as np
import pytest

from keras_mmrel.corruptions import DroppedFrames
from keras_mmrel.corruptions import FrozenFrames

pytestmark = pytest.mark.one_backend


def clips(n=200, frames=10):
    """Every pixel of a frame is the number of the frame."""
    numbers = np.arange(frames, dtype="float32").reshape(1, frames, 1, 1, 1)
    return {"video": np.broadcast_to(numbers, (n, frames, 4, 4, 1)).copy()}


@pytest.mark.parametrize(
    "share, count", [(0.001, 1), (0.2, 2), (0.5, 5), (0.9, 9), (1.0, 9)]
)
def test_share_of_the_frames_shows_the_one_before_them(share, count):
    frozen = FrozenFrames(share, "video")(clips())["video"]
    assert (frozen == frozen[:, :, :1, :1]).all()
    for shown in frozen[..., 0, 0, 0]:
        still = np.flatnonzero(shown != np.arange(10))
        assert len(still) == count
        np.testing.assert_array_equal(np.diff(still), 1)
        np.testing.assert_array_equal(shown[still], still[0] - 1)


def test_clip_freezes_anywhere_but_at_its_first_frame():
    frozen = FrozenFrames(0.1, "video")(clips())["video"]
    places = (frozen != clips()["video"])[..., 0, 0, 0].argmax(axis=1)
    assert set(places) == set(range(1, 10))


@pytest.mark.parametrize("cls", [FrozenFrames, DroppedFrames])
@pytest.mark.parametrize(
    "shape", [(64,), (8, 8, 3), (1, 8, 8, 3), (3, 4, 4, 9)]
)
def test_modality_that_is_no_video_is_left_alone_and_refused(cls, shape):
    inputs = {**clips(2), "other": np.zeros((2, *shape))}
    with pytest.raises(ValueError, match="`target` .*video.*'other'"):
        cls(0.5, "other")(inputs)
    for target in ("all", "video"):
        assert cls(0.5, target).corrupted(inputs).any(axis=0).tolist() == [
            True,
            False,
        ]
