"""What PyTorch wants to know of a model that is exported by it."""

from typing import Any

import keras


def free_batch(signature: Any) -> Any:
    """Dynamic shapes by which any number of samples may come."""
    import torch

    batch = torch.export.Dim("batch", min=1)
    return keras.tree.map_structure(lambda spec: {0: batch}, signature)
