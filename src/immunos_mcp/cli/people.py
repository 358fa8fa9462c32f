"""Commands for people who share a ledger over HTTP: person, token and audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import Answered, limit, on_opened_ledger, whole_number
from immunos_mcp.people import People
from immunos_mcp.rules.roles import Role

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from immunos_mcp.answers.people import AuditEntry, PersonAnswer, TokenAnswer


def _on_people(
    use_case: Callable[[People, Namespace], Coroutine[Any, Any, Answered]],
) -> Callable[[Namespace], int]:
    return on_opened_ledger(
        lambda ledger, given: use_case(People(ledger), given), "the people and tokens"
    )


async def _add_person(people: People, given: Namespace) -> Answered:
    person = await people.add(given.name, given.role)
    hint = f"make a token with `immunos-mcp token create {person.name}`"
    return Answered(person, f"{person.name} is {_article(person.role)} {person.role}; {hint}")


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


async def _disable_person(people: People, given: Namespace) -> Answered:
    person = await people.disable(given.name)
    return Answered(person, f"{person.name} is disabled; servers notice within 30 s")


async def _list_people(people: People, _given: Namespace) -> Answered:
    everybody = await people.all()
    none = "Nobody yet; add a person with `immunos-mcp person add NAME`"
    return Answered(everybody, "\n".join(map(_person, everybody)) or none)


def _person(person: PersonAnswer) -> str:
    disabled = _when(", disabled", person.disabled_at)
    return f"{person.name}: {person.role}, since {_moment(person.created_at)}{disabled}"


async def _create_token(people: People, given: Namespace) -> Answered:
    made = await people.create_token(given.name, given.label, given.days)
    until = _when(" until", made.expires_at) or " until it is revoked"
    lines = (
        made.token,
        "",
        f"This token of {made.person} is shown only now; the ledger has its hash alone.",
        f"It is good{until}: immunos-mcp token revoke {made.token_id}",
    )
    return Answered(made, "\n".join(lines))


async def _revoke_token(people: People, given: Namespace) -> Answered:
    token = await people.revoke_token(given.token)
    text = (
        f"{token.token_id} ({token.person}, {token.label}) is revoked; servers notice within 30 s"
    )
    return Answered(token, text)


async def _list_tokens(people: People, _given: Namespace) -> Answered:
    tokens = await people.tokens()
    none = "No tokens yet; make one with `immunos-mcp token create NAME`"
    return Answered(tokens, "\n".join(map(_token, tokens)) or none)


def _token(token: TokenAnswer) -> str:
    ends = _when(", expires", token.expires_at) + _when(", revoked", token.revoked_at)
    return (
        f"{token.token_id}: {token.person}, {token.label}, since {_moment(token.created_at)}{ends}"
    )


async def _audit(people: People, given: Namespace) -> Answered:
    deeds = await people.audit(given.limit)
    return Answered(deeds, "\n".join(map(_deed, deeds)) or "Nothing yet")


def _deed(deed: AuditEntry) -> str:
    return f"{_moment(deed.at)}  {deed.person or 'at the ledger'}: {deed.action} {deed.detail}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def _when(words: str, moment: datetime | None) -> str:
    return "" if moment is None else f"{words} {_moment(moment)}"


def _add_name(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def _add_person_arguments(parser: ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument(
        "--role",
        choices=[*Role],
        default=Role.MEMBER,
        help="member: may not change the team's budget; lead and admin may (default: member)",
    )


def _add_token_arguments(parser: ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument(
        "--label", default="token", metavar="TEXT", help="what it is for, such as laptop"
    )
    parser.add_argument(
        "--days", type=whole_number, metavar="N", help="days until it expires (default: never)"
    )


def _add_token_id(parser: ArgumentParser) -> None:
    parser.add_argument("token", metavar="ID", help="its id, as `token list` shows it")


def _add_limit(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=limit, default=20, metavar="N")


_PERSON_ACTIONS = (
    Command(
        "add",
        "add a person, or change a role",
        "person add ada --role lead",
        _on_people(_add_person),
        _add_person_arguments,
    ),
    Command(
        "disable",
        "make all tokens of a person invalid",
        "person disable ada",
        _on_people(_disable_person),
        _add_name,
    ),
    Command("list", "show everybody", "person list", _on_people(_list_people)),
)

_TOKEN_ACTIONS = (
    Command(
        "create",
        "make a token for a person and print it once",
        "token create ada --label laptop --days 90",
        _on_people(_create_token),
        _add_token_arguments,
    ),
    Command(
        "revoke",
        "make a token invalid",
        "token revoke 3f2a9c81b0d4",
        _on_people(_revoke_token),
        _add_token_id,
    ),
    Command("list", "show all tokens, without the tokens themselves", "token list", _on_people(_list_tokens)),
)  # fmt: skip

COMMANDS = (
    Command(
        "person",
        "manage who may use the server over HTTP",
        "person list",
        _on_people(_list_people),
        actions=_PERSON_ACTIONS,
    ),
    Command(
        "token",
        "manage tokens for the server over HTTP",
        "token list",
        _on_people(_list_tokens),
        actions=_TOKEN_ACTIONS,
    ),
    Command(
        "audit",
        "list what was done to people, tokens and the team's budget",
        "audit --limit 50",
        _on_people(_audit),
        _add_limit,
    ),
)
