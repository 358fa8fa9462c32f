"""The errors that a user or an assistant can fix.

Anything else that is raised is a bug and is reported as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

ISSUES = "https://github.com/immunos-mcp/immunos-mcp/issues"
"""Where bugs are reported."""

_SHOWN_CHARACTERS = 60


class ImmunosError(Exception):
    """Base of every error whose text is meant for the caller."""


class Problem(Struct, frozen=True):
    """One argument or setting that was rejected.

    Attributes:
        field: name of the argument or setting.
        got: the value as the caller sent it; ``None``: it was missing.
        expected: what would have been accepted, as the end of "must be ...".
        nearest: an accepted value that resembles what was sent.
        message: the whole sentence, where "must be" does not fit.
    """

    field: str
    got: object
    expected: str = ""
    nearest: str | None = None
    message: str | None = None

    def __str__(self) -> str:
        if self.message is not None:
            return self.message
        if self.got is None:
            rest = f"; must be {self.expected}" if self.expected else ""
            return f"{self.field}: is required{rest}"
        hint = "" if self.nearest is None else f"; did you mean {self.nearest!r}?"
        return f"{self.field}: must be {self.expected} (got {shown(self.got)}{hint})"


class InvalidInputError(ImmunosError):
    """The caller's input is invalid; nothing was changed.

    Attributes:
        problems: what is wrong, in the order found.
    """

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))


class NotAllowedError(ImmunosError):
    """The caller may not do this; nothing was changed."""


class InvalidStoredSettingsError(ImmunosError):
    """The ledger holds settings that cannot be used until somebody corrects them."""


class LedgerError(ImmunosError):
    """The ledger cannot be used as it is; the text names the file and the remedy."""


class LedgerBusyError(LedgerError):
    """Another program writes to the ledger for too long."""


class MaybeStoredError(LedgerError):
    """The connection was lost before the database said whether a change was stored."""


class LedgerReplacedError(LedgerError):
    """The ledger's files are no longer those that were opened; nothing was done yet."""


class DelegationError(ImmunosError):
    """A delegated task failed; the text says why and what to do."""


class BadAnswerError(DelegationError):
    """A local model's answer does not stand a check; the text says which, and what to do.

    Attributes:
        fault: what is wrong with the answer.
    """

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(f"{fault}; {remedy}")
        self.fault = fault


class CutAnswerError(BadAnswerError):
    """A local model's answer was cut off, and another model may do better."""


class OutputError(ImmunosError):
    """The output cannot be written; the text says where, why, and what to do."""

    @classmethod
    def of_standard_output(cls, error: OSError) -> OutputError:
        """Return the error for an answer that nobody can read, though its work is done."""
        return cls(
            f"standard output cannot be written ({error.strerror}); everything else was done"
        )


def bug_report(error: BaseException) -> str:
    """Describe an error that nobody expected in one line, with the place to report it."""
    words = " ".join(str(error).split())[:200]
    kind = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return f"internal error ({ascii(kind)[1:-1]}); this is a bug, please report it at {ISSUES}"


def shown(value: object) -> str:
    """Render ``value`` for an error message: one short printable line.

    Control characters, surrogates and invisible characters come out escaped, and long values are
    cut, so that a message never carries more than a line of what was sent.
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str):
        text = ascii(value[: _SHOWN_CHARACTERS + 1])
        length = len(value)
    else:
        try:
            text = repr(value)
        except ValueError:
            # Python does not write integers of more than a few thousand digits.
            return f"a value ({type(value).__name__}) too long to be shown"
        length = len(text)
    if len(text) > _SHOWN_CHARACTERS:
        return f"{text[:_SHOWN_CHARACTERS]}... ({length} characters)"
    return text


def any_of(accepted: Iterable[str]) -> str:
    """Join accepted words into the end of "must be ...": ``on, advise or off``."""
    *most, last = accepted
    return f"{', '.join(most)} or {last}" if most else last


def unknown(field: str, kind: str, got: str, accepted: Iterable[str]) -> Problem:
    """Return the problem of a name that does not exist, with the nearest one that does."""
    known = [*accepted]
    close = nearest(got, known)
    hint = f"known: {', '.join(known) or 'none'}" if close is None else f"did you mean {close}?"
    message = f"unknown {kind} {shown(got)} ({hint})"
    return Problem(field, got, f"one of {', '.join(known)}", close, message)


def nearest(got: object, accepted: Iterable[str]) -> str | None:
    """Return the accepted value that resembles a mistyped one most, if any does."""
    if not isinstance(got, str):
        return None
    from difflib import get_close_matches  # only for errors

    found = get_close_matches(got[:_SHOWN_CHARACTERS].lower(), [*accepted], n=1)
    # The members of an enumeration are shown as their words.
    return str(found[0]) if found else None
