import os

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._download import PATH
from keras_mmrel.datasets._mogonet import Study
from keras_mmrel.datasets._mogonet import load_study

BRCA = Study(
    name="BRCA", rows=(612, 263), features=(1000, 1000, 503), num_classes=5
)


@constrained(path=PATH, return_feature_names=Flag())
def load_brca(
    path: str | os.PathLike | None = None,
    return_feature_names: bool = False,
) -> tuple:
    """Load BRCA: the PAM50 subtypes of breast cancer, three omics.

    875 tumours of the TCGA cohort on the split that MOGONET published: 612 to
    train on and 263 to test on. Features are already selected and scaled to
    [0, 1]. Classes: 0 normal-like, 1 basal-like, 2 HER2-enriched, 3 luminal A,
    4 luminal B.

    Without `path` the published CSV files (55 MB) are downloaded once into
    Keras' cache, `~/.keras` or the folder that the environment variable
    `KERAS_HOME` names. This library holds no digests of the published BRCA
    files: a download must have its full length and is checked by content
    (number of rows and columns, finite numbers, labels in range, a whole last
    line) before it is kept, and its own SHA-256 digest is remembered, so that
    a later truncation or change is found. A file that the server altered
    without changing its form is not found. Files in `path` are checked by
    content.

    Args:
        path: A folder that holds the CSV files of MOGONET's folder BRCA, or
            `None` to download them.
        return_feature_names: Whether to return the feature names too.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. `x` is a dict of `"mrna"`
        `(samples, 1000)`, `"methylation"` `(samples, 1000)` and `"mirna"`
        `(samples, 503)` in float32; `y` is `(samples,)` in int32. With
        `return_feature_names=True` a third entry: a dict of modality name ->
        list of names.

    Raises:
        FileNotFoundError: If a file is missing in `path`.
        OSError: If a download fails or ends early; nothing of it is kept.
        ValueError: If a file is truncated or altered.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_brca()
    >>> x_train["mirna"].shape
    (612, 503)

    References:
        - [Wang et al., 2021, MOGONET integrates multi-omics data using graph
          convolutional networks](https://doi.org/10.1038/s41467-021-23774-w)
    """
    return load_study(BRCA, path, return_feature_names)
