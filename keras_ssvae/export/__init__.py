"""Export of a trained model as a SavedModel for TensorFlow Serving.

`NEEDS_TENSORFLOW` is the message of the error on other backends than TensorFlow.
"""

from keras_ssvae.export.saved_model import NEEDS_TENSORFLOW, export_saved_model, next_version, write_warmup_requests

__all__ = ["NEEDS_TENSORFLOW", "export_saved_model", "next_version", "write_warmup_requests"]
