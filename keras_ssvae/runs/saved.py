"""Loading of saved Keras models that a flag of a script names."""

import zipfile
from pathlib import Path

import keras

from keras_ssvae.runs.errors import UserError


def load_model(file: Path, flag: str = "--model", what: str = "a model that Keras saved") -> keras.Model:
    """Loads a `.keras` file for inference, without its optimizer.

    Args:
        file: The file.
        flag: The flag that named the file, for error messages.
        what: Description of the file that is needed, for error messages.

    Raises:
        UserError: When the file does not exist or cannot be read.
    """
    if not file.is_file():
        raise UserError(f"{flag} {file} is no file; it must be {what}.")
    try:
        return keras.models.load_model(file, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")  # Keras' messages are long
        raise UserError(f"{flag} {file} cannot be read as a model that Keras saved: {reason}.") from error
