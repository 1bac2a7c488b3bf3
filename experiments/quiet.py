"""Import this first: it hides what TensorFlow's libraries print to stderr while they load, at any log level.

It lies beside the scripts, not in the package: each import from the package also imports Keras, with which it registers
its models for `keras.models.load_model`, and this module must come before Keras.

On JAX it keeps TensorFlow out even if that is installed. Otherwise Keras would load it for a seed or to save a model.
"""

import os
import signal
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# One more than the cores: some kernels use a single core, and another operation fills the gap (3 % of a step).
os.environ.setdefault("TF_NUM_INTEROP_THREADS", str((os.cpu_count() or 1) + 1))

_stderr = os.dup(2)


def _interrupted(signum, frame):
    # No exception: one that is raised in the middle of an import is swallowed or turned into others.
    os.write(_stderr, b"\nInterrupted before anything was read or written.\n")
    os._exit(130)


_handler = signal.signal(signal.SIGINT, _interrupted)
with tempfile.TemporaryFile() as _greetings:
    os.dup2(_greetings.fileno(), 2)
    try:
        import keras

        if keras.backend.backend() == "jax":
            sys.modules["tensorflow"] = None  # importing it fails as if it were not installed
    except BaseException:
        _greetings.seek(0)
        os.write(_stderr, _greetings.read())
        raise
    finally:
        sys.stderr.flush()
        os.dup2(_stderr, 2)
        signal.signal(signal.SIGINT, _handler)
        os.close(_stderr)
