"""What an attempt may end in beside a result: an error that says what is wrong."""

from __future__ import annotations


class RefusalError(Exception):
    """The expected error of an attempt."""


class WrongError(AssertionError):
    """Something that must not happen, although nothing crashed."""


def one_line(error: Exception) -> str:
    """The message of an error for users.

    Raises:
        WrongError: It is empty, or more than one line.
    """
    message = str(error)
    if not message.strip() or "\n" in message.strip():
        raise WrongError(f"{type(error).__name__} is not one line: {message!r}")
    return message
