"""Noise inside modalities of samples whose modalities do not fit: both."""

from keras_mmrel.corruptions import Corruption
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import UnalignedSamples

FRACTION = 0.3


class CoexistingNoise(Corruption):
    """Gaussian noise σ, and modalities of other samples.

    Every modality that is no `target` of the noise may still be, with
    probability 0.3, that of another sample.
    """

    def _parts(self):
        yield GaussianNoise(self.severity, self.target, self.probability)
        yield UnalignedSamples(1.0, "independent", FRACTION)

    def __call__(self, inputs, seed=0, labels=None):
        for part in self._parts():
            inputs = part(inputs, seed)
        return inputs

    def corrupted(self, inputs, seed=0, labels=None):
        noisy, unaligned = (p.corrupted(inputs, seed) for p in self._parts())
        return noisy | unaligned
