"""Files that several threads read at once are what one thread reads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_mmrel import media
from tests.media.files import RATE
from tests.media.files import tone
from tests.media.files import write_sound
from tests.media.files import write_video

pytestmark = pytest.mark.one_backend

SOUND = {"sample_rate": 6000, "seconds": 0.4, "start": 0.1}
READERS = {
    "soundfile": (
        "flac",
        lambda: media.Audio("x", decoder="soundfile", **SOUND),
    ),
    "pyav": ("flac", lambda: media.Audio("x", decoder="pyav", **SOUND)),
    "spectrogram": (
        "flac",
        lambda: media.Audio(
            "x",
            **SOUND,
            transform=media.Spectrogram(256, 128),
        ),
    ),
    "video": ("mp4", lambda: media.Video("x", frames=3, size=(16, 24))),
    "sound of a video": ("mp4", lambda: media.Audio("x", **SOUND)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for number in range(6):
        sound = tone(1.0, 150 * (number + 1), RATE)
        write_sound(folder / f"{number}.flac", sound)
        write_video(folder / f"{number}.mp4", 10 + number, sound=sound)
    return folder


@pytest.mark.parametrize("name", READERS)
def test_threads_get_the_file_that_they_asked_for(folder, name):
    ending, make = READERS[name]
    medium = make()
    files = sorted(folder.glob(f"*.{ending}"))

    def read(path):
        return medium.decode(path, {}, np.random.default_rng(0))

    alone = [read(path) for path in files]
    assert all((alone[0] != value).any() for value in alone[1:])
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(read, files * 5))
    for index, value in enumerate(together):
        np.testing.assert_array_equal(value, alone[index % len(files)])
