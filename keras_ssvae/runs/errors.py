"""Errors that a user of the scripts can cause, and their messages."""

import contextlib
from collections.abc import Iterator

# Argument of a function of the library -> the flag that sets it.
_FLAGS = {"num_labeled": "--labels", "labeled_indices": "--labeled-indices", "num_validation": "--validation"}
_FLAGS |= {
    name: f"--{name.replace('_', '-')}"
    for name in ("seed", "beta", "labeled_batch_size", "beta_c", "class_dims", "shared_dims")
}


class UserError(Exception):
    """A mistake of the user. A script prints its message only, without a traceback."""


@contextlib.contextmanager
def flags_named(**flags: str) -> Iterator[None]:
    """Turns a `ValueError` about an argument into a `UserError` about the flag that sets this argument.

    Args:
        **flags: Name of an argument -> its flag. Those that all experiments have are known.
    """
    try:
        yield
    except ValueError as error:
        message = str(error)
        for argument, flag in {**_FLAGS, **flags}.items():
            message = message.replace(f"`{argument}`", flag)
        raise UserError(message) from error
