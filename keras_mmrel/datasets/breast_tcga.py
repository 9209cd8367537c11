import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.datasets._published_file import FILE
from keras_mmrel.datasets._published_file import LIMIT
from keras_mmrel.datasets._published_file import check_table
from keras_mmrel.datasets._published_file import read_published
from keras_mmrel.datasets._split import scale_by_training
from keras_mmrel.optional import require

NAME = "breast.TCGA.rda"
ROWS = {"data.train": 150, "data.test": 70}
FEATURES = {"mirna": 184, "mrna": 200, "protein": 142}
# Of the 70 test samples the protein was not measured.
MISSING = {"data.test": "protein"}
CLASSES = ("Basal", "Her2", "LumA")
# What R compresses its files by.
OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


@constrained(path=FILE)
def load_breast_tcga(path: str | os.PathLike) -> tuple:
    """Load breast cancer subtypes of TCGA, where a modality is really missing.

    The multi-omics example of mixOmics: 150 training samples with micro-RNA,
    messenger RNA and protein, and 70 test samples **without protein**. The
    published split; each feature is scaled to [0, 1] by its range over the
    training samples, and test values are not clipped.

    The file is that of the R package mixOmics (GPL); nothing is downloaded.

    Args:
        path: The file `breast.TCGA.rda`, or a folder that holds it.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. `x` is a dict of `"mirna"`
        `(samples, 184)`, `"mrna"` `(samples, 200)` and `"protein"`
        `(samples, 142)` in float32, and `"modality_mask"` `(samples, 3)`,
        which is 0 for the protein of the test samples; `y` is `(samples,)` in
        int32: 0 Basal, 1 Her2, 2 LumA.

    Raises:
        FileNotFoundError: If `path` holds no such file.
        ValueError: If the file is truncated, altered or another one.
        ImportError: If `rdata` is not installed.

    Example:

    ```python
    (x_train, y_train), (x_test, y_test) = load_breast_tcga("data/breast_tcga")
    x_test["modality_mask"].mean(axis=0)  # [1. 1. 0.]
    ```

    References:
        - [Singh et al., 2019, DIABLO: an integrative approach for identifying
          key molecular drivers from multi-omics
          assays](https://doi.org/10.1093/bioinformatics/bty1054)
        - [Cancer Genome Atlas Network, 2012, Comprehensive molecular
          portraits of human breast tumours](https://doi.org/10.1038/nature11412)
    """
    parts = read_published(path, NAME, "breast TCGA", _parts)
    (train, y_train), (test, y_test) = parts
    masks = [train.pop(MASK), test.pop(MASK)]
    x_train, x_test = scale_by_training(train, test)
    # What is missing is 0 after the scaling, too.
    x_test[MISSING["data.test"]][:] = 0.0
    return (
        ({**x_train, MASK: masks[0]}, y_train),
        ({**x_test, MASK: masks[1]}, y_test),
    )


def _parts(content: bytes) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    study = _entry(_read(content), "breast.TCGA")
    return [_part(name, _entry(study, name), n) for name, n in ROWS.items()]


def _entry(objects: Any, name: str) -> Any:
    if not isinstance(objects, Mapping) or name not in objects:
        raise ValueError(f"no object {name!r}")
    return objects[name]


def _part(
    name: str, part: Any, rows: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    x, mask = {}, np.ones((rows, len(FEATURES)), "float32")
    for index, (modality, size) in enumerate(FEATURES.items()):
        if modality == MISSING.get(name):
            x[modality] = np.zeros((rows, size))
            mask[:, index] = 0.0
        else:
            table = _entry(part, modality)
            x[modality] = check_table(modality, table, (rows, size))
    subtypes = [str(subtype) for subtype in np.ravel(_entry(part, "subtype"))]
    unknown = sorted(set(subtypes) - set(CLASSES))
    if len(subtypes) != rows or unknown:
        raise ValueError(
            f"{len(subtypes)} subtypes {unknown[:5]}, not {rows} out of "
            f"{list(CLASSES)}"
        )
    y = np.array([CLASSES.index(subtype) for subtype in subtypes], "int32")
    return {**x, MASK: mask}, y


def _read(content: bytes) -> Any:
    rdata = require("rdata", "load_breast_tcga")
    try:
        plain = _decompressed(content)
        if not plain.startswith(b"RDX"):
            raise ValueError("no R data")
        return rdata.conversion.convert(rdata.parser.parse_data(plain))
    # Its parser raises whatever a damage leads it to.
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _decompressed(content: bytes) -> bytes:
    for magic, opener in OPENERS.items():
        if content.startswith(magic):
            with opener(io.BytesIO(content)) as file:
                content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"more than {LIMIT:,} bytes when unpacked")
    return content
