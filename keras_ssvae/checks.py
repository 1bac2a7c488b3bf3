"""What an integer is, in one place: Python's and NumPy's are, booleans are not."""

import numbers


def is_integer(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy, and no boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_whole_number(name: str, value: object, minimum: int) -> int:
    """Returns the argument `name` as Python's integer; a `ValueError` unless it is one of at least `minimum`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"`{name}` is {value!r}. It must be an integer of at least {minimum}.")
    return int(value)
