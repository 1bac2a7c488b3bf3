"""Binary images that a model draws of grey ones, at each step of its training."""

from keras_ssvae.distributions import Tensor, as_floatx
from keras_ssvae.likelihoods import Bernoulli, Likelihood, from_unit, to_unit


def check_likelihood(likelihood: Likelihood, binarize: bool) -> None:
    """Raises ValueError for what is no likelihood, and where binary images are for another one than a Bernoulli's."""
    if not isinstance(likelihood, Likelihood):
        raise ValueError(f"`likelihood` is {likelihood!r}; it must be one of `keras_ssvae.likelihoods`.")
    if binarize and not isinstance(likelihood, Bernoulli):
        raise ValueError(
            f"`binarize` is {binarize!r} with a {type(likelihood).__name__} likelihood; binary images are for a "
            "Bernoulli likelihood. Set `binarize=False`."
        )


def binary_images(images: Tensor, uniform: Tensor) -> Tensor:
    """Images in [-1, 1] of black and white pixels, each white with the probability that the given pixel says.

    Args:
        images: In [-1, 1].
        uniform: Uniform numbers in [0, 1), of the same shape.
    """
    return from_unit(as_floatx(uniform < to_unit(images)))
