"""Figures of models and their latent spaces: functions that return a `matplotlib.figure.Figure`.

Save a figure with `figure.savefig(path)`. No display is needed, and no global state of matplotlib is touched. In a
notebook a figure that is the last line of a cell is shown.
"""

from keras_ssvae.plots.categories import categories, category_probs, densities, panels
from keras_ssvae.plots.characteristic import diversity, interventions, surface, swap, walk
from keras_ssvae.plots.compared import errors, latent_spaces, paths
from keras_ssvae.plots.decoded import (
    check_is_plane,
    grid,
    image_interpolation,
    images,
    interpolation,
    path,
    reconstructions,
)
from keras_ssvae.plots.dimensions import kl_per_dimension
from keras_ssvae.plots.explained import explanation
from keras_ssvae.plots.history import curves
from keras_ssvae.plots.parted_vae import learned_prior, transfer, traversals
from keras_ssvae.plots.scatters import latent, prior, scatter
from keras_ssvae.plots.subspace import activated_noise, axis_sweep, perturbation, v_nat, v_nat_correlation

__all__ = [
    "activated_noise",
    "axis_sweep",
    "categories",
    "category_probs",
    "check_is_plane",
    "curves",
    "densities",
    "diversity",
    "errors",
    "explanation",
    "grid",
    "image_interpolation",
    "images",
    "interpolation",
    "interventions",
    "kl_per_dimension",
    "latent",
    "latent_spaces",
    "learned_prior",
    "panels",
    "path",
    "paths",
    "perturbation",
    "prior",
    "reconstructions",
    "scatter",
    "surface",
    "swap",
    "transfer",
    "traversals",
    "v_nat",
    "v_nat_correlation",
    "walk",
]
