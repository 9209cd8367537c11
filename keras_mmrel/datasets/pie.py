import os

from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._download import PATH
from keras_mmrel.datasets._multi_view import MultiView
from keras_mmrel.datasets._multi_view import load_multi_view

PIE = MultiView(
    name="PIE",
    file="PIE_face_10.mat",
    sha256="7b7f5b73b140c9e00d6d9a4ed78e0292b298bd12fbcfb2c96125795c7f8150f8",
    features={"intensity": 484, "lbp": 256, "gabor": 279},
    samples=680,
    num_classes=68,
)


@constrained(path=PATH)
def load_pie(path: str | os.PathLike | None = None) -> tuple:
    """Load faces of CMU PIE: 68 people, ten photographs each, in three views.

    680 photographs, described by their intensities, local binary patterns and
    Gabor filters: many classes, few samples of each.

    The file has no split: a fixed, stratified one of 544 training and
    136 test samples is this library's own choice, as large as that which
    papers draw anew for every run, and so is the scaling of each feature to
    [0, 1] by its range over the training samples; test values are not
    clipped.

    Without `path` the file (1.7 MB) is downloaded once, from the
    repository that RCML was published in, into Keras' cache, `~/.keras` or
    the folder that the environment variable `KERAS_HOME` names, and its
    SHA-256 digest is checked on every call.

    Args:
        path: The file `PIE_face_10.mat`, or a folder that holds it, or `None`
            to download it.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. `x` is a dict of
        `"intensity"` `(samples, 484)`,
        `"lbp"` `(samples, 256)`,
        `"gabor"` `(samples, 279)`
        in float32; `y` is `(samples,)` in int32, 0 to 67.

    Raises:
        FileNotFoundError: If `path` holds no such file.
        OSError: If the download fails or ends early; nothing of it is kept.
        ValueError: If the file is truncated, altered or another one.
        ImportError: If scikit-learn is not installed.

    Example:

    ```python
    (x_train, y_train), (x_test, y_test) = load_pie()
    ```

    References:
        - [Sim et al., 2003, The CMU Pose, Illumination, and Expression
          Database](https://doi.org/10.1109/TPAMI.2003.1251154)
        - [Xu et al., 2024, Reliable Conflictive Multi-View
          Learning](https://arxiv.org/abs/2402.16897): the file.
    """
    return load_multi_view(PIE, path)
