import os

from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._download import PATH
from keras_mmrel.datasets._multi_view import MultiView
from keras_mmrel.datasets._multi_view import load_multi_view

SCENE15 = MultiView(
    name="Scene15",
    file="scene15_mtv.mat",
    sha256="52a71c6c675d5b0c1e07189778716bc52b972b17b58d8156c01422bcce2e4442",
    features={"gist": 20, "phog": 59, "lbp": 40},
    samples=4485,
    num_classes=15,
)


@constrained(path=PATH)
def load_scene15(path: str | os.PathLike | None = None) -> tuple:
    """Load Scene15: photographs of places in three views.

    4,485 photographs of 15 kinds of places, 210 to 410 each, described by
    GIST, a pyramid of oriented gradients (PHOG) and local binary patterns:
    views that tell little by themselves.

    The file has no split: a fixed, stratified one of 3,588 training and
    897 test samples is this library's own choice, as large as that which
    papers draw anew for every run, and so is the scaling of each feature to
    [0, 1] by its range over the training samples; test values are not
    clipped.

    Without `path` the file (3.5 MB) is downloaded once, from the
    repository that RCML was published in, into Keras' cache, `~/.keras` or
    the folder that the environment variable `KERAS_HOME` names, and its
    SHA-256 digest is checked on every call.

    Args:
        path: The file `scene15_mtv.mat`, or a folder that holds it, or `None`
            to download it.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. `x` is a dict of
        `"gist"` `(samples, 20)`,
        `"phog"` `(samples, 59)`,
        `"lbp"` `(samples, 40)`
        in float32; `y` is `(samples,)` in int32, 0 to 14.

    Raises:
        FileNotFoundError: If `path` holds no such file.
        OSError: If the download fails or ends early; nothing of it is kept.
        ValueError: If the file is truncated, altered or another one.
        ImportError: If scikit-learn is not installed.

    Example:

    ```python
    (x_train, y_train), (x_test, y_test) = load_scene15()
    ```

    References:
        - [Lazebnik et al., 2006, Beyond Bags of
          Features](https://doi.org/10.1109/CVPR.2006.68)
        - [Xu et al., 2024, Reliable Conflictive Multi-View
          Learning](https://arxiv.org/abs/2402.16897): the file.
    """
    return load_multi_view(SCENE15, path)
