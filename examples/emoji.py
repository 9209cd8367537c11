"""Pictures and names of emoji: balanced and reliable methods on raw media.

    python examples/emoji.py --data DATA --out results/emoji
    python examples/emoji.py --data DATA --out results/emoji_pretrained \
        --encoders pretrained

Every row trains small random encoders, convolutions for the pictures and an
embedding with convolutions for the words; or, with `--encoders pretrained`,
a dense layer on what two frozen ones give, EfficientNet-Lite0 and WordLlama,
whose weights are content of packages (the extra `pretrained`). Rows are trained
on several resplits and scored on clean and corrupted test data by
`keras_mmrel.benchmark`. A run that was stopped goes on where it was. The report
is `OUT/report.md`.

`DATA` holds `emoji/emoji.zip`: `emoji.csv` (`image,name,keywords,label`) and
`images/<code point>.png`, 1,377 pictures of 64 x 64. They are no download of
their own: draw the characters of Unicode's `emoji-test.txt`, which has names
and groups, with the font Noto Color Emoji; keywords are those of CLDR's
annotations. See `keras_mmrel.datasets.load_emoji`.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import benchmark
from keras_mmrel import corruptions
from keras_mmrel import datasets
from keras_mmrel import encoders
from keras_mmrel import media

SIDE, LENGTH, VOCABULARY = 24, 8, 4096
TOKENIZER = media.HashingTokenizer(VOCABULARY)
# A word that says nothing of a group.
(BLANK,) = TOKENIZER("with")
NOTES = [
    "There is no published benchmark or split of these data. Each seed draws "
    "another fifth of each group for test, and what is reported are resplits "
    "of the same 1,377 emoji.",
    "What a look at test data has influenced: nothing was tuned; epochs, rate "
    "and widths were set before the first run, and are those of all rows; test "
    "parts of the same pictures had been seen by "
    "`examples/benchmarks/input_scaling.py`. "
    "Methods have their default options, which were chosen on other data.",
]
OF_SMALL = (
    "The range control looks at pixels alone: token numbers have no range. "
    "QADM-Net and MICINet do without their judge of inputs, which needs two "
    "modalities of numbers that vary."
)
OF_PRETRAINED = (
    "Both encoders are frozen, and run once: corruptions are of the features "
    "that they give, not of pictures and words. They may have met an emoji's "
    "name, or a thing that it shows, when they were trained. Features are "
    "standardised inside each model. A first run had brought each to [0, 1]: "
    "words then reached 27 % on the training samples themselves after the same "
    "15 epochs, 91 % standardised. Its test figures had been seen."
)


@keras.saving.register_keras_serializable(package="examples")
class Words(keras.layers.Layer):
    """Embed tokens, and pass on which of them are none of the padding.

    Args:
        units: Size of an embedding.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    input_shape = (None, LENGTH)

    def __init__(self, units: int = 48, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.embedding = keras.layers.Embedding(VOCABULARY, units)

    def build(self, input_shape: tuple) -> None:
        self.embedding.build(input_shape)

    def call(self, tokens: Any) -> dict[str, Any]:
        tokens = ops.cast(tokens, "int32")
        return {"features": self.embedding(tokens), "padding_mask": tokens > 0}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def small_encoder(name: str, shape: tuple) -> Any:
    """Return the encoder of a modality, which is made of blocks.

    Args:
        name: Name of the modality.
        shape: Its shape, without the batch.
    """
    if name == "image":
        return encoders.ConvEncoder((8, 16, 32))
    return [Words(48), *encoders.SequenceEncoder((48,), kernel_size=3).blocks]


def feature_encoder(name: str, shape: tuple) -> Any:
    """Return the blocks of an encoder for the features of a frozen one.

    Args:
        name: Name of the modality.
        shape: Its shape, without the batch.
    """
    learnt = keras.layers.Dense(64, "relu")
    return [encoders.Scaling(shape), learnt, keras.layers.Dropout(0.2)]


def load_arrays(path: str | os.PathLike) -> tuple:
    """Return pictures in [0, 1], token numbers, and numbers of groups."""
    image = media.Image("image", size=SIDE)
    text = media.Text("name", tokenizer=TOKENIZER, length=LENGTH)
    return tuple(
        ({"image": x["image"], "text": x["text"]["token_ids"]}, y)
        for x, y in loaded(path, image, text)
    )


def load_features(path: str | os.PathLike) -> tuple:
    """Return what two frozen encoders give, and numbers of groups."""
    image = media.Image("image", size=64)
    text = media.Text(
        "name",
        tokenizer=encoders.pretrained.WordLlamaTokenizer(),
        length=12,
    )
    frozen = {
        "image": encoders.ImageEncoder(
            encoders.pretrained.efficientnet_lite0(), image.shape
        ),
        "text": encoders.TextEncoder(encoders.pretrained.wordllama(), 12),
    }
    return tuple(
        ({n: in_batches(frozen[n], x[n]) for n in frozen}, y)
        for x, y in loaded(path, image, text)
    )


def loaded(
    path: str | os.PathLike, image: media.Medium, text: media.Medium
) -> list[tuple]:
    """Return inputs and labels of the training and the test part."""
    columns = {"image": image, "text": text}
    tables = datasets.load_emoji(path, columns, shuffle=False)
    return [table.arrays() for table in tables]


def in_batches(encoder: keras.Layer, x: Any, size: int = 64) -> np.ndarray:
    """Return the features of arrays, or of a dict of arrays."""
    count = len(keras.tree.flatten(x)[0])
    parts = [
        encoder(keras.tree.map_structure(lambda v, i=i: v[i : i + size], x))
        for i in range(0, count, size)
    ]
    return np.concatenate([ops.convert_to_numpy(part) for part in parts])


def rows() -> dict[str, dict]:
    """Name of a row -> how its models are made."""
    average = {"options": {"average": "probabilities"}}
    return {
        "image alone": {"model": "ConcatFusion", "modalities": ["image"]},
        "text alone": {"model": "ConcatFusion", "modalities": ["text"]},
        "late fusion": {"model": "LateFusion", **average},
        "late fusion, range control": {
            "model": "LateFusion", **average, "quality": "RangeControl",
        },
        "concat fusion": {"model": "ConcatFusion"},
        "concat fusion, range control": {
            "model": "ConcatFusion", "quality": "RangeControl",
        },
        "AIM": {"model": "AIM"},
        "CAL": {"model": "CAL"},
        "QADM-Net": {"model": "QADMNet"},
        "MICINet": {"model": "MICINet"},
    }  # fmt: skip


def of_one(**of_media: corruptions.Corruption) -> dict[str, Any]:
    """Corruptions of the media, and those of any: of one modality a sample."""
    return {
        **{name.replace("_", " "): value for name, value in of_media.items()},
        "conflict": corruptions.ModalityConflict(0.5, "one"),
        "unaligned": corruptions.UnalignedSamples(0.5, "one"),
        "missing": corruptions.MissingModality(1.0, "one"),
        "missing_unannounced": corruptions.MissingModality(
            1.0, "one", announce=False
        ),
    }


def small(path: Path) -> dict[str, Any]:
    """Return what is compared with small encoders, trained from nothing."""
    return {
        "title": "Emoji: pictures and names, small random encoders",
        "notes": [*NOTES, OF_SMALL],
        "datasets": {
            "emoji": benchmark.Dataset(
                # Where they are is no part of what identifies a run.
                lambda: load_arrays(path),
                split="resampled",
                scale="none",
            )
        },
        "methods": {
            name: {"encoder": small_encoder, **row}
            for name, row in rows().items()
        },
        "corruptions": of_one(
            noise_on_pixels=corruptions.GaussianNoise(0.3, "image"),
            noise_on_pixels_clipped=corruptions.ClippedGaussianNoise(
                0.3, "image"
            ),
            swapped_pixels=corruptions.FeatureSwap(0.5, "image"),
            words_lost=corruptions.TokenReplacement(0.5, "text", token=BLANK),
        ),
    }


def pretrained(path: Path) -> dict[str, Any]:
    """Return what is compared on the features of frozen encoders."""
    return {
        "title": "Emoji: pictures and names, frozen pretrained encoders",
        "notes": [*NOTES, OF_PRETRAINED],
        "datasets": {
            "emoji": benchmark.Dataset(
                lambda: load_features(path), split="resampled", scale="none"
            )
        },
        "methods": {
            name: {"encoder": feature_encoder, **row}
            for name, row in {
                **rows(),
                "ReliableFusion": {"model": "ReliableFusion"},
            }.items()
        },
        "corruptions": of_one(
            noise=corruptions.GaussianNoise(1.0, "one"),
            noise_clipped=corruptions.ClippedGaussianNoise(1.0, "one"),
            swapped_features=corruptions.FeatureSwap(0.5, "one"),
            permuted_features=corruptions.FeaturePermutation(1.0, "one"),
        ),
    }


ENCODERS = {"small": small, "pretrained": pretrained}


def comparison(
    path: Path, seeds: int, epochs: int, which: str = "small"
) -> benchmark.Comparison:
    """Return the comparison.

    Args:
        path: Where the emoji are.
        seeds: Number of resplits.
        epochs: Epochs of every row.
        which: `"small"` or `"pretrained"` encoders.
    """
    compared = ENCODERS[which](path)
    return benchmark.Comparison(
        evaluation={
            "corruptions": compared.pop("corruptions"),
            "scores": ["accuracy", "nll", "ece", "corrupted_auroc"],
        },
        baseline="concat fusion",
        seeds=seeds,
        training={
            "epochs": epochs,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "schedule": "cosine",
        },
        **compared,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    data = os.environ.get("KERAS_MMREL_DATA", "data")
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--out", type=Path, default=Path("results/emoji"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--encoders", choices=list(ENCODERS), default="small")
    args = parser.parse_args()
    found = comparison(
        args.data / "emoji", args.seeds, args.epochs, args.encoders
    )
    found.run(args.out)
    print(found.report(args.out)[0])


if __name__ == "__main__":
    main()
