"""Likelihoods `p(x | z)`: what the outputs of a decoder say about the pixels of an image.

Images are `(B, H, W, C)` in [-1, 1], as everywhere in this library; a likelihood states in which range its density is.
The functions are pure and give nats per example.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_ssvae import losses
from keras_ssvae.distributions import Tensor, as_floatx, gaussian_log_prob


def to_unit(images: Tensor) -> Tensor:
    """Pixels in [0, 1] of pixels in [-1, 1]."""
    return 0.5 * (images + 1.0)


def from_unit(pixels: Tensor) -> Tensor:
    """Pixels in [-1, 1] of pixels in [0, 1]."""
    return 2.0 * pixels - 1.0


class Likelihood:
    """Base of the likelihoods: pixels that are independent of each other, given the outputs of the decoder.

    A subclass gives `log_prob` and `mean`, and `reconstruction` where the papers' term is another than `-log_prob`.

    Attributes:
        outputs_per_value: How many outputs the decoder has for each number of an image. Those of several follow each
            other in the last axis: first C of the one kind, then C of the other.
        takes: What an output is, by which a decoder is checked: `"logits of pixels"`, `"pixels in [-1, 1]"`, or None of
            another kind.
    """

    outputs_per_value = 1
    takes: str | None = None

    def log_prob(self, images: Tensor, outputs: Tensor) -> Tensor:
        """`log p(x | z)` with all its constants, summed over pixels: `(B,)`, in nats."""
        raise NotImplementedError

    def mean(self, outputs: Tensor) -> Tensor:
        """The expected images, in [-1, 1]."""
        raise NotImplementedError

    def reconstruction(self, images: Tensor, outputs: Tensor) -> Tensor:
        """The papers' term, to be minimised: `-log p(x | z)` without its constants, `(B,)`."""
        return -self.log_prob(images, outputs)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Likelihood":
        """Builds the likelihood that `get_config` described."""
        return cls(**config)


@keras.saving.register_keras_serializable("keras_ssvae")
class Bernoulli(Likelihood):
    """Pixels in [0, 1] as probabilities of being 1; the outputs are logits.

    It is a distribution of binary images. Of grey pixels `log_prob` is the expectation of that of their binarisations.

    Args:
        floor: In logarithms, probabilities are clipped to `[floor, 1 - floor]`, which takes the gradient away where it
            acts. VampPrior's code has 1e-5; 0 does not clip.

    Example:
        >>> Bernoulli(1e-5).log_prob(images, decoder(z))
    """

    takes = "logits of pixels"

    def __init__(self, floor: float = 0.0):
        if not 0 <= floor < 0.5:
            raise ValueError(f"`floor` is {floor!r}; it must be a probability of at least 0 and below 0.5.")
        self.floor = floor

    def log_prob(self, images: Tensor, outputs: Tensor) -> Tensor:
        return -losses.binary_cross_entropy(to_unit(images), as_floatx(outputs), self.floor)

    def mean(self, outputs: Tensor) -> Tensor:
        return from_unit(ops.sigmoid(as_floatx(outputs)))

    def get_config(self) -> dict[str, Any]:
        return {"floor": self.floor}


@keras.saving.register_keras_serializable("keras_ssvae")
class Gaussian(Likelihood):
    """Pixels in [-1, 1] are normal around the outputs, with one variance; `reconstruction` is EXoN's, `|x - D|^2 / 2`.

    Args:
        variance: Of each pixel: a positive number, or a scalar tensor.
    """

    takes = "pixels in [-1, 1]"

    def __init__(self, variance: float | Tensor = 1.0):
        self.variance = variance if ops.is_tensor(variance) else _positive("variance", variance)

    def log_prob(self, images: Tensor, outputs: Tensor) -> Tensor:
        constant = 0.5 * ops.log(2.0 * math.pi * as_floatx(self.variance)) * math.prod(images.shape[1:])
        return -self.reconstruction(images, outputs) / self.variance - constant

    def mean(self, outputs: Tensor) -> Tensor:
        return as_floatx(outputs)

    def reconstruction(self, images: Tensor, outputs: Tensor) -> Tensor:
        return losses.reconstruction(images, as_floatx(outputs))

    def get_config(self) -> dict[str, Any]:
        return {"variance": self.variance}


@keras.saving.register_keras_serializable("keras_ssvae")
class HeteroscedasticGaussian(Likelihood):
    """Numbers that are normal, each with a mean and a variance that the decoder gives.

    The outputs are first the means, then the logarithms of the variances. It takes rows of features `(B, F)` too, as
    M1+M2 has them. Where a decoder can come as near to a number as it likes, as to the black border of all images, its
    density has no upper limit.

    Example:
        >>> HeteroscedasticGaussian().log_prob(features, decoder(z))  # of (B, F) and (B, 2 F)
    """

    outputs_per_value = 2

    def log_prob(self, images: Tensor, outputs: Tensor) -> Tensor:
        mean, logvar = ops.split(as_floatx(outputs), 2, axis=-1)
        rows, size = ops.shape(images)[0], math.prod(images.shape[1:])
        return gaussian_log_prob(*(ops.reshape(each, (rows, size)) for each in (images, mean, logvar)))

    def mean(self, outputs: Tensor) -> Tensor:
        return ops.split(as_floatx(outputs), 2, axis=-1)[0]


@keras.saving.register_keras_serializable("keras_ssvae")
class Laplace(Likelihood):
    """Pixels in [0, 1] are Laplace distributed around the sigmoid of the outputs.

    `reconstruction` is PartedVAE's absolute error.

    Args:
        scale: Of each pixel, positive.
    """

    takes = "logits of pixels"

    def __init__(self, scale: float = 1.0):
        self.scale = _positive("scale", scale)

    def log_prob(self, images: Tensor, outputs: Tensor) -> Tensor:
        constant = math.log(2.0 * self.scale) * math.prod(images.shape[1:])
        return -self.reconstruction(images, outputs) / self.scale - constant

    def mean(self, outputs: Tensor) -> Tensor:
        return from_unit(ops.sigmoid(as_floatx(outputs)))

    def reconstruction(self, images: Tensor, outputs: Tensor) -> Tensor:
        return losses.absolute_error(to_unit(images), ops.sigmoid(as_floatx(outputs)))

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale}


@keras.saving.register_keras_serializable("keras_ssvae")
class DiscretizedLogistic(Likelihood):
    """The 256 grey values as bins of a logistic distribution on [0, 1]; `log_prob` is of the bins, no density.

    The outputs are first the logits of the mean, which is clipped to [1/512, 1 - 1/512], then the logarithm of the
    scale, clipped to [-4.5, 0]. The mass of each bin is raised by 1e-7, and what lies beyond [0, 1] is in none. A pixel
    of exactly 1 is in the last bin; VampPrior's code has a bin of its own for it.

    Reference:
        Kingma et al.: Improving variational inference with inverse autoregressive flow, 2016; as in VampPrior's code.
    """

    outputs_per_value = 2

    def log_prob(self, images: Tensor, outputs: Tensor) -> Tensor:
        mean, log_scale = self._parameters(outputs)
        return -losses.discretized_logistic(to_unit(images), mean, log_scale)

    def mean(self, outputs: Tensor) -> Tensor:
        return from_unit(self._parameters(outputs)[0])

    def _parameters(self, outputs):
        logits, log_scale = ops.split(as_floatx(outputs), 2, axis=-1)
        half_a_bin = 1.0 / 512.0
        return ops.clip(ops.sigmoid(logits), half_a_bin, 1.0 - half_a_bin), ops.clip(log_scale, -4.5, 0.0)


def _positive(name, value):
    if not 0 < value < math.inf:
        raise ValueError(f"`{name}` is {value!r}; it must be a positive number.")
    return float(value)
