"""Latent spaces of one Gaussian for each class, placed by hand or learned."""

from keras_ssvae.priors.layout import MAX_OVERLAP, from_layout
from keras_ssvae.priors.learned import LearnedMixture
from keras_ssvae.priors.mixture import GaussianMixture, bhattacharyya_coefficients
from keras_ssvae.priors.paper import PAPER_DISTANCE, PAPER_VARIANCE, circle, line, one_hot

__all__ = [
    "MAX_OVERLAP",
    "PAPER_DISTANCE",
    "PAPER_VARIANCE",
    "GaussianMixture",
    "LearnedMixture",
    "bhattacharyya_coefficients",
    "circle",
    "from_layout",
    "line",
    "one_hot",
]
