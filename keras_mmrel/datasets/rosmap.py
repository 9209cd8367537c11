import os

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._download import PATH
from keras_mmrel.datasets._mogonet import Study
from keras_mmrel.datasets._mogonet import load_study

ROSMAP = Study(
    name="ROSMAP",
    rows=(245, 106),
    features=(200, 200, 200),
    num_classes=2,
    sha256={
        "1_featname.csv": (
            "1df5c536e47eb0d532abbb8bea6a9361bba01a913e03cd03b8ef06fb7849a660"
        ),
        "1_te.csv": (
            "d9d9daf05915556fd13008fb6ad7d88e0c5a8a57e5a985548640d4cd1563712b"
        ),
        "1_tr.csv": (
            "37bfcc58da320bf6c37b22617ed821dcfa96ca4abd334adf4d42c8e3375d972b"
        ),
        "2_featname.csv": (
            "7431418fb193e02a1c1431f9446ccc227c8818a4d40c1cb72a2b640a0d8d38b7"
        ),
        "2_te.csv": (
            "546e9d7f640e54c4c1d6540ed2c1a3adb10497635e7d6b8d4099b4930271ac76"
        ),
        "2_tr.csv": (
            "b1d1d20f8793e5f11248218f19493d9a7be366ee5bbbaff585058401976f8a21"
        ),
        "3_featname.csv": (
            "2b0b3451af16597ae34342a6abc99e397482fef30a61821a8e8fe7cb69276bae"
        ),
        "3_te.csv": (
            "c0d9efd6c35e8c5768b759238c95c64674d7e1e7f76ed07fca6f168d67e676f4"
        ),
        "3_tr.csv": (
            "fd8708bc0c41f774209f9e6a49a74c5a9acd510dd62eadc299a18d49ccd9e862"
        ),
        "labels_te.csv": (
            "20d728c6f51f79ff5fa7719b960daf22074a0e6e1f3028869042b02ca4e3f68d"
        ),
        "labels_tr.csv": (
            "5859aa107dbf406937938ebefbec122d01fea5d41a9bd0292199f4406749e45d"
        ),
    },
)


@constrained(path=PATH, return_feature_names=Flag())
def load_rosmap(
    path: str | os.PathLike | None = None,
    return_feature_names: bool = False,
) -> tuple:
    """Load ROSMAP: Alzheimer's disease against normal control, three omics.

    351 brain samples of the ROSMAP cohorts on the split that MOGONET
    published: 245 to train on and 106 to test on. Features are already
    selected and scaled to [0, 1]; class 1 is Alzheimer's disease.

    Without `path` the published CSV files (5 MB) are downloaded once into
    Keras' cache, `~/.keras` or the folder that the environment variable
    `KERAS_HOME` names, and their SHA-256 digests are checked on every call.
    Files in `path` are checked by content instead, since their line ends may
    differ: number of rows and columns, finite numbers, labels in range, a
    whole last line.

    Args:
        path: A folder that holds the CSV files of MOGONET's folder ROSMAP,
            or `None` to download them.
        return_feature_names: Whether to return the feature names too.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. `x` is a dict of `"mrna"`,
        `"methylation"` and `"mirna"`, each `(samples, 200)` in float32; `y`
        is `(samples,)` in int32. With `return_feature_names=True` a third
        entry: a dict of modality name -> list of 200 names.

    Raises:
        FileNotFoundError: If a file is missing in `path`.
        OSError: If a download fails or ends early; nothing of it is kept.
        ValueError: If a file is truncated or altered.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_rosmap()
    >>> x_train["mrna"].shape
    (245, 200)

    References:
        - [Wang et al., 2021, MOGONET integrates multi-omics data using graph
          convolutional networks](https://doi.org/10.1038/s41467-021-23774-w)
    """
    return load_study(ROSMAP, path, return_feature_names)
