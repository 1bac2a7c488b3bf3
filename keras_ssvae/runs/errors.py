"""What a user of the scripts can do wrong."""


class UserError(Exception):
    """A user's mistake: its message is all that is printed."""
