"""Export of a trained model as a SavedModel for TensorFlow Serving."""

from keras_ssvae.export.saved_model import NEEDS_TENSORFLOW, export_saved_model, next_version, write_warmup_requests

__all__ = ["NEEDS_TENSORFLOW", "export_saved_model", "next_version", "write_warmup_requests"]
