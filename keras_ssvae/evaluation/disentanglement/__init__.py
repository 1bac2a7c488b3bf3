"""Scores of a representation against known factors of variation.

Every score takes `latents`, floats of shape (N, d), and `factors`, integers of shape (N, F), one row for each image,
and is between 0 and 1, the higher the better. Nothing depends on the order of the images. Draws are made by a seed;
for all but `factor_score`, which uses a whole data set, some 10,000 images are enough.

A discrete latent variable can be given as coordinates too, but think of what it then counts as: a one-hot code spreads
one factor over several coordinates, for which `mig`, `sap` and the completeness of `dci` go down; as an index it is one
coordinate, whose order means nothing to `sap`'s correlation.
"""

from keras_ssvae.evaluation.disentanglement.gaps import mig, sap
from keras_ssvae.evaluation.disentanglement.importances import DCI, dci
from keras_ssvae.evaluation.disentanglement.votes import beta_vae_score, factor_score, factor_vae_score

__all__ = ["DCI", "beta_vae_score", "dci", "factor_score", "factor_vae_score", "mig", "sap"]
