"""Disentanglement scores: how well a representation separates known factors of variation.

Every score takes `latents`, floats of shape (N, d), and `factors`, integers of shape (N, F), with one row for each
image. It is between 0 and 1; higher is better. It does not depend on the order of the images. A seed determines the
draws. About 10,000 images are enough, except for `factor_score`, which needs the whole data set.

A discrete latent variable can be given as coordinates too, but its code matters. A one-hot code spreads one factor over
several coordinates, which lowers `mig`, `sap` and the completeness of `dci`. An index is one coordinate, but its order
has no meaning, so the correlation in `sap` has none either.
"""

from keras_ssvae.evaluation.disentanglement.gaps import mig, sap
from keras_ssvae.evaluation.disentanglement.importances import DCI, dci
from keras_ssvae.evaluation.disentanglement.votes import beta_vae_score, factor_score, factor_vae_score

__all__ = ["DCI", "beta_vae_score", "dci", "factor_score", "factor_vae_score", "mig", "sap"]
