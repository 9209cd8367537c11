"""Check an installed wheel beside one backend: what a user gets from pip.

Run it with the interpreter of that environment, from any folder other than
the checkout.
"""

import importlib.metadata
import importlib.resources
import os
import sys

import keras
import numpy as np

import keras_mmrel

OPTIONAL = {"jax", "keras_hub", "matplotlib", "tensorflow", "torch"}

backend = keras.config.backend()
checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
package = os.path.dirname(os.path.abspath(keras_mmrel.__file__))
if package == os.path.join(checkout, "keras_mmrel"):
    sys.exit("The check must see the wheel, not the checkout.")

unwanted = (OPTIONAL - {backend}) & set(sys.modules)
if unwanted:
    sys.exit(f"import keras_mmrel loaded {sorted(unwanted)} on {backend}.")

version = importlib.metadata.version("keras-mmrel")
if version != keras_mmrel.__version__:
    sys.exit(f"The wheel says {version}, not {keras_mmrel.__version__}.")
if not importlib.resources.files(keras_mmrel).joinpath("py.typed").is_file():
    sys.exit("The wheel lacks py.typed.")
installed = importlib.metadata.files("keras-mmrel") or []
folders = {file.parts[0] for file in installed if ".dist-info" not in str(file)}
if folders != {"keras_mmrel"}:
    sys.exit(f"The wheel installs {sorted(folders)}, not only keras_mmrel.")

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = {
    "sound": rng.normal(size=(32, 8)).astype("float32"),
    "image": rng.normal(size=(32, 8, 8, 1)).astype("float32"),
}
y = np.arange(32) % 3
model = keras_mmrel.QADMNet(
    modalities={"sound": (8,), "image": (8, 8, 1)}, num_classes=3
)
model.compile()
model.fit(x, y, epochs=1, verbose=0)
outputs = model.predict(x, verbose=0)
if outputs["probabilities"].shape != (32, 3):
    sys.exit(f"predict gave {outputs['probabilities'].shape}, not (32, 3).")
if not all(np.isfinite(value).all() for value in outputs.values()):
    sys.exit("predict gave values that are not finite.")
print(f"keras_mmrel {version} works from its wheel on {backend} alone.")
