"""Exports a saved model (`model.keras` of a run) as a SavedModel for TensorFlow Serving.

It is meant for runs on JAX, which export no SavedModel. It needs TensorFlow, and uses it whatever KERAS_BACKEND is.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

if importlib.util.find_spec("tensorflow") is None:
    sys.exit("export.py: error: exporting needs TensorFlow, which is not installed here: pip install tensorflow.")
os.environ["KERAS_BACKEND"] = "tensorflow"
import quiet  # noqa: F401

# isort: split
from keras_ssvae.export import export_saved_model
from keras_ssvae.models.base import BaseVAE
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.saved import load_model
from keras_ssvae.runs.script import script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="file of the model, `.keras`")
    parser.add_argument(
        "--export-dir",
        type=Path,
        required=True,
        help="directory for the SavedModel, which gets the next free version number; TensorFlow Serving calls the "
        "model by the name of this directory",
    )
    args = parser.parse_args()
    script(lambda: export(args))


def export(args: argparse.Namespace) -> None:
    model = load_model(args.model)
    if not isinstance(model, BaseVAE):
        raise UserError(
            f"--model {args.model} is a {type(model).__name__}; it must be a model of `keras_ssvae.models`."
        )
    print(export_saved_model(model, args.export_dir))


if __name__ == "__main__":
    main()
