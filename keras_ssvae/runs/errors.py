"""What a user of the scripts can do wrong, and how it is said."""

import contextlib
from collections.abc import Iterator

# Argument of a function of the library -> the flag that sets it.
_FLAGS = {"num_labeled": "--labels", "labeled_indices": "--labeled-indices", "num_validation": "--validation"}
_FLAGS |= {name: f"--{name.replace('_', '-')}" for name in ("seed", "beta", "labeled_batch_size")}


class UserError(Exception):
    """A user's mistake: its message is all that is printed."""


@contextlib.contextmanager
def flags_named(**flags: str) -> Iterator[None]:
    """Turns a `ValueError` of what checks a user's input into a `UserError` that names the flags.

    Args:
        **flags: Argument that the error may name -> its flag, beside those that all experiments have.
    """
    try:
        yield
    except ValueError as error:
        message = str(error)
        for argument, flag in {**_FLAGS, **flags}.items():
            message = message.replace(f"`{argument}`", flag)
        raise UserError(message) from error
