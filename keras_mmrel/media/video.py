from collections.abc import Callable
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
from keras_mmrel.media import _pictures
from keras_mmrel.media import _pyav
from keras_mmrel.media._constraints import CHANNELS
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media._constraints import FIT
from keras_mmrel.media._constraints import PIXELS
from keras_mmrel.media._constraints import SIZE
from keras_mmrel.media._constraints import TRANSFORM
from keras_mmrel.media.audio import start_of
from keras_mmrel.media.file_medium import FileMedium


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    column=COLUMN,
    frames=Integer(1, 10_000),
    size=SIZE,
    sampling=Choice("even", "random"),
    start=Either(Number(0), COLUMN),
    seconds=Either(Number(0, low_open=True), None),
    channels=CHANNELS,
    fit=FIT,
    pixels=PIXELS,
    transform=TRANSFORM,
)
class Video(FileMedium):
    """Moving pictures from files, by PyAV: some frames of a segment.

    The segment is cut into as many equal parts as there are frames, and one
    is taken from each: what is shown at its middle, or at a random moment.
    Pictures are turned upright as the camera says. A file whose end is
    missing is unreadable, where its format says how long it is.

    Args:
        column: Name of the column of paths.
        frames: Number of frames.
        size: Height and width in pixels, or one number for both.
        sampling: `"even"` for the middles, `"random"` for other moments in
            every epoch.
        start: Where the segment begins, in seconds, or the name of a column
            that holds them.
        seconds: Its length, or `None` for all that follows.
        channels: 1 for greyscale, 3 for RGB.
        fit: As in `keras_mmrel.media.Image`.
        pixels: As in `keras_mmrel.media.Image`.
        transform: As in `keras_mmrel.media.FileMedium`.

    Example:

    >>> from keras_mmrel import media
    >>> media.Video("clip", frames=3, size=(112, 112)).shape
    (3, 112, 112, 3)
    """

    def __init__(
        self,
        column: str,
        *,
        frames: int,
        size: int | tuple[int, int],
        sampling: str = "even",
        start: float | str = 0.0,
        seconds: float | None = None,
        channels: int = 3,
        fit: str = "crop",
        pixels: str = "float32",
        transform: Callable[[Array], Array] | None = None,
    ) -> None:
        super().__init__(column, transform=transform)
        self.frames = frames
        self.size: tuple[int, int] = SIZE.plain(size)
        self.sampling = sampling
        self.start = start
        self.seconds = seconds
        self.channels = channels
        self.fit_to_size = fit
        self.pixels = pixels
        self.is_random = sampling == "random"
        self.decoded_shape = (frames, *self.size, channels)
        self.decoded_dtype = pixels
        if isinstance(start, str):
            self.columns = (column, start)

    def decode(
        self, path: Path, cells: Mapping[str, Any], rng: np.random.Generator
    ) -> Array:
        start = start_of(self.start, cells)
        end = np.inf if self.seconds is None else start + self.seconds

        def moments(duration: float) -> Array:
            if duration <= start:
                raise ValueError(
                    f"no picture from second {start:g} on, of {duration:.1f}"
                )
            within = np.full(self.frames, 0.5)
            if self.is_random:
                within = rng.uniform(size=self.frames)
            part = (min(duration, end) - start) / self.frames
            return start + part * (np.arange(self.frames) + within)

        form = self.size, self.channels, self.fit_to_size, self.pixels
        return np.stack(
            [
                _pictures.as_array(picture, *form)
                for picture in _pyav.video(path, moments, end)
            ]
        )

    def settings(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "size": list(self.size),
            "sampling": self.sampling,
            "start": self.start,
            "seconds": self.seconds,
            "channels": self.channels,
            "fit": self.fit_to_size,
            "pixels": self.pixels,
        }
