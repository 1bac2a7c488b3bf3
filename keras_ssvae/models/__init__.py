"""The systems. Each is a `keras.Model`."""

# Registers the classes that a saved model refers to, so that `keras.models.load_model` finds them.
from keras_ssvae import optimizers, schedules  # noqa: F401
from keras_ssvae.models.beta_vae import BetaVAE
from keras_ssvae.models.cp_vae import CPVAE
from keras_ssvae.models.cvae import CVAE
from keras_ssvae.models.exon import EXoN
from keras_ssvae.models.explanation import Explanation
from keras_ssvae.models.hvae import HVAE
from keras_ssvae.models.kingma import M1, M1M2, M2
from keras_ssvae.models.m3 import M3
from keras_ssvae.models.nvae import NVAE
from keras_ssvae.models.parted_vae import PartedVAE
from keras_ssvae.models.revae import REVAE
from keras_ssvae.models.vae import VAE

__all__ = [
    "CPVAE",
    "CVAE",
    "HVAE",
    "M1",
    "M1M2",
    "M2",
    "M3",
    "NVAE",
    "REVAE",
    "VAE",
    "BetaVAE",
    "EXoN",
    "Explanation",
    "PartedVAE",
]
