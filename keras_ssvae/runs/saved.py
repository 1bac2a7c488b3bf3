"""Models that Keras saved, as the scripts take them."""

import zipfile
from pathlib import Path

import keras

from keras_ssvae.runs.errors import UserError


def load_model(file: Path, flag: str = "--model", what: str = "a model that Keras saved") -> keras.Model:
    """Loads a `.keras` file without its optimizer, which is of no use to who does not train.

    Args:
        file: The file.
        flag: That gave it.
        what: It must be this.

    Raises:
        UserError: When it is no file, or cannot be read.
    """
    if not file.is_file():
        raise UserError(f"{flag} {file} is no file; it must be {what}.")
    try:
        return keras.models.load_model(file, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")  # Keras goes on at length
        raise UserError(f"{flag} {file} cannot be read as a model that Keras saved: {reason}.") from error
