"""Moving pictures from real files: which frames, which way up, and refusal."""

import importlib.util
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from keras_mmrel.media import Image
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Video
from tests.media.files import cut
from tests.media.files import turn_video
from tests.media.files import write_video

pytestmark = pytest.mark.one_backend


def read(path, cells=None, seed=0, **options):
    options = {"frames": 4, "size": (32, 48), "pixels": "uint8", **options}
    medium = Video("path", **options)
    values = medium.decode(path, cells or {}, np.random.default_rng(seed))
    assert values.shape == medium.shape and values.dtype == medium.dtype
    return values


def numbers(frames):
    """Which frame of `write_video` each is, modulo 25."""
    return np.round(frames[:, 8:24, -12:].mean(axis=(1, 2, 3)) / 10).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def clip(folder):
    """Two seconds of ten frames."""
    return write_video(folder / "a b,c é.mp4", 20)


def test_the_middles_of_equal_parts_are_taken(clip):
    # Parts of half a second: 0.25, 0.75, ... seconds.
    assert numbers(read(clip)) == [2, 7, 12, 17]
    assert numbers(read(clip, frames=1)) == [10]
    assert numbers(read(clip, frames=20)) == list(range(20))


def test_a_segment_is_where_it_was_said_to_be(clip):
    assert numbers(read(clip, start=1.0)) == [11, 13, 16, 18]
    assert numbers(read(clip, start=0.5, seconds=0.4)) == [5, 6, 7, 8]
    cells = {"begins": 1.5}
    assert numbers(read(clip, cells, start="begins", frames=1)) == [17]
    with pytest.raises(ValueError, match="no picture from second 2 on"):
        read(clip, start=2.0)


def test_an_end_may_be_that_of_a_column(clip):
    cells = {"begins": 0.5, "ends": 0.9}
    segment = {"start": "begins", "end": "ends"}
    assert numbers(read(clip, cells, **segment)) == [5, 6, 7, 8]
    assert numbers(read(clip, end=0.4)) == [0, 1, 2, 3]
    assert numbers(read(clip, end=99.0)) == numbers(read(clip))
    shorter = read(clip, start=0.5, seconds=0.4, end=1.9)
    assert numbers(shorter) == [5, 6, 7, 8]
    assert Video("clip", frames=1, size=8, **segment).columns == (
        "clip",
        *cells,
    )
    with pytest.raises(ValueError, match="an end at 0.5, not after the start"):
        read(clip, start=0.5, end=0.5)


@pytest.fixture(scope="module")
def pictures(folder):
    """Twelve pictures in a folder, of which names count from 1."""
    frames = folder / "frames of a clip"
    frames.mkdir()
    for index in range(12):
        grey = np.full((32, 48), 10 * index, "uint8")
        Pillow.fromarray(grey).save(frames / f"frame_{index + 1}.png")
    (frames / "._frame_1.png").write_bytes(b"left by a file manager")
    (frames / "notes.txt").write_text("no picture")
    return frames


def test_a_folder_of_pictures_is_a_video(pictures):
    assert numbers(read(pictures, frames=3)) == [2, 6, 10]
    assert numbers(read(pictures, frames=12)) == list(range(12))
    twice = sorted([*range(12), *range(12)])
    assert numbers(read(pictures, frames=24)) == twice
    drawn = [
        numbers(read(pictures, sampling="random", seed=s)) for s in (0, 1, 0)
    ]
    assert drawn[0] == drawn[2] != drawn[1]
    assert [int(n) // 3 for n in drawn[0]] == [0, 1, 2, 3]


def test_a_folder_has_no_seconds_and_must_have_a_picture(pictures, tmp_path):
    for segment in ({"start": 1.0}, {"seconds": 1.0}, {"end": 1.0}):
        with pytest.raises(ValueError, match="which has no seconds"):
            read(pictures, **segment)
    with pytest.raises(ValueError, match="no picture in the folder"):
        read(tmp_path)
    (tmp_path / "1.jpg").write_bytes(b"broken")
    with pytest.raises(ValueError, match="no picture that Pillow knows"):
        read(tmp_path)


def test_a_table_takes_folders_and_files_and_caches_them(
    clip, pictures, tmp_path
):
    pictures = shutil.copytree(pictures, tmp_path / "pictures")
    frame = pd.DataFrame({"clip": [str(clip), str(pictures)]})
    video = Video("clip", frames=2, size=(32, 48), pixels="uint8")

    def read_table(**options):
        return MediaTable(frame, {"video": video}, **options).arrays()[0]

    plain = read_table()["video"]
    assert numbers(plain[0]) == [5, 15] and numbers(plain[1]) == [3, 9]
    cache = tmp_path / "cache"
    for _ in range(2):
        kept = read_table(cache=cache)["video"]
        np.testing.assert_array_equal(kept, plain)
    assert len([p for p in cache.rglob("*") if p.is_file()]) == 2
    # Another picture is another folder.
    Pillow.new("L", (48, 32), 240).save(pictures / "frame_4.png")
    assert numbers(read_table(cache=cache)["video"][1]) == [24, 9]
    # Only moving pictures may be folders.
    image = Image("clip", size=8)
    with pytest.raises(ValueError, match="no file, but a folder"):
        MediaTable(frame[1:], {"image": image}).arrays()


def test_random_moments_are_one_a_part_and_the_seeds(clip):
    drawn = [numbers(read(clip, sampling="random", seed=s)) for s in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]
    for frames in drawn:
        parts = [int(n) // 5 for n in frames]
        assert parts == [0, 1, 2, 3]


def test_few_frames_are_shown_again(folder):
    short = write_video(folder / "short.mp4", 2)
    assert numbers(read(short)) == [0, 0, 1, 1]


@pytest.mark.parametrize("gap", [10, 400])
def test_moments_far_apart_are_jumped_to(folder, gap):
    """Also where no key frame is near."""
    path = write_video(folder / f"long{gap}.mp4", 400, gap=gap)
    expected = [n % 25 for n in (66, 200, 333)]
    assert numbers(read(path, frames=3)) == expected


def test_pictures_get_size_channels_and_range(clip):
    values = read(clip, size=16, channels=1, pixels="float32")
    assert values.shape == (4, 16, 16, 1)
    assert 0 <= values.min() and 0.6 < values.max() < 0.75


def test_pictures_are_upright(clip, folder):
    turned = turn_video(clip, folder / "turned.mp4")
    values = read(turned, size=(48, 32), frames=1)[0].mean(axis=2)
    plain = read(clip, frames=1)[0].mean(axis=2)
    # A quarter clockwise: what was left is above.
    np.testing.assert_allclose(values, np.rot90(plain, -1), atol=6)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "flv"])
def test_every_container_is_read_and_half_of_it_refused(folder, kind):
    path = write_video(folder / f"k.{kind}", 60, rate=10, size=(64, 64))
    values = read(path, size=64, frames=6)
    assert numbers(values) == [(5 + 10 * n) % 25 for n in range(6)]
    with pytest.raises(ValueError):
        read(cut(path, folder / f"half.{kind}"), size=64, frames=6)


def test_what_is_no_video_is_refused(folder):
    path = folder / "b.mp4"
    for content in (b"", b"hello " * 50, b"\0\0\0\x18ftypmp42"):
        path.write_bytes(content)
        with pytest.raises(ValueError):
            read(path)


def test_the_legacy_reader_is_named_by_the_extra_that_brings_it(clip):
    if importlib.util.find_spec("tensorflow_io"):
        pytest.skip("tensorflow-io is installed.")
    with pytest.raises(ImportError, match=r"keras-mmrel\[tensorflow-io\]"):
        read(clip, decoder="tensorflow_io")


def test_a_cache_tells_readers_apart():
    names = ("pyav", "tensorflow_io")
    one, other = (
        Video("a", frames=2, size=4, decoder=name).settings() for name in names
    )
    assert one != other
