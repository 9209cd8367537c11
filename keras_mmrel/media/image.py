from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.media import _pictures
from keras_mmrel.media._constraints import CHANNELS
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media._constraints import FIT
from keras_mmrel.media._constraints import PIXELS
from keras_mmrel.media._constraints import SIZE
from keras_mmrel.media._constraints import TRANSFORM
from keras_mmrel.media.file_medium import FileMedium


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    column=COLUMN,
    size=SIZE,
    channels=CHANNELS,
    fit=FIT,
    pixels=PIXELS,
    transform=TRANSFORM,
)
class Image(FileMedium):
    """Pictures from files, by Pillow.

    A photograph is turned upright as its EXIF data say. What is transparent
    is shown on white, unless four channels are wanted. Greyscale of 16 bits,
    a depth map say, keeps its precision and comes as the share of 65535;
    Pillow reads colours of 16 bits as 8. Greyscale of 32 bits or of floats
    keeps its values. Of an animation there is the first picture.

    Args:
        column: Name of the column of paths.
        size: Height and width in pixels, or one number for both.
        channels: 1 for greyscale, 3 for RGB, 4 for RGB and alpha.
        fit: How it gets its size: `"crop"` keeps the middle, `"pad"` puts
            black beside it, `"stretch"` changes its proportions.
        pixels: `"float32"` for values in [0, 1], `"uint8"` for 0 to 255, as
            most pretrained backbones take them.
        transform: As in `keras_mmrel.media.FileMedium`.

    Example:

    >>> from keras_mmrel import media
    >>> image = media.Image("file", size=224, pixels="uint8")
    >>> image.shape, image.dtype
    ((224, 224, 3), 'uint8')
    """

    def __init__(
        self,
        column: str,
        *,
        size: int | tuple[int, int],
        channels: int = 3,
        fit: str = "crop",
        pixels: str = "float32",
        transform: Callable[[Array], Array] | None = None,
    ) -> None:
        super().__init__(column, transform=transform)
        self.size: tuple[int, int] = SIZE.plain(size)
        self.channels = channels
        self.fit_to_size = fit
        self.pixels = pixels
        self.decoded_shape = (*self.size, channels)
        self.decoded_dtype = pixels

    def decode(
        self, path: Path, cells: Mapping[str, Any], rng: np.random.Generator
    ) -> Array:
        return _pictures.as_array(
            _pictures.opened(path),
            self.size,
            self.channels,
            self.fit_to_size,
            self.pixels,
        )

    def settings(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "channels": self.channels,
            "fit": self.fit_to_size,
            "pixels": self.pixels,
        }
