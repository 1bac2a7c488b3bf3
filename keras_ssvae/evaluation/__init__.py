"""Figures of a trained model: pure functions of arrays, and a report that runs a model over a test set."""

from keras_ssvae.evaluation.figures import classification_error, kl_divergence
from keras_ssvae.evaluation.reports import report
from keras_ssvae.evaluation.ssim import negative_ssim

__all__ = ["classification_error", "kl_divergence", "negative_ssim", "report"]
