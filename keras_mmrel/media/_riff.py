"""Whether all of a WAV file is there: decoders take what is left for all."""

import os
import struct
from typing import BinaryIO

# Sizes that who writes into a pipe puts down, not knowing the real one.
UNKNOWN = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF - 36)


def is_wave(begins: bytes) -> bool:
    """Whether a file that begins so is a WAV file."""
    return begins[:4] == b"RIFF" and begins[8:12] == b"WAVE"


def check_whole(file: BinaryIO) -> None:
    """Refuse a WAV file that ends before its sound does."""
    size = file.seek(0, os.SEEK_END)
    place = file.seek(12)
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        left = size - place - 8
        if name == b"data":
            if length not in UNKNOWN and length > left:
                raise ValueError(f"truncated, {left:,} of {length:,} bytes")
            return
        # A chunk is followed by a byte that makes its length even.
        place = file.seek(place + 8 + length + length % 2)
    raise ValueError("truncated, no sound in it")
