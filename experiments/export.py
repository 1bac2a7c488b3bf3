"""Exports a saved model (`model.keras` of a run) as a SavedModel for TensorFlow Serving.

For runs on JAX, which export none: TensorFlow must be installed where this runs, and is used whatever KERAS_BACKEND is.
"""

import argparse
import importlib.util
import os
import sys
import zipfile
from pathlib import Path

if importlib.util.find_spec("tensorflow") is None:
    sys.exit("export.py: error: exporting needs TensorFlow, which is not installed here: pip install tensorflow.")
os.environ["KERAS_BACKEND"] = "tensorflow"
import quiet  # noqa: F401

# isort: split
import keras

import keras_ssvae.models  # noqa: F401  (registers what a saved model refers to)
from keras_ssvae.export import export_saved_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the `.keras` file")
    parser.add_argument(
        "--export-dir",
        type=Path,
        required=True,
        help="where the SavedModel goes, under the next free version number; the directory's name is the model's",
    )
    args = parser.parse_args()
    if not args.model.is_file():
        sys.exit(f"export.py: error: --model {args.model} is no file; it must be a model that Keras saved.")
    try:
        # The optimizer is of no use here, and the biggest part of the file.
        model = keras.models.load_model(args.model, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        sys.exit(f"export.py: error: --model {args.model} cannot be read as a model that Keras saved: {error}.")
    try:
        print(export_saved_model(model, args.export_dir))
    except OSError as error:
        sys.exit(f"export.py: error: {error}")


if __name__ == "__main__":
    main()
