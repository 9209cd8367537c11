import os

from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._matlab import read_views
from keras_mmrel.datasets._published_file import FILE
from keras_mmrel.datasets._published_file import read_published
from keras_mmrel.datasets._split import stratified_split

NAME = "Wiki.mat"
SAMPLES, TEST_SAMPLES, NUM_CLASSES = 2866, 573, 10
FEATURES = {"image": 128, "text": 10}


@constrained(path=FILE)
def load_wiki(path: str | os.PathLike) -> tuple:
    """Load Wikipedia articles: words of SIFT features, and topics of a text.

    2,866 sections of articles in 10 classes of 172 to 451, each with an image
    (bag of SIFT words) and a text (topics of latent Dirichlet allocation).
    The text tells far more than the image: modalities out of balance. The
    file has no split: a fixed, stratified one of 2,293 training and 573 test
    samples is this library's own choice, and so is the scaling of each
    feature to [0, 1] by its range over the training samples; test values are
    not clipped.

    Where the file may be had from is not settled, so nothing is downloaded.

    Args:
        path: The file `Wiki.mat`, or a folder that holds it.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. `x` is a dict of `"image"`
        `(samples, 128)` and `"text"` `(samples, 10)` in float32; `y` is
        `(samples,)` in int32, 0 to 9.

    Raises:
        FileNotFoundError: If `path` holds no such file.
        ValueError: If the file is truncated, altered or another one.
        ImportError: If scikit-learn is not installed.

    Example:

    ```python
    (x_train, y_train), (x_test, y_test) = load_wiki("data/wiki")
    ```

    References:
        - [Rasiwasia et al., 2010, A New Approach to Cross-Modal Multimedia
          Retrieval](https://doi.org/10.1145/1873951.1873987)
    """
    x, y = read_published(
        path,
        NAME,
        "Wikipedia image + text",
        lambda content: read_views(
            content,
            ("data", FEATURES),
            ("truelabel", NUM_CLASSES),
            SAMPLES,
            "load_wiki",
        ),
    )
    return stratified_split(x, y, TEST_SAMPLES, "load_wiki")
