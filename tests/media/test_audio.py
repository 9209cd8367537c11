"""Sound from real files: what is read, resampled, cut, and refused."""

import av
import numpy as np
import pytest

from keras_mmrel.media import Audio
from tests.media.files import RATE
from tests.media.files import cut
from tests.media.files import tone
from tests.media.files import write_sound
from tests.media.files import write_video
from tests.media.files import write_wav

pytestmark = pytest.mark.one_backend

READERS = ("soundfile", "pyav")


def read(path, cells=None, seed=0, **options):
    options = {"sample_rate": RATE, "seconds": 1.0, **options}
    medium = Audio("path", **options)
    values = medium.decode(path, cells or {}, np.random.default_rng(seed))
    assert values.dtype == np.float32 and values.shape == medium.shape
    return values


@pytest.mark.parametrize("decoder", ["auto", *READERS])
@pytest.mark.parametrize("name", ["a.wav", "a b,c é.flac"])
def test_samples_are_those_that_were_written(tmp_path, decoder, name):
    path = write_sound(tmp_path / name, tone(1.0))
    values = read(path, decoder=decoder)
    np.testing.assert_allclose(values, tone(1.0), atol=1 / 32767)


@pytest.mark.parametrize("decoder", READERS)
@pytest.mark.parametrize("rate", [4000, 11025, 16000])
def test_another_rate_is_the_same_sound_at_the_same_time(
    tmp_path, decoder, rate
):
    path = write_wav(tmp_path / "a.wav", tone(2.0))
    values = read(path, sample_rate=rate, start=0.5, decoder=decoder)
    moments = 0.5 + np.arange(rate) / rate
    expected = 0.5 * np.sin(2 * np.pi * 440 * moments)
    # A filter knows nothing before and after.
    inner = slice(40, -40)
    np.testing.assert_allclose(values[inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 11025])
def test_both_readers_give_the_same_segment(tmp_path, rate):
    path = write_wav(tmp_path / "a.wav", tone(15.0))
    first, second = (
        read(path, sample_rate=rate, start=12.3, decoder=decoder)
        for decoder in READERS
    )
    np.testing.assert_allclose(first, second, atol=1e-6)
    inner = slice(40, -40)
    expected = tone(13.3, rate=rate)[-rate:]
    if rate == RATE:
        np.testing.assert_allclose(first[inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("decoder", READERS)
def test_every_depth_is_on_one_scale(tmp_path, decoder, subtype):
    path = write_sound(tmp_path / "a.wav", tone(1.0), subtype=subtype)
    step = 1 / 100 if subtype == "PCM_U8" else 1e-5
    np.testing.assert_allclose(read(path, decoder=decoder), tone(), atol=step)


@pytest.mark.parametrize("decoder", READERS)
def test_channels_are_averaged_or_two(tmp_path, decoder):
    left, right = tone(hertz=300), tone(hertz=500)
    both = np.stack([left, right], axis=1)
    stereo = write_wav(tmp_path / "two.wav", both)
    one = write_wav(tmp_path / "one.wav", left)
    mono = read(stereo, decoder=decoder)
    np.testing.assert_allclose(mono, both.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(
        read(stereo, mono=False, decoder=decoder), both, atol=1e-4
    )
    doubled = read(one, mono=False, decoder=decoder)
    np.testing.assert_allclose(doubled, np.stack([left, left], 1), atol=1e-4)


def test_what_is_short_is_filled_with_zeros_or_with_itself(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(0.4))
    values = read(path)
    assert (values[3200:] == 0).all() and values[:3200].any()
    again = read(path, padding="repeat")
    np.testing.assert_array_equal(again[3200:6400], again[:3200])


def test_the_segment_of_a_row_is_where_its_column_says(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(3.0, hertz=441))
    medium = Audio("path", sample_rate=RATE, start="begins")
    assert medium.columns == ("path", "begins")
    values = read(path, {"begins": 1.3}, start="begins")
    np.testing.assert_allclose(values, tone(3.0, 441)[10400:18400], atol=1e-4)
    for bad in (None, -1, float("nan"), "soon"):
        with pytest.raises(ValueError, match="'begins' must hold seconds"):
            read(path, {"begins": bad}, start="begins")


def test_what_follows_an_end_is_as_after_the_file(tmp_path):
    path = write_sound(tmp_path / "a.wav", tone(1.0))
    cells = {"begins": 0.25, "ends": "0.5"}
    segment = {"start": "begins", "end": "ends", "seconds": 0.625}
    expected = tone(1.0)[2000:4000]
    values = read(path, cells, **segment)
    np.testing.assert_allclose(values[:2000], expected, atol=1 / 32767)
    assert not values[2000:].any()
    again = read(path, cells, padding="repeat", **segment)
    np.testing.assert_array_equal(again[2000:4000], values[:2000])
    np.testing.assert_array_equal(again[4000:], values[:1000])
    # The file's own end comes first.
    late = read(path, {"ends": 9}, start=0.75, end="ends", seconds=0.5)
    assert late[1999] != 0 and not late[2000:].any()
    for wrong in ({"begins": 0.5, "ends": 0.5}, {"begins": 0, "ends": "x"}):
        with pytest.raises(
            ValueError, match="not after the start|must hold seconds"
        ):
            read(path, wrong, **segment)


def test_the_middle_is_as_far_from_both_ends(tmp_path):
    path = write_sound(tmp_path / "a.wav", tone(1.0))
    values = read(path, start="middle", seconds=0.5)
    np.testing.assert_allclose(values, tone(1.0)[2000:6000], atol=1 / 32767)
    np.testing.assert_array_equal(
        read(path, start="middle", seconds=1.5)[:8000], read(path)
    )
    assert Audio("path", start="middle").columns == ("path",)
    assert not Audio("path", start="middle").is_random


def test_a_random_segment_is_the_seeds(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.linspace(0, 0.9, 5 * RATE))
    starts = {
        round(float(read(path, start="random", seed=seed)[0]), 6)
        for seed in (0, 1, 2, 0)
    }
    assert len(starts) == 3
    assert max(starts) <= 0.9 * 4 / 5 + 1e-3
    # What is no longer than the segment has one place.
    assert read(path, start="random", seconds=5.0, seed=3)[0] == 0


def test_the_sound_of_a_video_is_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20, sound=tone(2.0))
    values = read(path, start=0.5)
    power = np.abs(np.fft.rfft(values))
    assert power.argmax() == 440
    silent = write_video(tmp_path / "b.mp4", 5)
    with pytest.raises(ValueError, match="no audio"):
        read(silent)


def test_a_compressed_sound_is_read_from_far_within(tmp_path):
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=RATE, layout="mono")
        # A step every second: which second is it?
        steps = np.repeat(np.arange(20) / 25, RATE) * np.tile(
            np.sign(tone(1.0, 400)), 20
        )
        frame = av.AudioFrame.from_ndarray(
            steps[None].astype("float32"), "fltp", "mono"
        )
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode()]:
            file.mux(packet)
    loud = np.abs(read(path, start=15.1, seconds=0.8)).mean()
    assert loud == pytest.approx(15 / 25, abs=0.02)


@pytest.mark.parametrize("decoder", ["auto", *READERS])
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_truncated_file_is_refused(tmp_path, decoder, kind):
    whole = write_sound(tmp_path / f"a.{kind}", tone(4.0))
    part = cut(whole, tmp_path / f"b.{kind}")
    with pytest.raises((ValueError, OSError)) as error:
        read(part, decoder=decoder, seconds=4.0)
    assert "trunc" in str(error.value) or kind == "flac"


def test_a_wav_file_written_into_a_pipe_is_whole(tmp_path):
    """Who does not know the size writes the largest."""
    path = write_wav(tmp_path / "a.wav", tone())
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    np.testing.assert_allclose(read(path), tone(), atol=1e-4)


@pytest.mark.parametrize("decoder", ["auto", *READERS])
def test_no_sound_is_refused(tmp_path, decoder):
    path = tmp_path / "a.wav"
    for content in (b"RIFF", b"\0" * 100, b"hello " * 50):
        path.write_bytes(content)
        with pytest.raises(ValueError):
            read(path, decoder=decoder)
    write_wav(path, tone(0.0))
    with pytest.raises(ValueError, match="no sound"):
        read(path, decoder=decoder)
    write_wav(path, tone(1.0))
    with pytest.raises(ValueError, match="no sound from second 2 on"):
        read(path, start=2.0, decoder=decoder)
