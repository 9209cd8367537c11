import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_mmrel.callbacks import _random_state
from keras_mmrel.callbacks import _state_file
from keras_mmrel.callbacks import _training_identity
from keras_mmrel.callbacks._callback_states import CallbackStates
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.contract import Model
from keras_mmrel.contract import as_path
from keras_mmrel.contract import to_numpy
from keras_mmrel.user_warning import warn

NEWEST, PREVIOUS, UNFINISHED = "newest.state", "previous.state", "unfinished"


@constrained(every=Integer(1))
class TrainingState(keras.callbacks.Callback):
    """Let a training that is killed go on as if nothing had happened.

    After every epoch it writes one file with all that the training has come
    to: the weights, the optimizer, the state of every seed, the modulation,
    the clock, `History`, what other callbacks have learnt (the patience and
    the best weights of `EarlyStopping`, say) and the random generators of
    Python, NumPy, PyTorch and Keras, which decide on the order of the samples.
    A `fit` that is started again with the same callback goes on from the last
    whole epoch, ends with the same weights, bit for bit, and returns the
    `History` of all epochs. A training that is complete is not trained again:
    `fit` restores it and warns.

    Start the same script again: nothing else is needed.

    - A file is written under another name, handed to the disk, and only then
      takes its name; the one before stays beside it. A kill at any moment
      leaves a whole one. If the newest cannot be read the one before is used,
      with a warning. A full disk is a warning too: the training goes on.
    - A file of another model, other arguments of it or of `compile`, other
      steps an epoch or another version of Keras or of this library is refused
      in one sentence, and stays as it is. `epochs` may grow; a warm-up keeps
      the plan of the first `fit`.
    - A learning rate, an `every` or a `patience` that a callback is given is
      no state: the script's counts.

    The order of the samples is that of the first run for arrays, for a
    `PyDataset` without workers and for a `DataLoader` without a generator of
    its own, as long as an epoch is one pass through the data. With TensorFlow
    call `keras.utils.set_random_seed` first, which alone decides on the order
    there: what it shuffles without a seed nobody can repeat. A generator or a
    `tf.data` pipeline of one's own begins anew: make its order a function of
    the epoch.

    It is for models of this library, and for one process; of several, give
    each a folder of its own. `keras.callbacks.BackupAndRestore` keeps weights
    and the epoch only, in two files, of which a kill at the wrong moment
    leaves the second one empty; no later `fit` can then start.

    A callback of your own may say what its state is: `get_state()` returns
    plain values (numbers, words, arrays, lists and dicts of them), which
    `set_state(state)` gets.

    Args:
        folder: Folder for the files; it is made if need be.
        every: Positive integer: write every that many epochs, and at the end.

    Raises:
        OSError: In `fit`, if the folder cannot be written to.
        ValueError: In `fit`, if the folder holds a damaged file only, or that
            of another training.

    Example:

    >>> import tempfile
    >>> x = {"a": np.ones((6, 8)), "b": np.ones((6, 4))}
    >>> y = np.array([0, 1, 2, 0, 1, 2])
    >>> folder = tempfile.mkdtemp()
    >>> def train(epochs):
    ...     model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3, seed=0)
    ...     model.compile()
    ...     state = keras_mmrel.callbacks.TrainingState(folder)
    ...     return model.fit(x, y, epochs=epochs, verbose=0, callbacks=[state])
    >>> train(epochs=1).epoch  # killed after the first epoch, say
    [0]
    >>> train(epochs=3).epoch
    [0, 1, 2]
    """

    def __init__(self, folder: Any, every: int = 1) -> None:
        super().__init__()
        self.folder = as_path("folder", folder)
        self.every = every
        self._begin()

    def _begin(self) -> None:
        """Forget the `fit` before."""
        self._saved: dict[str, Any] | None = None
        self._states: CallbackStates | None = None
        self._others: Sequence[keras.callbacks.Callback] = ()
        self._epochs = 0
        self._keeps_previous = True

    # -- What `fit` of the library asks --------------------------------------

    def open(self, model: Model, epochs: int, initial_epoch: int) -> int:
        """Read the last state, before the data are prepared.

        Args:
            model: The model, built or not.
            epochs: As in `fit`.
            initial_epoch: Likewise.

        Returns:
            The epoch that `fit` has to begin with.
        """
        self._begin()
        self._epochs = initial_epoch
        self._check_folder()
        self._identity = _training_identity.identity(model)
        self._seed = _random_state.tensorflow_seed()
        saved = self._saved = self._read()
        if saved is None:
            return initial_epoch
        self._check_identity(saved, model)
        # Some methods draw by it when they prepare the data.
        model.seed = saved["seed"]
        self._seed = saved["tensorflow_seed"]
        _random_state.restore_tensorflow_seed(self._seed)
        self._epochs = saved["epochs"]
        if not saved["stopped"] and self._epochs < epochs:
            return self._epochs
        warn(
            f"`folder` holds a complete training of {self._epochs} epochs, "
            "which `fit` restores; give another folder to train anew. "
            f"Received: folder={str(self.folder)!r}"
        )
        return max(epochs, self._epochs)

    def watch(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Take the callbacks whose state is kept with the training's."""
        self._others = callbacks

    # -- What Keras calls ----------------------------------------------------

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not hasattr(self.model, "modality_names"):
            raise ValueError(
                "`TrainingState` must be given to `fit` of a model of "
                f"keras_mmrel. Received: model={type(self.model).__name__}"
            )
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        if self._saved is None:
            return
        self._check_steps(self._saved)
        groups = ("variables", "optimizer")
        for name, variables in zip(groups, self._variables(), strict=True):
            values = self._saved[name]
            shapes = [tuple(v.shape) for v in variables]
            if [v.shape for v in values] != shapes:
                raise self._foreign(f"other {name}")
        for name, variables in zip(groups, self._variables(), strict=True):
            for variable, value in zip(
                variables, self._saved[name], strict=True
            ):
                variable.assign(value)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # Now every callback has done what it does at the end of an epoch, or
        # when the training begins.
        if self._states is None:
            self._restore_callbacks()
            if self._saved is not None:
                _random_state.restore_random_state(self._saved["random"])
        elif self._epochs % self.every == 0:
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._epochs = epoch + 1

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._states is None:
            self._restore_callbacks()
        else:
            self._save()

    def _restore_callbacks(self) -> None:
        self._states = CallbackStates([*self._others, self.model.history])
        if self._saved is not None:
            self._states.set(self._saved["callbacks"])

    def _variables(self) -> tuple[list[Any], list[Any]]:
        return self.model.variables, self.model.optimizer.variables

    # -- Writing -------------------------------------------------------------

    def _save(self) -> None:
        assert self._states is not None
        variables, optimizer = (
            [to_numpy(v) for v in group] for group in self._variables()
        )
        state = {
            "identity": self._identity,
            "steps": self.params.get("steps"),
            "seed": self.model.seed,
            "tensorflow_seed": self._seed,
            "epochs": self._epochs,
            "stopped": bool(self.model.stop_training),
            "learning_rate": _training_identity.learning_rate(self.model),
            "variables": variables,
            "optimizer": optimizer,
            "callbacks": self._states.get(),
            "random": _random_state.random_state(),
        }
        try:
            self._write(state)
        except OSError as error:
            warn(
                f"The state after epoch {self._epochs} could not be written: "
                "the training goes on, and a kill would take it back to the "
                f"state before. Received: folder={str(self.folder)!r}, {error}"
            )

    def _write(self, state: dict[str, Any]) -> None:
        unfinished = self.folder / UNFINISHED
        try:
            _state_file.write(unfinished, state)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        newest = self.folder / NEWEST
        # A damaged one must not take the place of the one before.
        if newest.exists() and self._keeps_previous:
            os.replace(newest, self.folder / PREVIOUS)
        os.replace(unfinished, newest)
        self._keeps_previous = True
        _sync_folder(self.folder)

    # -- Reading -------------------------------------------------------------

    def _check_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / UNFINISHED).write_bytes(b"")
            (self.folder / UNFINISHED).unlink()
        except OSError as error:
            raise OSError(
                "`folder` must be a folder that can be written to. Received: "
                f"folder={str(self.folder)!r}, {error}"
            ) from error

    def _read(self) -> dict[str, Any] | None:
        problems = []
        for name in (NEWEST, PREVIOUS):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                state = _checked(_state_file.read(path))
            except (OSError, ValueError) as error:
                problems.append(f"{str(path)!r}, of which {error}")
                continue
            if problems:
                self._keeps_previous = False
                warn(
                    "The newest training state is damaged and the one before "
                    f"is used. Received: {problems[0]}"
                )
            return state
        if problems:
            raise ValueError(
                "`folder` must hold an undamaged training state, or none. "
                f"Received: {problems[0]}"
            )
        return None

    def _check_identity(self, saved: dict[str, Any], model: Model) -> None:
        problem = _training_identity.difference(
            saved["identity"], self._identity, saved["learning_rate"]
        )
        if problem is None and model.seed_given:
            if model.seed != saved["seed"]:
                problem = f"seed={saved['seed']} there and {model.seed} here"
        if problem is not None:
            raise self._foreign(problem)

    def _check_steps(self, saved: dict[str, Any]) -> None:
        here, there = self.params.get("steps"), saved["steps"]
        if None not in (here, there) and here != there:
            raise self._foreign(f"{there} steps an epoch there and {here} here")

    def _foreign(self, problem: str) -> ValueError:
        return ValueError(
            "`folder` must hold the state of this training, or none. "
            f"Received: folder={str(self.folder)!r}, which holds another's: "
            f"{problem}"
        )


def _checked(state: Any) -> dict[str, Any]:
    """Return a state if it has the parts of one."""
    kinds = {
        "identity": dict,
        "steps": int | None,
        "seed": int,
        "tensorflow_seed": int | None,
        "epochs": int,
        "stopped": bool,
        "learning_rate": float | None,
        "variables": list,
        "optimizer": list,
        "callbacks": dict,
        "random": dict,
    }
    whole = isinstance(state, dict) and all(
        isinstance(state.get(key), kind) for key, kind in kinds.items()
    )
    if not whole or not all(
        isinstance(v, Array) for v in state["variables"] + state["optimizer"]
    ):
        raise ValueError("parts are missing")
    return state


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the names of a folder's files."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
