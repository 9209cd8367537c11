"""Optional packages: loaded where they are used, named where they lack."""

import importlib
from types import ModuleType

# Module -> the name of its package, and the extra that brings it.
PACKAGES = {
    "PIL": ("Pillow", "media"),
    "av": ("PyAV", "media"),
    "h5py": ("h5py", "data"),
    "keras_hub": ("keras-hub", "hub"),
    "matplotlib": ("matplotlib", "report"),
    "onnx": ("ONNX", "export"),
    "openvino": ("OpenVINO", "export"),
    "pandas": ("pandas", "report"),
    "rdata": ("rdata", "data"),
    "scipy": ("SciPy", "data"),
    "sklearn": ("scikit-learn", "data"),
    "soundfile": ("soundfile", "media"),
    "tensorflow_io": ("tensorflow-io", "tensorflow-io"),
    "tokenizers": ("tokenizers", "pretrained"),
    "yaml": ("PyYAML", "report"),
}


def require(module: str, user: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Args:
        module: Name of the module, a submodule maybe.
        user: What needs it, for the message.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name, extra = PACKAGES[module.partition(".")[0]]
        raise ImportError(
            f"`{user}` needs {name}: `pip install keras-mmrel[{extra}]`"
        ) from error
