"""Errors that a user of the scripts can cause, and their messages."""

import contextlib
import math
from collections.abc import Iterator, Sequence


def flag_of(name: str) -> str:
    """The flag of an attribute of the parsed flags: `--batch-size` of `batch_size`."""
    return f"--{name.replace('_', '-')}"


# Argument of a function of the library -> the flag that sets it.
_FLAGS = {"num_labeled": "--labels", "labeled_indices": "--labeled-indices", "num_validation": "--validation"}
_FLAGS |= {
    name: flag_of(name) for name in ("seed", "beta", "labeled_batch_size", "beta_c", "class_dims", "shared_dims")
}


class UserError(Exception):
    """A mistake of the user. A script prints its message only, without a traceback."""


def check_number(name: str, value: float | None, least: float = 0, *, above: bool = False) -> None:
    """Checks the number that a flag gives. None passes: the flag was not given.

    Args:
        name: Name of the flag as an attribute of the parsed flags.
        value: Its value.
        least: The smallest value that is allowed.
        above: Whether `least` itself is not allowed.

    Raises:
        UserError: When the number is below `least`, infinite or NaN.
    """
    if value is None or (least <= value < math.inf and not (above and value == least)):
        return
    finite = "finite and " if isinstance(value, float) else ""
    raise UserError(f"{flag_of(name)} is {value}; it must be {finite}{'above' if above else 'at least'} {least}.")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises a `UserError` when the value of a flag is not one of `choices`; for flags that a table varies.

    Args:
        name: Name of the flag as an attribute of the parsed flags.
        value: Its value.
        choices: The values that are allowed.
    """
    if value not in choices:
        raise UserError(f"{flag_of(name)} is {value}; it must be one of {', '.join(choices)}.")


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
