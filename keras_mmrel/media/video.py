from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.media import _decoders
from keras_mmrel.media import _pictures
from keras_mmrel.media._constraints import CHANNELS
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media._constraints import FIT
from keras_mmrel.media._constraints import PIXELS
from keras_mmrel.media._constraints import SIZE
from keras_mmrel.media._constraints import TRANSFORM
from keras_mmrel.media.audio import check_order
from keras_mmrel.media.audio import columns_of
from keras_mmrel.media.audio import second_of
from keras_mmrel.media.file_medium import FileMedium


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    column=COLUMN,
    frames=Integer(1, 10_000),
    size=SIZE,
    sampling=Choice("even", "random"),
    start=Either(Number(0), COLUMN),
    seconds=Either(Number(0, low_open=True), None),
    end=Either(Number(0, low_open=True), COLUMN, None),
    channels=CHANNELS,
    fit=FIT,
    pixels=PIXELS,
    decoder=Choice("auto", *_decoders.VIDEO),
    transform=TRANSFORM,
)
class Video(FileMedium):
    """Moving pictures from files: some frames of a segment.

    The segment is cut into as many equal parts as there are frames, and one
    is taken from each: what is shown at its middle, or at a random moment.
    Pictures are turned upright as the camera says. A file whose end is
    missing is unreadable, where its format says how long it is.

    A cell may name a folder instead, of pictures (JPEG, PNG, WebP, BMP) that
    were taken out of a video before. They are in the order of their names,
    in which numbers count (`2.jpg` before `10.jpg`), and are all of the
    segment.

    Args:
        column: Name of the column of paths.
        frames: Number of frames.
        size: Height and width in pixels, or one number for both.
        sampling: `"even"` for the middles, `"random"` for other moments in
            every epoch.
        start: Where the segment begins, in seconds, or the name of a column
            that holds them.
        seconds: Its length, or `None` for all that follows.
        end: Second at which it ends at the latest, or the name of a column
            that holds them; `None` for the file's own end.
        channels: 1 for greyscale, 3 for RGB.
        fit: As in `keras_mmrel.media.Image`.
        pixels: As in `keras_mmrel.media.Image`.
        decoder: `"pyav"` brings its own FFmpeg and is `"auto"`.
            `"tensorflow_io"` is a legacy reader that works where the machine
            has FFmpeg 4, 3.4 or 2.8: it decodes the whole file, takes its
            pictures as equally long, turns none upright, and does not see
            that an end is missing.
        transform: As in `keras_mmrel.media.FileMedium`.

    Example:

    >>> from keras_mmrel import media
    >>> media.Video("clip", frames=3, size=(112, 112)).shape
    (3, 112, 112, 3)
    """

    takes_folders = True

    def __init__(
        self,
        column: str,
        *,
        frames: int,
        size: int | tuple[int, int],
        sampling: str = "even",
        start: float | str = 0.0,
        seconds: float | None = None,
        end: float | str | None = None,
        channels: int = 3,
        fit: str = "crop",
        pixels: str = "float32",
        decoder: str = "auto",
        transform: Callable[[Array], Array] | None = None,
    ) -> None:
        super().__init__(column, transform=transform)
        self.frames = frames
        self.size: tuple[int, int] = SIZE.plain(size)
        self.sampling = sampling
        self.start = start
        self.seconds = seconds
        self.end = end
        self.channels = channels
        self.fit_to_size = fit
        self.pixels = pixels
        self.decoder = decoder
        self.is_random = sampling == "random"
        self.decoded_shape = (frames, *self.size, channels)
        self.decoded_dtype = pixels
        self.columns = (column, *columns_of(start, end))

    def decode(
        self, path: Path, cells: Mapping[str, Any], rng: np.random.Generator
    ) -> Array:
        if path.is_dir():
            return self._from_folder(path, rng)
        start = second_of(self.start, cells)
        end = np.inf if self.seconds is None else start + self.seconds
        if self.end is not None:
            end = min(end, second_of(self.end, cells))
        check_order(start, end)

        def moments(duration: float) -> Array:
            if duration <= start:
                raise ValueError(
                    f"no picture from second {start:g} on, of {duration:.1f}"
                )
            part = (min(duration, end) - start) / self.frames
            return start + part * self._places(rng)

        name = "pyav" if self.decoder == "auto" else self.decoder
        return self._stacked(_decoders.VIDEO[name].video(path, moments, end))

    def _places(self, rng: np.random.Generator) -> Array:
        """Return where frames are, in parts of the segment."""
        within = np.full(self.frames, 0.5)
        if self.is_random:
            within = rng.uniform(size=self.frames)
        return np.arange(self.frames) + within

    def _from_folder(self, path: Path, rng: np.random.Generator) -> Array:
        if self.start or self.seconds is not None or self.end is not None:
            raise ValueError("a folder of pictures, which has no seconds")
        files = _pictures.in_folder(path)
        places = self._places(rng) * (len(files) / self.frames)
        chosen = np.minimum(places.astype(int), len(files) - 1)
        return self._stacked(_pictures.opened(files[i]) for i in chosen)

    def _stacked(self, pictures: Iterable) -> Array:
        form = self.size, self.channels, self.fit_to_size, self.pixels
        return np.stack([_pictures.as_array(p, *form) for p in pictures])

    def settings(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "size": list(self.size),
            "sampling": self.sampling,
            "start": self.start,
            "seconds": self.seconds,
            "end": self.end,
            "channels": self.channels,
            "fit": self.fit_to_size,
            "pixels": self.pixels,
            "decoder": self.decoder,
        }
