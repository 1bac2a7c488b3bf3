"""Metrics of a trained model: pure functions of arrays, and a report that runs a model over a test set.

A metric is a number; a figure is a picture, which `keras_ssvae.plots` draws.
"""

from keras_ssvae.evaluation.categories import (
    CategoryOverlap,
    CategoryUse,
    category_overlap,
    category_probs_by_label,
    category_use,
    clusters,
    likeliest_categories,
)
from keras_ssvae.evaluation.clustering import ClusterAccuracy, cluster_accuracy
from keras_ssvae.evaluation.dimensions import kl_per_dimension, variance_share_of_classes
from keras_ssvae.evaluation.disentanglement import (
    DCI,
    beta_vae_score,
    dci,
    factor_score,
    factor_vae_score,
    mig,
    sap,
)
from keras_ssvae.evaluation.frechet import FrechetDistance, frechet_distance
from keras_ssvae.evaluation.generation import Generation, conditional_generation
from keras_ssvae.evaluation.inception import (
    ClassifierUnavailableError,
    InceptionScore,
    inception_score,
    inception_score_from_probs,
    load_classifier,
    sample_classes,
)
from keras_ssvae.evaluation.information import KLDecomposition, kl_decomposition, kl_gaussian_bounds
from keras_ssvae.evaluation.likelihood import NLL, nll
from keras_ssvae.evaluation.metrics import activated, changes, classification_error, kl_divergence, v_nat
from keras_ssvae.evaluation.placement import Places, places
from keras_ssvae.evaluation.reports import report
from keras_ssvae.evaluation.ssim import negative_ssim

__all__ = [
    "DCI",
    "NLL",
    "CategoryOverlap",
    "CategoryUse",
    "ClassifierUnavailableError",
    "ClusterAccuracy",
    "FrechetDistance",
    "Generation",
    "InceptionScore",
    "KLDecomposition",
    "Places",
    "activated",
    "beta_vae_score",
    "category_overlap",
    "category_probs_by_label",
    "category_use",
    "changes",
    "classification_error",
    "cluster_accuracy",
    "clusters",
    "conditional_generation",
    "dci",
    "factor_score",
    "factor_vae_score",
    "frechet_distance",
    "inception_score",
    "inception_score_from_probs",
    "kl_decomposition",
    "kl_divergence",
    "kl_gaussian_bounds",
    "kl_per_dimension",
    "likeliest_categories",
    "load_classifier",
    "mig",
    "negative_ssim",
    "nll",
    "places",
    "report",
    "sample_classes",
    "sap",
    "v_nat",
    "variance_share_of_classes",
]
