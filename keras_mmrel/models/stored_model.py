from typing import Any

from keras_mmrel import _exporting
from keras_mmrel.contract import MASK
from keras_mmrel.models import _quantization
from keras_mmrel.models import _saving
from keras_mmrel.models.checked_model import CheckedModel


class StoredModel(CheckedModel):
    """A model that is kept whole: in files, exported, quantised.

    A file that cannot be written or read is refused in one sentence, and
    what a run needs to go on (the states of random numbers) is in it.
    """

    @classmethod
    def load(cls, path: Any, **kwargs: Any) -> "StoredModel":
        """Load a `.keras` file and make sure that it holds this class.

        `keras.saving.load_model` loads the same file; this adds the check
        and says in one sentence what is wrong with a damaged file.

        Args:
            path: The `.keras` file.
            **kwargs: Arguments of `keras.saving.load_model`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged.
            TypeError: If it holds a model of another class.
        """
        return _saving.load_model(cls, path, **kwargs)

    def save(
        self, filepath: Any, overwrite: bool = True, zipped: Any = None
    ) -> None:
        if zipped is not False:
            _saving.check_target(filepath, ".keras")
        super().save(filepath, overwrite=overwrite, zipped=zipped)

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        modality_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the model as a file that runs without Keras.

        Inputs and outputs have the names that they have in Python; a part of
        a modality of several tensors is called `modality_part`. Any number of
        samples may come at a time. A modality whose values are NaN counts as
        missing, as everywhere.

        Args:
            filepath: A folder for a SavedModel, else a file with the ending
                of its format: `.onnx`, `.xml` (OpenVINO), `.tflite` (LiteRT)
                or `.pt2` (PyTorch).
            format: `"tf_saved_model"`, `"onnx"`, `"openvino"`, `"litert"` or
                `"torch"`. Which of them a backend can write is up to Keras.
            modality_mask: Whether `"modality_mask"` is an input, one that has
                to be given. In an ONNX file it always is, and may be left
                out: then all modalities are present. Where it is an input of
                an ONNX or OpenVINO file, the output is called
                `"modality_mask_used"`.
            **kwargs: Arguments of `keras.Model.export`.

        Raises:
            ValueError: If an argument is none of those, or the model is not
                built.
            ImportError: If a package lacks that writes the format.
            RuntimeError: If OpenVINO would compute other numbers than the
                model.

        Example:

        ```python
        model.export("model.onnx", format="onnx")
        session = onnxruntime.InferenceSession("model.onnx")
        logits, = session.run(["logits"], {"audio": audio, "image": image})
        ```
        """
        _exporting.check(self, filepath, format, modality_mask)
        _exporting.export(
            self,
            self.modality_shapes,
            filepath,
            format,
            {MASK: _exporting.mask_of(len(self.modality_names))},
            [MASK] if modality_mask else [],
            **kwargs,
        )

    def quantize(self, mode: Any = None, **kwargs: Any) -> None:
        """Quantise the layers that can be, as `keras.Model.quantize` does.

        Those are `Dense`, `EinsumDense` and `Embedding`; a warning says how
        many weights are left as they were. A saved model is quantised when it
        is loaded.

        Args:
            mode: `"int8"`, `"int4"` or `"float8"`.
            **kwargs: Arguments of `keras.Model.quantize`.
        """
        keras_quantize = super().quantize
        _quantization.quantize(self, lambda: keras_quantize(mode, **kwargs))

    def save_weights(
        self, filepath: Any, overwrite: bool = True, **kwargs: Any
    ) -> None:
        ending = ".weights.json" if kwargs.get("max_shard_size") else ""
        _saving.check_target(filepath, ending or ".weights.h5")
        super().save_weights(filepath, overwrite=overwrite, **kwargs)

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        load = super().load_weights
        _saving.load_weights(
            self, filepath, lambda: load(filepath, *args, **kwargs)
        )

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        _saving.save_seed_states(self, store)

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(_saving.load_seed_states(self, store))
