"""Binary images that a model draws from grey ones, anew at each training step."""

from keras_ssvae.checks import check_switch
from keras_ssvae.distributions import Tensor, as_floatx
from keras_ssvae.likelihoods import Bernoulli, Likelihood, from_unit, to_unit


def check_likelihood(likelihood: Likelihood, binarize: bool) -> None:
    """Raises ValueError unless it is a likelihood, and a Bernoulli one if images are binarized."""
    if not isinstance(likelihood, Likelihood):
        raise ValueError(f"`likelihood` is {likelihood!r}; it must be one of `keras_ssvae.likelihoods`.")
    check_switch("binarize", binarize)
    if binarize and not isinstance(likelihood, Bernoulli):
        raise ValueError(
            f"`binarize` is {binarize!r} with a {type(likelihood).__name__} likelihood; binary images are for a "
            "Bernoulli likelihood. Set `binarize=False`."
        )


def binary_images(images: Tensor, uniform: Tensor) -> Tensor:
    """Draws images of black (-1) and white (1) pixels. The grey value, scaled to [0, 1], is the probability of white.

    Args:
        images: `(B, H, W, C)` in [-1, 1].
        uniform: Uniform numbers in [0, 1), of the same shape.
    """
    return from_unit(as_floatx(uniform < to_unit(images)))
