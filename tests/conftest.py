"""Shared by all tests; read before any of them imports TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from hypothesis import settings

# The same examples in every run, whatever failed before, and no time limit: the machine may be busy.
settings.register_profile("reproducible", derandomize=True, database=None, deadline=None, max_examples=50)
settings.load_profile("reproducible")
