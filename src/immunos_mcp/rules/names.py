"""Names that callers choose: what is accepted, and how it is normalised. Pure."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from immunos_mcp.errors import InvalidInputError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_TASK_TYPE = 64
LONGEST_SESSION_NAME = 64
LONGEST_MODEL_NAME = 200
LONGEST_REQUEST_ID = 200
LONGEST_REASON = 500

TASK_TYPE = f"a task type of 1 to {LONGEST_TASK_TYPE} printable characters, such as code_review"

MODEL_NAME = f"a model name of 1 to {LONGEST_MODEL_NAME} ASCII characters without spaces"

_CAMEL_BOUNDARY = r"(?<=[^\W_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
_SNAKE_CASE = r"[a-z0-9]+(?:_[a-z0-9]+)*"
_MODEL = r"[\x21-\x7e]+"
_RESOLD = (
    r"^(?:.*/)?(?:(?:[a-z0-9-]+\.)*anthropic\.)?(?=claude-)|\[[^]]*\]$|(?<=\d)-v\d+(?::\d+k?)?$"
)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_printable(text: str) -> bool:
    """Return whether text is free of control, format, surrogate, private and unassigned characters."""
    return (text.isascii() and text.isprintable()) or not any(
        unicodedata.category(character) in _INVISIBLE for character in text
    )


def normalise_task_type(text: str, field: str = "task_type") -> str:
    """Return a task type in lower snake case: "Code Review" and "codeReview" are ``code_review``.

    Raises:
        InvalidInputError: the text is empty, too long, or holds invisible characters or no letter.
    """
    if len(text) <= LONGEST_TASK_TYPE:
        if re.fullmatch(_SNAKE_CASE, text):
            return text
        if is_printable(text):
            composed = re.sub(_CAMEL_BOUNDARY, "_", unicodedata.normalize("NFKC", text))
            lowered = unicodedata.normalize("NFKC", composed.lower())
            normalised = "_".join(_runs(lowered))
            if normalised and len(normalised) <= LONGEST_TASK_TYPE:
                return normalised
    raise InvalidInputError(Problem(field, text, TASK_TYPE))


def _runs(text: str) -> Iterator[str]:
    """Yield runs of letters and digits, with the marks that many scripts write vowels with."""
    word = ""
    for character in text:
        if character.isalnum() or (word and unicodedata.category(character).startswith("M")):
            word += character
        elif word:
            yield word
            word = ""
    if word:
        yield word


def check_session_name(text: str, field: str = "session") -> str:
    """Return a session name without surrounding blanks, composed (NFC).

    Raises:
        InvalidInputError: nothing is left, it is too long, or it holds invisible characters.
    """
    return _printable(text, field, LONGEST_SESSION_NAME)


def check_model_name(text: str, field: str = "model") -> str:
    """Return a model name as it is.

    Raises:
        InvalidInputError: it is empty, too long, or holds blanks or anything outside ASCII.
    """
    if len(text) <= LONGEST_MODEL_NAME and re.fullmatch(_MODEL, text):
        return text
    raise InvalidInputError(Problem(field, text, MODEL_NAME))


_LIBRARY = r"^(?:https?://)?registry\.ollama\.ai/(?:library/)?"
_CLOUD = r":(?:.*-)?cloud$"


@lru_cache(maxsize=1024)
def plain_model(model: str) -> str:
    """Return a model's name without the prefix and version of a reseller, and without a window of context.

    Claude's models have other names on Bedrock, Vertex and OpenRouter, and ``[1m]`` in the client.
    """
    return re.sub(_RESOLD, "", model.lower())


@lru_cache(maxsize=1024)
def canonical_model(name: str) -> str:
    """Return the canonical name of a local model: Ollama accepts several for the same model.

    Case does not matter, a missing tag is ``latest``, and Ollama's own registry is left out.
    """
    known = re.sub(_LIBRARY, "", name.strip().lower()).removeprefix("library/")
    path, slash, last = known.rpartition("/")
    if "@" not in last and ":" not in last:
        last = f"{last}:latest"
    return f"{path}{slash}{last}"


def is_cloud_model(name: str) -> bool:
    """Return whether Ollama runs a model in the cloud: ``x:cloud``, ``x:120b-cloud``."""
    return re.search(_CLOUD, canonical_model(name)) is not None


def check_request_id(text: str, field: str = "request_id") -> str:
    """Return a request id without surrounding blanks.

    Raises:
        InvalidInputError: nothing is left, it is too long, or it holds invisible characters.
    """
    return _printable(text, field, LONGEST_REQUEST_ID)


def check_reason(text: str, field: str = "reason") -> str:
    """Return the reason given for a reset, without surrounding blanks.

    Raises:
        InvalidInputError: nothing is left, it is too long, or it holds invisible characters.
    """
    return _printable(text, field, LONGEST_REASON)


def _printable(text: str, field: str, longest: int) -> str:
    if len(text) <= longest and is_printable(text):
        composed = unicodedata.normalize("NFC", text).strip()
        if composed and len(composed) <= longest:
            return composed
    raise InvalidInputError(Problem(field, text, f"1 to {longest} printable characters"))
