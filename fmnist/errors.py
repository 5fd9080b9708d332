"""The errors that the command line prints as one line instead of a traceback."""

from __future__ import annotations

import os
import re


class FmnistError(Exception):
    """A failure that the user can act on. Its text says where, what was found, and what was expected."""

    exit_code = 1

    def __str__(self) -> str:
        return redacted(super().__str__())


class UserError(FmnistError):
    """Wrong input or configuration: nothing has been written, and the same call will fail again."""

    exit_code = 2


class DataError(UserError):
    """A data source that is missing, incomplete or malformed."""


class StoreError(UserError):
    """An artifact store that cannot be reached, read or written."""


class RunError(UserError):
    """A run id that is taken, unknown, unfinished, or started with other settings."""


class IntegrityError(FmnistError):
    """A run folder whose files differ from its manifest."""


class LeaseError(FmnistError):
    """A run that another process has taken over: this one changes nothing more of it."""


class TrainingError(FmnistError):
    """Training that cannot continue, such as a loss that is no longer finite."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text, or its type's name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def one_line(error: BaseException) -> str:
    """Returns an error's whole text in one line, or its type's name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(text: str) -> str:
    """Returns a text without secrets, with all that is not printable escaped: it is one line and moves no cursor."""
    return escaped(redacted(text))


def escaped(text: str) -> str:
    """Returns a text with all that is not printable escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


HIDDEN = "***"
# Names of variables, but of those that say where a secret is.
_SECRET_NAME = re.compile(
    r".*(SECRET|PASSW|TOKEN|CREDENTIAL|API_?KEY)(?!.*(FILE|PATH|DIR|MODE|UR[IL])$)", re.IGNORECASE
)
# user:password@ of an address; a password may have slashes.
_USER = re.compile(r"(:/{1,3})(?:[^\s/@:]+:\S*|[^\s/@]+)@")
_PARAMETER = re.compile(r"(?<=[?&;])([\w.%-]+=)[^\s&;#'\"]+")


def redacted(text: str) -> str:
    """Returns a text without secrets: passwords and parameters of addresses, and those that the environment has."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.match(name):
            text = text.replace(value, HIDDEN)
    if ":/" not in text:
        return text
    return _PARAMETER.sub(rf"\g<1>{HIDDEN}", _USER.sub(rf"\g<1>{HIDDEN}@", text))
