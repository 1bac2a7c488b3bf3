"""The systems, one `keras.Model` each."""

from keras_ssvae.models.exon import EXoN

__all__ = ["EXoN"]
