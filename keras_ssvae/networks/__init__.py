"""The networks of the papers: one file per system, one function per table."""

from keras_ssvae.networks import exon, kingma, layers, parted_vae, revae, vae

__all__ = ["exon", "kingma", "layers", "parted_vae", "revae", "vae"]
