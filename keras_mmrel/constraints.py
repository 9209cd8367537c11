"""What an argument may be, declared once.

A constraint says what is expected, checks it, and knows values that it
refuses. A class or a function declares its arguments' constraints:

>>> from keras_mmrel.constraints import Integer, Number, constrained
>>> @constrained(units=Integer(1), dropout=Number(0, 1, high_open=True))
... def layer(units, dropout=0.5):
...     return units
>>> layer(0)
Traceback (most recent call last):
ValueError: `units` must be a positive integer. Received: units=0

The declaration is kept as `constraints`, from which the tests of bad values
are made.
"""

import difflib
import functools
import inspect
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import keras
import numpy as np

from keras_mmrel.contract import LARGEST

# What is smaller, and must not be 0, breaks what is divided by it.
SMALLEST = 1 / LARGEST

Constrained = TypeVar("Constrained", bound=Callable)


class Constraint:
    """Base: what is `expected`, whether a value is `accepted`, what is not.

    Attributes:
        expected: What follows "must be" in the error.
        bad: Values that are refused, for tests.
    """

    expected: str
    bad: tuple

    def accepts(self, value: Any) -> bool:
        raise NotImplementedError

    def plain(self, value: Any) -> Any:
        """Return an accepted value as a plain Python one, which JSON takes."""
        return value

    def __call__(self, name: str, value: Any) -> Any:
        """Return the plain value, or say in one sentence what is wrong."""
        if not self.accepts(value):
            raise ValueError(
                f"`{name}` must be {self.expected}. Received: {name}={value!r}"
            )
        return self.plain(value)


class Integer(Constraint):
    """A whole number of at least `low`, and at most `high` if there is one."""

    def __init__(self, low: int = 1, high: int | None = None) -> None:
        self.low, self.high = low, high
        names = {0: "a non-negative integer", 1: "a positive integer"}
        self.expected = names.get(low, f"an integer of at least {low}")
        bad: list[Any] = [low - 1, low + 0.5, True, "a", None]
        bad += [math.inf, math.nan]
        if high is not None:
            self.expected = f"an integer from {low} to {high}"
            bad.append(high + 1)
        self.bad = tuple(bad)

    def accepts(self, value: Any) -> bool:
        whole = isinstance(value, int | np.integer)
        if not whole or isinstance(value, bool) or value < self.low:
            return False
        return self.high is None or value <= self.high

    def plain(self, value: Any) -> int:
        return int(value)


class Number(Constraint):
    """A number from `low` to `high`, each end in or out.

    It is one in float32, too, in which it is mostly used: at most 1e15 in
    size, at least 1e-15 where it must be above 0, and not rounded to an end
    that is out.
    """

    def __init__(
        self,
        low: float = -math.inf,
        high: float = math.inf,
        *,
        low_open: bool = False,
        high_open: bool = False,
    ) -> None:
        self.low, self.high = low, high
        self.low_open, self.high_open = low_open, high_open
        self.expected = self._describe()
        bad: list[Any] = [math.nan, math.inf, -math.inf, True, "a", None]
        bad += [low - 1] if low > -math.inf else [-1e39]
        bad += [high + 1] if high < math.inf else [1e39]
        bad += [low] if low_open else []
        bad += [1e-40] if low_open and low == 0 else []
        bad += [high, high * (1 - 1e-12)] if high_open else []
        self.bad = tuple(bad)

    def _describe(self) -> str:
        if self.high < math.inf:
            left, right = "[("[self.low_open], "])"[self.high_open]
            ends = f"{left}{self.low:g}, {self.high:g}{right}"
            inside = ", in float32 too" * (self.low_open or self.high_open)
            return f"a number in {ends}{inside}"
        if self.low == -math.inf:
            return f"a finite number of at most {LARGEST:g} in size"
        if self.low == 0 and self.low_open:
            return f"a finite, positive number, {SMALLEST:g} to {LARGEST:g}"
        if self.low == 0:
            return f"a finite, non-negative number, at most {LARGEST:g}"
        how = "above" if self.low_open else "of at least"
        return f"a finite number {how} {self.low:g}, at most {LARGEST:g}"

    def accepts(self, value: Any) -> bool:
        kinds = int | float | np.integer | np.floating
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        # NaN is not in between.
        if not -LARGEST <= value <= LARGEST:
            return False
        above, below = value >= self.low, value <= self.high
        if self.low_open:
            above = np.float32(value) > np.float32(self.low)
            above = above and (self.low != 0 or value >= SMALLEST)
        if self.high_open:
            below = np.float32(value) < np.float32(self.high)
        return bool(above and below)

    def plain(self, value: Any) -> float:
        whole = isinstance(value, int | np.integer)
        return int(value) if whole else float(value)


class Flag(Constraint):
    """`True` or `False`."""

    expected = "True or False"
    bad = (0, 1, "yes", None)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool | np.bool_)

    def plain(self, value: Any) -> bool:
        return bool(value)


class Choice(Constraint):
    """One of some strings."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.expected = f"one of {choices}"
        self.bad = ("no such choice", None, 1.5, ("a",))

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.choices


class Literal(Constraint):
    """One value, such as `"auto"` beside numbers."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.expected = repr(value)
        self.bad = ()

    def accepts(self, value: Any) -> bool:
        return type(value) is type(self.value) and value == self.value


class Either(Constraint):
    """What one of several constraints accepts; `None` and strings as such."""

    def __init__(self, *options: Any) -> None:
        self.options = [
            o if isinstance(o, Constraint) else Literal(o) for o in options
        ]
        self.expected = " or ".join(o.expected for o in self.options)
        bad = [value for option in self.options for value in option.bad]
        self.bad = tuple(value for value in bad if not self.accepts(value))

    def accepts(self, value: Any) -> bool:
        return any(option.accepts(value) for option in self.options)

    def plain(self, value: Any) -> Any:
        option = next(o for o in self.options if o.accepts(value))
        return option.plain(value)


class Every(Constraint):
    """A non-empty sequence, each item of which a constraint accepts."""

    def __init__(self, item: Constraint) -> None:
        self.item = item
        self.expected = f"a non-empty sequence, each item {item.expected}"
        self.bad = ((), 1, "ab", None, *((value,) for value in item.bad))

    def accepts(self, value: Any) -> bool:
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        return listed and len(value) > 0 and all(map(self.item.accepts, value))

    def plain(self, value: Any) -> Any:
        return type(value)(self.item.plain(item) for item in value)


class Shapes(Constraint):
    """A dict of shapes of sequences: values, and the mask of their padding."""

    expected = (
        "a dict of two shapes, of values (time, features) and of "
        "'padding_mask' (time,)"
    )
    bad = ({}, {"values": (5, 2)}, {"a": (5, 2), "padding_mask": (4,)})

    def accepts(self, value: Any) -> bool:
        whole = Every(Integer(1))
        if not isinstance(value, Mapping) or len(value) != 2:
            return False
        if not all(map(whole.accepts, value.values())):
            return False
        mask = value.get("padding_mask", ())
        values = [s for name, s in value.items() if name != "padding_mask"]
        return len(values[0]) == 2 and tuple(mask) == tuple(values[0][:1])


class Names(Constraint):
    """A sequence of strings, which may be empty."""

    expected = "a sequence of strings"
    bad = ("ab", None, 1, (1,), {"a": 1})

    def accepts(self, value: Any) -> bool:
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        return listed and all(isinstance(item, str) for item in value)


class ClassNames(Constraint):
    """Names of two classes or more, in the order of their numbers."""

    expected = "two or more different strings, one a class"
    bad = ("ab", None, ("a",), ("a", "a"), ("a", 1), {"a": 1, "b": 2})

    def accepts(self, value: Any) -> bool:
        return (
            Names().accepts(value)
            and len(value) > 1
            and len(set(value)) == len(value)
        )

    def plain(self, value: Any) -> list[str]:
        return [str(name) for name in value]


class Instance(Constraint):
    """An object of a class, with a method maybe that not all of them have."""

    def __init__(
        self, kind: type | tuple, expected: str, method: str | None = None
    ) -> None:
        self.kind = kind
        self.expected = expected
        self.method = method
        self.bad = (1.5, "no such object")

    def accepts(self, value: Any) -> bool:
        has = self.method is None or hasattr(value, self.method)
        return isinstance(value, self.kind) and has


class DType(Constraint):
    """What Keras makes a policy of: a name, a policy or its config."""

    expected = "the name of a dtype or of a policy of Keras, or a policy"
    bad = ("float12", "words", 3, 1.5, ())

    def accepts(self, value: Any) -> bool:
        try:
            keras.dtype_policies.get(value)
        except (ValueError, TypeError, AttributeError):
            return False
        return True


class Name(Constraint):
    """The name of a layer."""

    expected = "a string without '/'"
    bad = (5, "a/b", ("a",))

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and "/" not in value


# More need other layers than dense ones, and mostly come of a slip: the
# output layer of a million classes and 64 features has 256 MB.
NUM_CLASSES = Integer(2, 10**6)
# Widths of layers, numbers of layers on each other, and of samples.
SIZE = Integer(1, 10**6)
DEPTH = Integer(1, 1000)
SAMPLES = Integer(1, 10**8)
# The state of what draws has 32 bits, with a sign on PyTorch.
SEED = Either(Integer(0, 2**31 - 1), None)

# What Keras' own classes take, beside what each class of the library does.
_OF_LAYERS = {
    "dtype": Either(DType(), None),
    "name": Either(Name(), None),
    "trainable": Flag(),
}
_OF_OTHERS = {
    "dtype": _OF_LAYERS["dtype"],
    "reduction": Either(
        Choice(
            "sum_over_batch_size",
            "sum",
            "mean",
            "mean_with_sample_weight",
            "none",
        ),
        None,
    ),
}
# A layer takes these without saying so.
_UNNAMED = {"input_shape", "input_dim"}


def refuse_unknown(
    where: str, given: Mapping[str, Any], known: Iterable[str]
) -> None:
    """Refuse an argument that there is none of, and say which may be meant.

    Args:
        where: What is called.
        given: Arguments by name.
        known: Names of all that there are.
    """
    known = sorted(known)
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (perhaps `{close[0]}` is meant)" if close else ""
            raise ValueError(
                f"{where} must get arguments that it has{hint}. Received: "
                f"{name}={value!r}"
            )


def _check_keras_arguments(made: Any, given: Mapping[str, Any]) -> None:
    """Check what a constructor hands on to Keras.

    Args:
        made: The object.
        given: All arguments by name.
    """
    is_layer = isinstance(made, keras.layers.Layer)
    for name, constraint in (_OF_LAYERS if is_layer else _OF_OTHERS).items():
        if name in given:
            constraint(name, given[name])
    if is_layer:
        known = {
            name
            for cls in type(made).__mro__
            if "__init__" in vars(cls)
            for name in inspect.signature(vars(cls)["__init__"]).parameters
        }
        refuse_unknown(type(made).__name__, given, known | _UNNAMED)


def constrained(**constraints: Constraint) -> Callable:
    """Check arguments of a class's constructor, or of a function, by name.

    Values are handed on as plain Python ones. An argument that is not given
    keeps its default, which is not checked.
    """

    def decorate(target: Constrained) -> Constrained:
        is_class = inspect.isclass(target)
        function: Any = vars(target)["__init__"] if is_class else target
        signature = inspect.signature(function)
        first = next(iter(signature.parameters), "")
        rest = next(
            (
                n
                for n, p in signature.parameters.items()
                if p.kind == p.VAR_KEYWORD
            ),
            "",
        )
        unknown = set(constraints) - set(signature.parameters)
        assert not unknown, f"{target.__qualname__} takes no {unknown}"

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(
                    f"{target.__name__} must get the arguments that it needs, "
                    f"and no others. Received: {error}"
                ) from error
            if is_class:
                given = {**bound.arguments, **bound.arguments.get(rest, {})}
                made = given.pop(first)
                given.pop(rest, None)
                _check_keras_arguments(made, given)
            for name, constraint in constraints.items():
                if name in bound.arguments:
                    bound.arguments[name] = constraint(
                        name, bound.arguments[name]
                    )
            return function(*bound.args, **bound.kwargs)

        if not is_class:
            checked: Any = functools.wraps(function)(call)
            checked.constraints = constraints
            return checked

        @functools.wraps(function)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            call(self, *args, **kwargs)

        # Keras reads the arguments without looking through the wrapper.
        __init__.__signature__ = signature  # type: ignore[attr-defined]
        inherited = getattr(target, "constraints", {})
        for name, value in (
            ("__init__", __init__),
            ("constraints", {**inherited, **constraints}),
        ):
            setattr(target, name, value)
        return target

    return decorate
