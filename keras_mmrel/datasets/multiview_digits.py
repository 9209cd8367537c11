from collections.abc import Sequence

from keras_mmrel.datasets._digit_views import VIEWS
from keras_mmrel.datasets._split import stratified_split
from keras_mmrel.optional import require

TEST_SAMPLES = 540


def load_multiview_digits(
    modalities: str | Sequence[str] = ("pixels", "profile", "fourier"),
) -> tuple:
    """Load handwritten digits in several genuinely different views.

    1,797 real digits of 8 x 8 pixels that ship with scikit-learn, so no
    network is needed. The split is fixed and stratified: 1,257 training and
    540 test samples. Each feature is scaled to [0, 1] by its minimum and
    maximum over the training samples; test values are not clipped, and a
    feature that is constant in training is 0 everywhere.

    The views, computed from the image (the choice is this library's own):

    - `"pixels"` (64): the image, row by row.
    - `"profile"` (16): the ink of the 8 rows, then of the 8 columns.
    - `"fourier"` (64): `log(1 + |FFT|)` of the image in two dimensions.
    - `"gradient"` (54): 3 x 3 cells of 6 unsigned edge orientations, weighted
      by the gradient's magnitude.
    - `"moments"` (10): ink, its centre (row, column), and the normalised
      central moments of order 2 and 3.

    Args:
        modalities: `"all"`, or a non-empty sequence of different names out of
            the five above; the dicts have their order.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. `x` is a dict of modality
        name -> `(samples, features)` in float32; `y` is `(samples,)` in
        int32, digits 0 to 9.

    Raises:
        ValueError: If a name is unknown or repeated, or there is none.
        ImportError: If scikit-learn is not installed.

    Example:

    >>> (x_train, y_train), _ = load_multiview_digits(["pixels", "moments"])
    >>> {name: x.shape for name, x in x_train.items()}
    {'pixels': (1257, 64), 'moments': (1257, 10)}

    References:
        - [Alpaydin and Kaynak, 1998, Optical Recognition of Handwritten
          Digits](https://doi.org/10.24432/C50P49)
    """
    names = _check_modalities(modalities)
    load_digits = require(
        "sklearn.datasets", "load_multiview_digits"
    ).load_digits
    digits = load_digits()
    views = {name: VIEWS[name](digits.images) for name in names}
    return stratified_split(
        views, digits.target, TEST_SAMPLES, "load_multiview_digits"
    )


def _check_modalities(modalities: str | Sequence[str]) -> list[str]:
    if isinstance(modalities, str) and modalities == "all":
        return list(VIEWS)
    is_sequence = isinstance(modalities, Sequence)
    names = list(modalities) if is_sequence else []
    if (
        not names
        or isinstance(modalities, str)
        or any(name not in list(VIEWS) for name in names)
        or len(set(names)) != len(names)
    ):
        raise ValueError(
            "`modalities` must be 'all' or a non-empty sequence of different "
            f"names out of {list(VIEWS)}. Received: modalities={modalities!r}"
        )
    return names
