"""Real files, made by the libraries that write them."""

import struct
import wave

import av
import numpy as np
import soundfile

RATE = 8000


def tone(seconds=1.0, hertz=440.0, rate=RATE):
    """A sound whose value at every moment is known."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(seconds * rate) / rate)


def write_wav(path, samples, rate=RATE):
    """16 bits, by the standard library; `(frames,)` or `(frames, 2)`."""
    whole = np.round(np.asarray(samples) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if whole.ndim == 1 else whole.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(whole.tobytes())
    return path


def write_sound(path, samples, rate=RATE, **options):
    soundfile.write(path, samples, rate, **options)
    return path


def write_video(path, frames, rate=10, size=(32, 48), sound=None, gap=0):
    """Frame `i` is grey of the value `10 * i`; a key frame every second.

    Args:
        path: Where to.
        frames: Number of frames.
        rate: Frames a second.
        size: Height and width.
        sound: Samples at `RATE` for a track of sound, or `None`.
        gap: Frames between key frames, one second by default.
    """
    with av.open(str(path), "w") as file:
        codec = "flv" if str(path).endswith(".flv") else "mpeg4"
        stream = file.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.gop_size = gap or rate
        voice = None
        if sound is not None:
            voice = file.add_stream("aac", rate=RATE, layout="mono")
        for index in range(frames):
            grey = np.full((*size, 3), 10 * index % 250, "uint8")
            # The left half is black, to see which side is up.
            grey[:, : size[1] // 2] //= 4
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
        if voice is not None:
            samples = np.asarray(sound, "float32")[None]
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            frame.sample_rate = RATE
            for packet in [*voice.encode(frame), *voice.encode()]:
                file.mux(packet)
    return path


def turn_video(path, target):
    """A copy of an MP4 file that says: turn me a quarter, clockwise."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    matrix = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    content[place : place + 36] = struct.pack(">9i", *matrix)
    target.write_bytes(content)
    return target


def cut(path, target, share=0.5):
    """The beginning of a file, as a broken download leaves it."""
    content = path.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target
