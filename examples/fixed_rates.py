"""A control of gradient modulation: encoders that learn at fixed rates."""

import keras
from keras import ops

from keras_mmrel.modulations import GradientModulation


@keras.saving.register_keras_serializable(package="examples")
class FixedRates(GradientModulation):
    """Multiply what each encoder learns by a number of its own.

    Args:
        rates: Dict of modality name -> factor, 1 for one that is not there.
        **kwargs: Arguments of `GradientModulation`.
    """

    def __init__(self, rates, **kwargs):
        super().__init__(**kwargs)
        self.rates = dict(rates)

    def compute_coefficients(self, labels, outputs, present):
        factors = [self.rates.get(name, 1.0) for name in self.modality_names]
        return ops.convert_to_tensor(factors, "float32")

    def get_config(self):
        return {**super().get_config(), "rates": self.rates}
