import os

from keras_mmrel.constraints import constrained
from keras_mmrel.datasets._matlab import read_views
from keras_mmrel.datasets._published_file import FILE
from keras_mmrel.datasets._published_file import read_published
from keras_mmrel.datasets._split import stratified_split

NAME = "cub_googlenet_doc2vec_c10.mat"
SAMPLES, TEST_SAMPLES, NUM_CLASSES = 600, 120, 10
FEATURES = {"image": 1024, "text": 300}


@constrained(path=FILE)
def load_cub(path: str | os.PathLike) -> tuple:
    """Load CUB-200-2011: features of photographs and of their descriptions.

    The first 10 classes of birds, 60 samples each, as CPM-Nets use them:
    GoogLeNet features of the image and doc2vec features of the text. No split
    is published: a fixed, stratified one of 480 training and 120 test samples
    is this library's own choice, and so is the scaling of each feature to
    [0, 1] by its range over the training samples; test values are not
    clipped.

    Where the file may be had from is not settled, so nothing is downloaded.

    Args:
        path: The file `cub_googlenet_doc2vec_c10.mat`, or a folder that holds
            it.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. `x` is a dict of `"image"`
        `(samples, 1024)` and `"text"` `(samples, 300)` in float32; `y` is
        `(samples,)` in int32, 0 to 9.

    Raises:
        FileNotFoundError: If `path` holds no such file.
        ValueError: If the file is truncated, altered or another one.
        ImportError: If scikit-learn is not installed.

    Example:

    ```python
    (x_train, y_train), (x_test, y_test) = load_cub("data/cub")
    ```

    References:
        - [Wah et al., 2011, The Caltech-UCSD Birds-200-2011
          Dataset](https://www.vision.caltech.edu/datasets/cub_200_2011/)
        - [Zhang et al., 2019, CPM-Nets: Cross Partial Multi-View
          Networks](https://papers.nips.cc/paper_files/paper/2019/hash/11b9842e0a271ff252c1903e7132cd68-Abstract.html):
          the features.
    """
    x, y = read_published(
        path,
        NAME,
        "CUB",
        lambda content: read_views(
            content, ("X", FEATURES), ("gt", NUM_CLASSES), SAMPLES, "load_cub"
        ),
    )
    return stratified_split(x, y, TEST_SAMPLES, "load_cub")
