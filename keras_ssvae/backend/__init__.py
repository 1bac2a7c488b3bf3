"""The only code that depends on the backend: the gradient step, and kernels that `keras.ops` does not have."""

import importlib
import os

try:
    import keras
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing == "keras":
        raise
    raise ImportError(
        f"Keras could not be imported, since its backend needs {missing!r}, which is not installed here (the "
        f"environment variable KERAS_BACKEND is {os.environ.get('KERAS_BACKEND', 'not set')}). keras_ssvae runs on the "
        "TensorFlow and JAX backends of Keras: install one of them, and set KERAS_BACKEND to tensorflow or jax."
    ) from error

_name = keras.backend.backend()
if _name not in ("tensorflow", "jax"):
    raise ImportError(
        f"keras_ssvae runs on the TensorFlow and JAX backends of Keras; the backend is {_name!r}. Set the environment "
        "variable KERAS_BACKEND to tensorflow or jax."
    )
_backend = importlib.import_module(f"keras_ssvae.backend.{_name}")

# Key in the images of a batch from `data.distribute`. It says that every replica holds the whole batch.
WHOLE_BATCH = "whole_batch"

SEED_DTYPE = _backend.SEED_DTYPE
all_rows = _backend.all_rows
apply_adam = _backend.apply_adam
argmax = _backend.argmax
batch_mean = _backend.batch_mean
batch_normalize = _backend.batch_normalize
categorical_rows = _backend.categorical_rows
clipped_cross_entropy = _backend.clipped_cross_entropy
compiled = _backend.compiled
gradient_step = _backend.gradient_step
inference = _backend.inference
is_symbolic = _backend.is_symbolic
keeps_values = _backend.keeps_values
norm = _backend.norm
normal_rows = _backend.normal_rows
normalize_pool_activate = _backend.normalize_pool_activate
own_rows = _backend.own_rows
replica = _backend.replica
replicas = _backend.replicas
run_step = _backend.run_step
several_steps = _backend.several_steps
sync_state = _backend.sync_state

__all__ = [
    "SEED_DTYPE",
    "WHOLE_BATCH",
    "all_rows",
    "apply_adam",
    "argmax",
    "batch_mean",
    "batch_normalize",
    "categorical_rows",
    "clipped_cross_entropy",
    "compiled",
    "gradient_step",
    "inference",
    "is_symbolic",
    "keeps_values",
    "norm",
    "normal_rows",
    "normalize_pool_activate",
    "own_rows",
    "replica",
    "replicas",
    "run_step",
    "several_steps",
    "sync_state",
]
