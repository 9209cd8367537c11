import os

from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._download import PATH
from keras_mmrel.datasets._multi_view import MultiView
from keras_mmrel.datasets._multi_view import load_multi_view

HANDWRITTEN = MultiView(
    name="HandWritten",
    file="handwritten.mat",
    sha256="8a9ad81f11c05fd7f07f1369bcbbaefc3d391bad10d3aa32366bd47d608eb05d",
    features={
        "pixels": 240,
        "fourier": 76,
        "profiles": 216,
        "zernike": 47,
        "karhunen_loeve": 64,
        "morphology": 6,
    },
    samples=2000,
    num_classes=10,
    labels="Y",
    rows=True,
    first=0,
)


@constrained(path=PATH)
def load_handwritten(path: str | os.PathLike | None = None) -> tuple:
    """Load handwritten numerals in six views, the "HandWritten" of many papers.

    2,000 numerals from Dutch utility maps, 200 a class, as six sets of
    features that were published for them: averages of pixels, Fourier
    coefficients, profile correlations, Zernike moments, Karhunen-Loève
    coefficients and morphological features. They are other digits than those
    of `load_multiview_digits`.

    The file has no split: a fixed, stratified one of 1,600 training and
    400 test samples is this library's own choice, as large as that which
    papers draw anew for every run, and so is the scaling of each feature to
    [0, 1] by its range over the training samples; test values are not
    clipped.

    Without `path` the file (3.5 MB) is downloaded once, from the
    repository that RCML was published in, into Keras' cache, `~/.keras` or
    the folder that the environment variable `KERAS_HOME` names, and its
    SHA-256 digest is checked on every call.

    Args:
        path: The file `handwritten.mat`, or a folder that holds it, or `None`
            to download it.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. `x` is a dict of
        `"pixels"` `(samples, 240)`,
        `"fourier"` `(samples, 76)`,
        `"profiles"` `(samples, 216)`,
        `"zernike"` `(samples, 47)`,
        `"karhunen_loeve"` `(samples, 64)`,
        `"morphology"` `(samples, 6)`
        in float32; `y` is `(samples,)` in int32, 0 to 9.

    Raises:
        FileNotFoundError: If `path` holds no such file.
        OSError: If the download fails or ends early; nothing of it is kept.
        ValueError: If the file is truncated, altered or another one.
        ImportError: If scikit-learn is not installed.

    Example:

    ```python
    (x_train, y_train), (x_test, y_test) = load_handwritten()
    ```

    References:
        - [Duin, Multiple Features, UCI](https://doi.org/10.24432/C5HC70)
        - [Xu et al., 2024, Reliable Conflictive Multi-View
          Learning](https://arxiv.org/abs/2402.16897): the file.
    """
    return load_multi_view(HANDWRITTEN, path)
