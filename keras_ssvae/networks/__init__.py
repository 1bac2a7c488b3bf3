"""The networks of the papers: one module per system, one function per network of a table."""

from keras_ssvae.networks import cp_vae, exon, hvae, kingma, layers, nvae, parted_vae, revae, vae

__all__ = ["cp_vae", "exon", "hvae", "kingma", "layers", "nvae", "parted_vae", "revae", "vae"]
