"""Priors of the latent space: the standard normal, and Gaussian mixtures that are designed, learned or encoded.

Constants:

* `PAPER_VARIANCE`: the variance of each component in EXoN's priors for MNIST, in each dimension.
* `PAPER_DISTANCE`: the distance between the centres of neighbours in these priors: four standard deviations.
* `MAX_OVERLAP`: the largest Bhattacharyya coefficient of two components that `from_layout` accepts without a warning.
  Neighbours on EXoN's circle have 0.135.
"""

from keras_ssvae.priors.base import Prior
from keras_ssvae.priors.conditional import ConditionalMixture
from keras_ssvae.priors.layout import MAX_OVERLAP, from_layout
from keras_ssvae.priors.learned import LearnedMixture
from keras_ssvae.priors.mixture import GaussianMixture, bhattacharyya_coefficients
from keras_ssvae.priors.normal import StandardNormal
from keras_ssvae.priors.paper import PAPER_DISTANCE, PAPER_VARIANCE, circle, line, one_hot
from keras_ssvae.priors.vampprior import VampPrior

__all__ = [
    "MAX_OVERLAP",
    "PAPER_DISTANCE",
    "PAPER_VARIANCE",
    "ConditionalMixture",
    "GaussianMixture",
    "LearnedMixture",
    "Prior",
    "StandardNormal",
    "VampPrior",
    "bhattacharyya_coefficients",
    "circle",
    "from_layout",
    "line",
    "one_hot",
]
