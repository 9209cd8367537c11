"""What callbacks have learnt of a training, by the attributes they change."""

import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.backend import upstream
from keras_mmrel.callbacks import _state_file


class CallbackStates:
    """Saves and restores the state of callbacks.

    A callback with the methods `get_state` and `set_state` says itself what
    its state is. Of any other it is the attributes that hold plain values
    (numbers, words, arrays, lists and dicts of them) which are no arguments of
    its constructor and have changed since the training began.

    Args:
        callbacks: The callbacks, after their `on_train_begin`.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        counts: Counter = Counter()
        self.callbacks: dict[str, Any] = {}
        for callback in callbacks:
            if callback in self.callbacks.values():
                continue
            name = type(callback).__name__
            self.callbacks[f"{name} {counts[name]}"] = callback
            counts[name] += 1
        self.initial = {
            key: {k: _digest(v) for k, v in _attributes(callback).items()}
            for key, callback in self.callbacks.items()
        }

    def get(self) -> dict[str, Any]:
        """Return name -> state."""
        return {key: self._get(key) for key in self.callbacks}

    def _get(self, key: str) -> Any:
        callback = self.callbacks[key]
        if _speaks_for_itself(callback):
            return callback.get_state()
        initial = self.initial[key]
        return {
            name: value
            for name, value in _attributes(callback).items()
            if initial.get(name) != _digest(value)
        }

    def set(self, states: dict[str, Any]) -> None:
        """Restore what `get` returned; a callback that is new stays so."""
        for key, state in states.items():
            callback = self.callbacks.get(key)
            if callback is None:
                continue
            if _speaks_for_itself(callback):
                callback.set_state(state)
                continue
            known = _attributes(callback)
            for name, value in state.items():
                if name in known:
                    setattr(callback, name, value)


def _speaks_for_itself(callback: Any) -> bool:
    return hasattr(callback, "get_state") and hasattr(callback, "set_state")


def _attributes(callback: Any) -> dict[str, Any]:
    """Return the plain attributes of a callback that are no arguments."""
    taken = {"params", upstream.MODEL_OF_A_CALLBACK}
    for cls in type(callback).__mro__[:-1]:
        taken |= set(inspect.signature(cls).parameters)
    return {
        name: value
        for name, value in vars(callback).items()
        if name not in taken and _state_file.is_plain(value)
    }


def _digest(value: Any) -> str:
    arrays: list = []
    content = _state_file.encode(value, arrays)
    digest = hashlib.sha256(json.dumps(content).encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
