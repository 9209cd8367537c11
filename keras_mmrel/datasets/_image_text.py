"""Peers' preprocessing of pictures and texts, by name."""

import dataclasses
import re
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras

from keras_mmrel._presets import PRESET
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Integer
from keras_mmrel.contract import Array
from keras_mmrel.media import HashingTokenizer
from keras_mmrel.media import Image
from keras_mmrel.media import Medium
from keras_mmrel.media import Text

TOKENIZER = Either(Instance(Callable, "a function of a text"), PRESET, None)  # type: ignore[arg-type]
LENGTH = Either(Integer(1, 100_000), None)
# What texts of tweets and captions are in, tried in this order: the last one
# takes any bytes.
ENCODINGS = ("utf-8-sig", "gb18030", "latin-1")
# A sign of a retweet, a link with what follows it, a sign of a hashtag.
OF_TWEETS = re.compile(r"\ART\s+|https?://[^\n]*|#")


@keras.saving.register_keras_serializable(package="keras_mmrel")
@dataclasses.dataclass(frozen=True)
class CentreCrop:
    """The middle of an array of pixels, of so many on each side."""

    size: int

    def __call__(self, pixels: Array) -> Array:
        top, left = ((n - self.size) // 2 for n in pixels.shape[:2])
        return pixels[top : top + self.size, left : left + self.size]

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> "CentreCrop":
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@dataclasses.dataclass(frozen=True)
class FirstLines:
    """The first lines of a text, in one."""

    count: int

    def __call__(self, text: str) -> str:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " ".join(lines[: self.count])

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> "FirstLines":
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_mmrel")
def strip_tweet(text: str) -> str:
    """Return a text without "RT" in front, links and signs of hashtags."""
    return OF_TWEETS.sub("", text)


def picture(column: str, fit: str, **options: Any) -> Image:
    """Return how a picture becomes one of 224 x 224.

    Args:
        column: Name of the column.
        fit: `"crop"`: the shorter side becomes 256, and the middle is cut
            out; `"stretch"`.
        **options: More of `Image`.
    """
    if fit == "stretch":
        return Image(column, size=224, fit="stretch", **options)
    return Image(column, size=256, transform=CentreCrop(224), **options)


def own_media(preset: Mapping[str, Medium], **others: Any) -> dict[str, Medium]:
    """Return the user's own media; what they say may be said once only."""
    given = {n: value for n, value in others.items() if value is not None}
    if given:
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in given)} must be left out "
            "where `preset` is a dict of media, which say it themselves. "
            f"Received: {', '.join(f'{n}={v!r}' for n, v in given.items())}"
        )
    return dict(preset)


def peers_media(
    preset: str | Mapping[str, Medium],
    tokenizer: Callable[[Any], Any] | str | None,
    length: int | None,
    **options: Any,
) -> dict[str, Medium]:
    """Return the media of the columns `image` and `text` under a name.

    Args:
        preset: `"qmf"`, `"balancebenchmark"`, or media of the user's own.
        tokenizer: Of texts, or `None` for hashed words.
        length: Tokens of a text, or `None` for what the peers have.
        **options: More of `Text`.
    """
    if not isinstance(preset, str):
        return own_media(preset, tokenizer=tokenizer, length=length)
    is_stripped = preset == "balancebenchmark"
    text = Text(
        "text",
        tokenizer=tokenizer or HashingTokenizer(),
        length=length or (40 if is_stripped else 64),
        clean=strip_tweet if is_stripped else None,
        **options,
    )
    return {
        "image": picture("image", "stretch" if is_stripped else "crop"),
        "text": text,
    }
