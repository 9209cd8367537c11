import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_mmrel.callbacks import _random_state
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Integer
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import PROBABILITIES
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.optional import require
from keras_mmrel.wrappers import _building
from keras_mmrel.wrappers._columns import column_groups
from keras_mmrel.wrappers._columns import split_columns
from keras_mmrel.wrappers._missing import with_missing
from keras_mmrel.wrappers._sample_array import by_modality
from keras_mmrel.wrappers._sample_array import count_of
from keras_mmrel.wrappers._sample_array import is_sample_array
from keras_mmrel.wrappers._sample_array import plain_arrays

_DICT = Either(Instance(Mapping, "a dict"), None)
_CONSTRAINTS = {
    "options": _DICT,
    "encoder": Either(
        Instance(object, "a function of a name and a shape", "__call__"), None
    ),
    "scale": Flag(),
    "allow_missing": Flag(),
    "epochs": Integer(1),
    "batch_size": Integer(1),
    "compile_options": _DICT,
    "fit_options": _DICT,
    "verbose": Either(Integer(0, 2), Choice("auto")),
}
NESTED = "options__"


class MultimodalClassifier(keras.wrappers.SKLearnClassifier):
    """A method of the library as a classifier of scikit-learn.

    It can be cloned, pickled, searched over, cross-validated and be the last
    step of a `Pipeline`. `fit` makes a new model every time and trains it by
    the method's own optimizer and loss.

    `X` is one table `(samples, columns)`, an array or a data frame, whose
    columns `modalities` deals out; or a dict of modality name -> array; or
    the one array that `sample_array` makes of such a dict, which is what
    `cross_val_score` and its like can take rows of.

    What scikit-learn asks of sample weights holds in part: a weight of 0 is
    an absent sample, but one of 2 is not two samples, since batches are drawn
    by the number of samples.

    scikit-learn is in the extra `data`.

    Args:
        model: Name of a model of `keras_mmrel.models`, its class, or a
            function of `(modalities, num_classes, **options)` that returns
            one, which is compiled here.
        modalities: For a table: dict of modality name -> a slice, or a list
            of numbers or names of its columns. A column of none is not used.
            By default all are one modality, `"features"`. For a dict: the
            names of those to use, by default all.
        options: Dict of further arguments of the model. `set_params` and
            grids know each as `options__<name>`.
        encoder: Function of the name and shape of a modality that returns
            what the model takes for it, a layer or a shape. By default the
            model's own encoders.
        scale: Whether each modality of numbers is standardised by its
            training samples (`keras_mmrel.encoders.Scaling`), within the
            model: `model_` takes what `X` holds. Pixels in bytes, and what
            `encoder` makes, are left alone.
        allow_missing: Whether a modality of a sample in which a number is
            NaN counts as missing. If not, NaN is refused.
        epochs: Positive integer.
        batch_size: Positive integer.
        compile_options: Dict of arguments of `compile`.
        fit_options: Dict of further arguments of `keras.Model.fit`, such as
            `"class_weight"` (by class number), `"callbacks"` or
            `"validation_split"`.
        random_state: `None`, an integer or a `numpy.random.RandomState`: what
            initial weights, the order of samples and dropout follow. The
            global generators are left as they were.
        verbose: 0, 1, 2 or `"auto"`, of training.

    Attributes:
        model_: The trained model.
        classes_: The labels, sorted, `(classes,)`.
        modality_names_: Names of the modalities, in order.
        groups_: Modality name -> numbers of its columns, after a table.
        history_: Name of a loss or metric -> its value in each epoch.
        n_features_in_: Number of columns, after a table.
        feature_names_in_: Their names, after a data frame.

    Raises:
        ImportError: If scikit-learn is not installed.

    Example:

    >>> from sklearn.model_selection import cross_val_score
    >>> table = np.random.default_rng(0).normal(size=(90, 6))
    >>> labels = np.array(["ill", "well"])[(table[:, 0] > 0).astype(int)]
    >>> classifier = keras_mmrel.wrappers.MultimodalClassifier(
    ...     "LateFusion",
    ...     {"blood": slice(0, 4), "image": [4, 5]},
    ...     epochs=20,
    ...     random_state=0,
    ... )
    >>> bool(cross_val_score(classifier, table, labels, cv=3).mean() > 0.7)
    True

    It is one of Keras' own wrappers, a `keras.wrappers.SKLearnClassifier`,
    without its arguments. The scaling, the number of epochs, and that NaN can
    mean a missing modality are this library's own choice.
    """

    def __init__(
        self,
        model: Any = "ConcatFusion",
        modalities: Any = None,
        *,
        options: Mapping[str, Any] | None = None,
        encoder: Callable | None = None,
        scale: bool = True,
        allow_missing: bool = False,
        epochs: int = 50,
        batch_size: int = 32,
        compile_options: Mapping[str, Any] | None = None,
        fit_options: Mapping[str, Any] | None = None,
        random_state: Any = None,
        verbose: Any = 0,
    ) -> None:
        # scikit-learn wants arguments kept as they are; `fit` checks them.
        require("sklearn", "MultimodalClassifier")
        self.model = model
        self.modalities = modalities
        self.options = options
        self.encoder = encoder
        self.scale = scale
        self.allow_missing = allow_missing
        self.epochs = epochs
        self.batch_size = batch_size
        self.compile_options = compile_options
        self.fit_options = fit_options
        self.random_state = random_state
        self.verbose = verbose

    # -- Training and predicting ---------------------------------------------

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike = None
    ) -> "MultimodalClassifier":
        """Train a new model.

        Args:
            X: A table, a dict or a `sample_array`, as above.
            y: Labels `(samples,)` of any kind, two different ones or more.
            sample_weight: Non-negative weights `(samples,)`.

        Returns:
            Itself.

        Raises:
            ValueError: If an argument is not as above, or data are none that
                a model could learn from.
        """
        for name, constraint in _CONSTRAINTS.items():
            constraint(name, getattr(self, name))
        x, y = self._training_data(X, y)
        rest = dict(self.fit_options or {})
        if sample_weight is not None:
            checked = require("sklearn.utils.validation", "fit")
            rest["sample_weight"] = checked._check_sample_weight(
                sample_weight, y, dtype=np.float32, ensure_non_negative=True
            )
        classes, numbers = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                "`y` must have two classes or more. Received: one class, "
                f"{classes[0]!r}"
            )
        with self._seeded() as seed:
            model = _building.build_model(
                self.model,
                x,
                len(classes),
                self.options or {},
                self.encoder,
                self.scale,
                seed,
            )
            _building.compile_model(model, self.compile_options or {})
            history = model.fit(
                x,
                numbers.astype("int32"),
                **{
                    "epochs": self.epochs,
                    "batch_size": self.batch_size,
                    "verbose": self.verbose,
                    **rest,
                },
            )
        self.model_ = model
        self.classes_ = classes
        self.modality_names_ = list(model.modality_names)
        self.history_ = dict(history.history)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Return the most likely label of each sample, `(samples,)`."""
        probabilities = self._predict(X)[PROBABILITIES]
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return probabilities `(samples, classes)`, as in `classes_`."""
        return self._predict(X)[PROBABILITIES]

    def decision_function(self, X: ArrayLike) -> Array:
        """Return logits `(samples, classes)`.

        Of two classes it is how much larger that of the second is,
        `(samples,)`.
        """
        logits = self._predict(X)[LOGITS]
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def _predict(self, X: ArrayLike) -> dict[str, Array]:
        checked = require("sklearn.utils.validation", "predict")
        checked.check_is_fitted(self, "model_")
        x = self._by_modality(X)
        return self.model_.predict(x, batch_size=self.batch_size, verbose=0)

    # -- Data ----------------------------------------------------------------

    def _training_data(
        self, X: ArrayLike, y: ArrayLike
    ) -> tuple[dict[str, Any], Array]:
        """Plain arrays by modality, and labels as they are."""
        checked = require("sklearn.utils.validation", "fit")
        multiclass = require("sklearn.utils.multiclass", "fit")
        for name in ("n_features_in_", "feature_names_in_", "groups_"):
            # Of an earlier fit.
            self.__dict__.pop(name, None)
        if _has_modalities(X):
            if y is None:
                raise ValueError("`y` must be labels. Received: y=None")
            x = self._by_modality(X)
        else:
            X, y = checked.validate_data(self, X, y, **self._table_checks())
            self.groups_ = column_groups(
                self.modalities, X.shape[1], self._column_names()
            )
            x = self._with_missing(split_columns(X, self.groups_))
        y = checked.column_or_1d(y, warn=True)
        multiclass.check_classification_targets(y)
        checked.assert_all_finite(y, input_name="y")
        checked.check_consistent_length(np.empty(count_of(x)), y)
        return x, y

    def _by_modality(self, X: ArrayLike) -> dict[str, Any]:
        """Plain arrays of whatever holds samples, after `fit` or in it."""
        if is_sample_array(X):
            X = by_modality(X)
        if not _has_modalities(X):
            if hasattr(self, "model_") and not hasattr(self, "groups_"):
                raise ValueError(
                    "`X` must be a dict of arrays, or what `sample_array` "
                    f"makes of one, as in `fit`. Received: {type(X).__name__}"
                )
            checked = require("sklearn.utils.validation", "predict")
            table = checked.validate_data(
                self, X, reset=False, **self._table_checks()
            )
            return self._with_missing(split_columns(table, self.groups_))
        x = plain_arrays(X)
        if self.modalities is not None and not hasattr(self, "groups_"):
            x = _chosen(x, self.modalities)
        count_of(x)
        return self._with_missing(x)

    def _with_missing(self, x: dict[str, Any]) -> dict[str, Any]:
        return with_missing(x) if self.allow_missing else x

    def _table_checks(self) -> dict[str, Any]:
        finite = "allow-nan" if self.allow_missing else True
        return {"dtype": "numeric", "ensure_all_finite": finite}

    def _column_names(self) -> list[str] | None:
        names = getattr(self, "feature_names_in_", None)
        return None if names is None else list(names)

    # -- Random numbers ------------------------------------------------------

    @contextlib.contextmanager
    def _seeded(self) -> Iterator[int]:
        """Let what is drawn follow `random_state`, and nothing after it."""
        utils = require("sklearn.utils", "fit")
        generator = utils.check_random_state(self.random_state)
        seed = int(generator.randint(2**31 - 1))
        before = _random_state.random_state()
        tensorflow = _random_state.tensorflow_seed()
        try:
            _random_state.seed_random_state(seed)
            yield seed
        finally:
            _random_state.restore_random_state(before)
            _random_state.restore_tensorflow_seed(tensorflow)

    # -- What scikit-learn asks ----------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments, and each of `options` by its name too."""
        params = super().get_params(deep)
        if deep and isinstance(self.options, Mapping):
            for name, value in self.options.items():
                params[f"{NESTED}{name}"] = value
        return params

    def set_params(self, **params: Any) -> "MultimodalClassifier":
        """Change arguments, those in `options` as `options__<name>`."""
        nested = {n: params.pop(n) for n in list(params) if NESTED in n}
        super().set_params(**params)
        if nested:
            changed = {n.removeprefix(NESTED): v for n, v in nested.items()}
            self.options = {**(self.options or {}), **changed}
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # The base class knows no model.
        tags.non_deterministic = False
        tags.classifier_tags.poor_score = False
        tags.input_tags.allow_nan = bool(self.allow_missing)
        return tags

    def __sklearn_clone__(self) -> Any:
        base = require("sklearn.base", "clone").BaseEstimator
        return base.__sklearn_clone__(self)


def _has_modalities(X: ArrayLike) -> bool:
    """Whether it is no table. A kind of sparse matrix is a dict, too."""
    mapping = isinstance(X, Mapping) and not hasattr(X, "tocsr")
    return mapping or is_sample_array(X)


def _chosen(x: dict[str, Any], names: Any) -> dict[str, Any]:
    """Those modalities that are to be used, and the mask's columns of them."""
    known = [name for name in x if name != MASK]
    listed = not isinstance(names, str) and np.iterable(names)
    if not listed or not names or not set(names) <= set(known):
        raise ValueError(
            f"`modalities` must be names among {known}. Received: "
            f"modalities={names!r}"
        )
    chosen = {name: x[name] for name in names}
    if MASK in x:
        chosen[MASK] = x[MASK][:, [known.index(name) for name in names]]
    return chosen
