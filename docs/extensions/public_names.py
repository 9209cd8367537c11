"""The public names of the library: what stands in an `__all__`."""

import functools
import importlib
import inspect
import types

import keras_mmrel


@functools.cache
def public_packages() -> dict[str, types.ModuleType]:
    """Qualified name -> each package that users import, the root left out."""
    found: dict[str, types.ModuleType] = {}
    waiting = [keras_mmrel]
    while waiting:
        for value in members(waiting.pop()).values():
            if inspect.ismodule(value) and value.__name__ not in found:
                found[value.__name__] = value
                waiting.append(value)
    return dict(sorted(found.items()))


def members(package: types.ModuleType) -> dict[str, object]:
    """Name -> what it names, of an `__all__` and of packages below it."""
    found = {name: getattr(package, name) for name in package.__all__}
    for name, value in vars(package).items():
        below = inspect.ismodule(value) and hasattr(value, "__path__")
        if below and not name.startswith("_") and hasattr(value, "__all__"):
            if value.__name__ == f"{package.__name__}.{name}":
                # `encoders.pretrained` is imported, and not in `__all__`.
                if package is not keras_mmrel:
                    found[name] = value
    return found


@functools.cache
def public_names() -> dict[str, object]:
    """Qualified name -> each public class, function and constant."""
    return {
        f"{package}.{name}": value
        for package, module in public_packages().items()
        for name, value in members(module).items()
        if not inspect.ismodule(value)
    }


def public_name(text: str, packages: tuple[str, ...] = ()) -> str | None:
    """Return which public name a text such as `QADMNet` means, if any.

    Args:
        text: A name with or without its packages, and maybe with those of
            its attribute and arguments.
        packages: Where a short name is looked up first.
    """
    text = text.removesuffix("()")
    known = public_names()
    if text.startswith("keras_mmrel."):
        parts = text.split(".")
        if len(parts) > 1 and parts[1] in dir(keras_mmrel.models):
            # The models are at hand in the root, too.
            parts.insert(1, "models")
        for end in range(len(parts), 1, -1):
            if ".".join(parts[:end]) in known:
                return ".".join(parts[:end])
        return None
    text = ".".join(text.split(".")[:2])
    full = [name for name in known if name.endswith(f".{text}")]
    own = [name for name in full if name.rpartition(".")[0] in packages]
    if own and text != "run":
        return own[0]
    # A short name in lower case may be an ordinary word.
    telling = text[0].isupper() or "_" in text or "." in text
    unique = len(full) == 1 and telling
    return full[0] if unique else None


def exists(text: str) -> bool:
    """Tell whether a dotted name that begins with the package is there."""
    parts = text.removesuffix("()").split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            if not hasattr(value, part):
                return _is_annotated(value, part)
            value = getattr(value, part)
        return True
    return False


def _is_annotated(value: object, name: str) -> bool:
    """Fields of data classes and attributes that `__init__` makes."""
    if not inspect.isclass(value):
        return False
    try:
        source = inspect.getsource(value)
    except OSError:
        return False
    return f"self.{name}" in source or f"    {name}:" in source
