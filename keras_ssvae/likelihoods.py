"""Likelihoods `p(x | z)`: the distribution of an image's pixels, given the outputs of a decoder.

Images are `(B, H, W, C)` in [-1, 1], as everywhere in this library. Some likelihoods are densities of pixels in [0, 1];
their docstrings say so. All functions are pure and return nats per example.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_ssvae import losses
from keras_ssvae.distributions import Tensor, as_floatx, gaussian_log_prob


def to_unit(images: Tensor) -> Tensor:
    """Maps pixels from [-1, 1] to [0, 1]."""
    return 0.5 * (images + 1.0)


def from_unit(pixels: Tensor) -> Tensor:
    """Maps pixels from [0, 1] to [-1, 1]."""
    return 2.0 * pixels - 1.0


class Likelihood:
    """Base class of the likelihoods. Given the outputs of the decoder, pixels are independent of each other.

    A subclass defines `log_prob` and `mean`, and `reconstruction` if the papers' term is not `-log_prob`.

    Attributes:
        outputs_per_value: Number of outputs that the decoder needs for each value of an image. If it is 2, the last
            axis holds first C outputs of the first kind, then C of the second.
        takes: The kind of an output, for the check of a decoder: `"logits of pixels"`, `"pixels in [-1, 1]"`, or None
            for another kind, which is not checked.
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
        """The reconstruction term of the papers' objectives, to be minimised, `(B,)`.

        It is `-log p(x | z)` without its constants, or as the subclass says.
        """
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
    """Binary pixels, 0 or 1; the decoder's outputs are the logits of the probability of 1.

    For grey pixels in [0, 1], `log_prob` is the expectation over random binary images whose pixels are 1 with these
    probabilities.

    Args:
        floor: Probabilities are clipped to `[floor, 1 - floor]` inside logarithms. Where they are clipped the gradient
            is 0. VampPrior's code has 1e-5; 0 does not clip.

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
    """Normally distributed pixels in [-1, 1], with the decoder's outputs as means and one common variance.

    `reconstruction` is EXoN's term `|x - D(z)|^2 / 2`, without the variance.

    Args:
        variance: Variance of each pixel: a positive number, or a scalar tensor.
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
    """Normally distributed values; the decoder gives the mean and the variance of each.

    In the last axis of the outputs the means come first, then the logarithms of the variances. Instead of images it
    also accepts rows of features `(B, F)`, as M1+M2 uses them. The density has no upper limit if the decoder can
    predict a value exactly, such as the black border of all images.

    Example:
        >>> HeteroscedasticGaussian().log_prob(features, decoder(z))  # (B, F) and (B, 2 F) -> (B,)
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
    """Laplace distributed pixels in [0, 1], around the sigmoid of the decoder's outputs.

    The method `reconstruction` is PartedVAE's absolute error, without scale and constants. The term `reconstruction`
    that models log is `-log_prob`, with all constants.

    Args:
        scale: Scale of each pixel's distribution, positive.
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
    """Pixels with 256 grey values, which are bins of a logistic distribution on [0, 1].

    `log_prob` is the logarithm of probabilities of the bins, not of a density. In the last axis of the outputs the
    logits of the means come first, then the logarithms of the scales. The means are clipped to [1/512, 1 - 1/512], the
    logarithms of the scales to [-4.5, 0]. The probability of each bin is raised by 1e-7; the probability outside [0, 1]
    belongs to no bin. A pixel of exactly 1 is in the last bin (VampPrior's code has one more bin for it).

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
