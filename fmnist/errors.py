"""The errors that the command line prints as one line instead of a traceback."""


class FmnistError(Exception):
    """A failure that the user can act on. Its text says where, what was found, and what was expected."""

    exit_code = 1


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


def printable(text: str) -> str:
    """Returns a text with everything that is not printable escaped, so that it is one line that moves no cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
