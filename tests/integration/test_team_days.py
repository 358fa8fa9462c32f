"""Weeks of a whole team, decided by the program and by a second statement of the rules, which must agree.

Fixed weeks, and random ones; ``--hypothesis-profile=explore`` tries many more of them.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import made_ledgers
import postgresql_server
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_budgets import LOCAL, Allotment, Asked, Books, Kinds, Used

from immunos_mcp.archive import Archive
from immunos_mcp.domain import JoinKey, PlanUsage
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.of_person import LedgerOfPerson
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.people import People
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from pathlib import Path

    from immunos_mcp.ledger.connections.ledger import Ledger

PLACES = (
    ("Europe/Berlin", datetime(2026, 3, 16, 8, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 19, 8, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 26, 12, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 10, 29, 12, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 12, 12, tzinfo=UTC)),
    ("America/Havana", datetime(2025, 10, 27, 12, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 3, 30, 2, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 20, 2, tzinfo=UTC)),
)
"""Where, and from when on, since clocks change there within three weeks."""

CLAUDES = ("claude-sonnet-4-5", "claude-opus-4-5", "claude-haiku-4-5")
SESSIONS = ("default", "default", "night", "site")
CLASSIFICATIONS = ("routine", "creative", "critical")


class Person(NamedTuple):
    """Somebody of the team, or the CI, which says nothing of itself."""

    name: str
    client: str
    assistant: str | None
    folder: str | None
    models: tuple[str, ...]


TEAM = (
    Person("ana", "claude-code 2.1", "claude-code", "/team/app", CLAUDES),
    Person("ben", "codex-mcp-client 1", "codex", "/team/app/web", ("gpt-5", "gpt-5", LOCAL)),
    Person("cho", "claude-code", "claude-code", "/team/site", (*CLAUDES, "a-model-nobody-knows")),
    Person("dee", "gemini-cli", "gemini", None, ("a-model-nobody-knows", "gpt-5")),
    Person("eva", "codex", "codex", "/team/apples", ("gpt-5", "claude-sonnet-4-5")),
)
NAMES = tuple(person.name for person in TEAM)
CI = Person("ci", "", None, None, ("claude-sonnet-4-5", "gpt-5", LOCAL))


def an_allotment(chance: random.Random, name: str, *, has_people: bool) -> Allotment:
    """Return a budget, of a size that the team may reach; where its people are known, perhaps of theirs."""
    unit = chance.choice(("tokens", "tokens", "usd", "usd", "percent"))
    windows = ("session", "day", "week", "month", "5h", "7d")
    window = chance.choice(windows[4:] if unit == "percent" else windows)
    days = {"week": 7, "month": 30, "7d": 7}.get(window, 1)
    limit = {
        "tokens": chance.choice((30_000, 31_000, 70_000)) * days,
        "usd": chance.choice((1, 2)) * days,
        "percent": chance.choice((50, 100)),
    }[unit]
    whole = unit == "percent"
    switch = chance.choice((90, 100, 50))
    return Allotment(
        name,
        limit,
        unit,
        window,
        min(switch, chance.choice((75, 50, 100))),
        switch,
        days > 1 and chance.random() < 0.4,
        None if whole else chance.choice((None, None, "claude-code", "codex")),
        None if whole else chance.choice((None, None, "/team/app", "/team/app/web")),
        *(("ana", False), (None, True), (None, False), (None, False))[
            chance.randrange(4) if has_people else 3
        ],
    )


class Days:
    """A ledger and the books that are kept beside it, and a clock."""

    def __init__(self, ledger: Ledger, chance: random.Random) -> None:
        zone, self.now = chance.choice(PLACES)
        self.ledger = ledger
        self.chance = chance
        self.books = Books(zone, has_reservations=chance.random() < 0.7)
        self.router = self.router_in(None)
        self.keys = 0
        self.threads: dict[str, int] = {}
        # Each with the person who asked.
        self.decisions: dict[int, str | None] = {}
        self.seen: set[str] = set()
        # Nobody is known in a ledger that is not shared.
        self.books.people = NAMES if chance.random() < 0.7 else ()
        for name in self.books.people:
            run_sync(People(ledger, lambda: self.now).add(name, "member"))
        self.books.bound["site"] = "/team/site"
        run_sync(self.router.bindings.add("/team/site", "site"))
        reservations = "on" if self.books.has_reservations else "off"
        self.set(time_zone=zone, track_record="off", reservations=reservations)
        self.resize()
        for name in ("one", "two", "three"):
            self.add(an_allotment(chance, name, has_people=bool(self.books.people)))

    def router_in(self, folder: str | None, person: str | None = None) -> Router:
        return Router(self.of(person), "default", lambda: self.now, folder=folder)

    def of(self, person: str | None) -> Ledger:
        """Return the ledger as a person has it."""
        if person is None:
            return self.ledger
        return LedgerOfPerson(self.ledger, 1 + self.books.people.index(person))

    def somebody(self) -> str | None:
        return self.chance.choice((None, *self.books.people))

    def set(self, **changes: Any) -> None:
        run_sync(self.router.update_config(changes, "test"))

    def add(self, allotment: Allotment) -> None:
        self.books.allotments[allotment.name] = allotment
        self.books.allotments = dict(sorted(self.books.allotments.items()))
        self.set(budgets=f"{allotment.name}={allotment.text}")

    def live(self, steps: int) -> None:
        moves = (
            *[self.measure] * 8,
            *[self.ask] * 6,
            *[self.ask_at_once] * 2,
            *[self.report] * 2,
            *[self.look] * 2,
            self.close,
            self.grow,
            self.report_plan,
            self.change,
            self.reset,
        )
        for _ in range(steps):
            self.chance.choice(moves)()
            self.wait()
        self.look()
        again = run_sync(Archive(self.ledger, lambda: self.now).replay({}))
        assert (again.decisions, again.changed) == (len(self.decisions), 0)

    def wait(self) -> None:
        """Let time pass: mostly minutes, at times a night, and once in a while the clock is set back."""
        drawn = self.chance.random()
        seconds = self.chance.choice((0, 1, 40, 600, 900, 1500))
        if drawn < 0.12:
            seconds = self.chance.choice((8, 15, 30, 66)) * 3600
        elif drawn < 0.14:
            seconds = -self.chance.choice((1, 1800, 7200))
        self.now += timedelta(seconds=seconds, milliseconds=1)

    def kinds(self) -> Kinds:
        some = self.chance.choice((100, 500, 1000, 3000, 10_000))
        creation = self.chance.choice((0, 0, some))
        return some, self.chance.choice((0, 500, some // 2)), creation, 4 * some

    def thread(self, person: Person) -> str:
        """Return one of a person's conversations; there are few, so that they meet again."""
        return f"{person.name} {self.chance.randint(1, 2)}"

    def response(self, person: Person, key: str, at: datetime) -> Used:
        model = self.chance.choice(person.models)
        kinds = self.kinds()
        if model == "gpt-5":
            kinds = (*kinds[:2], 0, kinds[3])
        whose = "local" if model == LOCAL else "hosted"
        if person.assistant == "claude-code" and model in CLAUDES:
            whose = "claude"
        if person.assistant in self.books.counted and whose == "hosted":
            whose = "hosted" if person.assistant == "claude-code" else "claude"
        hour_long = self.chance.choice((0, 0, kinds[2] // 2, None))
        return Used(
            key, at, model, kinds, whose, hour_long, person.assistant, person.folder, self.thread(person),
            person=person.name if person.name in self.books.people else None,
        )  # fmt: skip

    def measure(self) -> None:
        """Let some responses be read, at times long after they were written."""
        person = self.chance.choice(TEAM)
        used: list[Used] = []
        for _ in range(self.chance.choice((1, 1, 1, 3))):
            self.keys += 1
            late = timedelta(minutes=self.chance.choice((0, 0, 0, 7, 300, 2000)))
            moment = self.now - late + timedelta(milliseconds=len(used))
            used.append(self.response(person, f"m{self.keys}", moment))
        self.read(used)

    def grow(self) -> None:
        """Let a response be read once more, perhaps with more tokens."""
        known = [each for each in self.books.used if each.key in self.seen]
        if known:
            first = self.chance.choice(known[-4:])
            more = self.chance.choice((0, 400))
            used = Used(**{name: getattr(first, name) for name in Used.__slots__})
            used.kinds = (first.kinds[0], first.kinds[1] + more, *first.kinds[2:])
            self.read([used])

    def read(self, used: list[Used]) -> None:
        self.seen |= {each.key for each in used}
        logged = [
            MeasuredUsage(
                each.key,
                each.at,
                each.model,
                *each.kinds,
                folder=each.folder,
                assistant=each.assistant or "",
                conversation=each.thread,
                cache_1h_input_tokens=each.hour_long,
                calls=each.calls,
            )
            for each in used
        ]
        # Whoever reads it again, it stays with whom it was from first.
        reader = used[0].person if self.chance.random() < 0.9 else self.somebody()
        for each in used:
            each.person = reader
        run_sync(self.of(reader).write(ingest, logged))
        self.books.measure(used)

    def ask_at_once(self) -> None:
        """Let several tasks be decided before anything is used."""
        for _ in range(4):
            self.ask()

    def ask(self) -> None:
        person = self.chance.choice((*TEAM, CI))
        estimate = self.chance.choice((None, 0, 1000, 5000, 5000, 20_000, 60_000))
        call = thread = None
        if person.assistant is not None:
            thread = self.thread(person)
            if self.chance.random() < 0.5:
                self.keys += 1
                call = f"call {self.keys}"
        asked = Asked(
            self.chance.choice(SESSIONS),
            self.chance.choice(CLASSIFICATIONS),
            self.chance.random() < 0.3,
            estimate,
            person.assistant,
            person.folder,
            call,
            None if call else thread,
            person.name if person.name in self.books.people else None,
        )
        is_written_first = self.chance.random() < 0.5
        if call is not None and is_written_first:
            self.call(person, call, thread)
        self.decide(person, asked)
        if call is not None and not is_written_first:
            self.now += timedelta(seconds=1)
            self.call(person, call, thread)

    def call(self, person: Person, call: str, thread: str | None) -> None:
        """Let the response be read that asks."""
        self.keys += 1
        used = self.response(person, f"m{self.keys}", self.now)
        used.thread, used.calls = thread, (call,)
        self.read([used])

    def decide(self, person: Person, asked: Asked) -> None:
        routed = run_sync(
            self.router_in(asked.folder, asked.person).decide_task(
                "debug" if asked.is_mapped else "essay",
                asked.classification,
                asked.estimate,
                asked.session,
                client=person.client,
                key=JoinKey(asked.call, asked.thread),
            )
        )
        self.decisions[routed.logged.decision_id] = asked.person
        expected = self.books.ask(asked, routed.logged.decision_id, self.now)
        found = routed.logged.decision
        assert (
            found.reason,
            found.provider == "ollama",
            found.warning_level,
            found.session_tokens,
            found.plan_used_percent,
            found.held_tokens,
            found.reserved_tokens,
        ) == (
            expected.reason,
            expected.is_local,
            expected.level,
            expected.tokens,
            expected.plan,
            expected.held,
            expected.reserved,
        )
        if found.budget is None or found.budget_used_percent is None:
            assert expected.budgets == {}
            return
        assert found.budget in expected.budgets
        share = expected.budgets[found.budget]
        assert abs(Fraction(found.budget_used_percent) - 100 * share) <= Fraction("0.0501")

    def report(self) -> None:
        """Let a client report a response, for a decision or for none."""
        self.keys += 1
        decision = self.chance.choice([*self.decisions][-6:] or [None])
        decision = self.chance.choice((decision, None))
        asker = None if decision is None else self.decisions[decision]
        is_done = decision is not None and self.chance.random() < 0.3
        used = self.response(CI, f"r{self.keys}", self.now)
        used.whose = {LOCAL: "local", "gpt-5": "hosted"}.get(used.model, "claude")
        used.kinds, used.hour_long, used.thread = (*used.kinds[:2], 0, used.kinds[3]), 0, None
        session = self.chance.choice(SESSIONS[:-1])
        # Members report on own decisions only.
        used.person = self.somebody() if asker is None else self.chance.choice((None, asker))
        run_sync(
            self.router_in(None, used.person).record_usage(
                used.model,
                *used.kinds,
                decision_id=decision,
                outcome="success" if is_done else None,
                session=session,
            )
        )
        self.books.report(used, session, decision, is_done)

    def close(self) -> None:
        if self.decisions:
            decision = self.chance.choice([*self.decisions][-6:])
            run_sync(self.router.outcomes.close(decision, "success"))
            self.books.close(decision)

    def report_plan(self) -> None:
        window, length = self.chance.choice((("five_hour", 5), ("seven_day", 168)))
        percent = self.chance.choice((10.0, 49.5, 75.0, 90.0, 100.0))
        resets_at = self.now + timedelta(hours=length * self.chance.choice((0.1, 0.5, 0.9)))
        resets_at = resets_at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        person = self.somebody()
        reporting = self.router_in(None, person)
        run_sync(reporting.record_plan_usage([PlanUsage(window, percent, resets_at)]))
        short = {"five_hour": "5h", "seven_day": "7d"}[window]
        self.books.report_plan(short, Fraction(percent), resets_at, self.now, person)

    def change(self) -> None:
        books, chance = self.books, self.chance
        match chance.choice(
            ("add", "add", "remove", "zone", "weights", "plan", "session", "whose")
        ):
            case "add":
                name = chance.choice(("one", "two", "three", "four"))
                self.add(an_allotment(chance, name, has_people=bool(books.people)))
            case "remove":
                name = chance.choice(("one", "two", "three", "four"))
                books.allotments.pop(name, None)
                self.set(budgets=f"{name}=off")
            case "zone":
                books.zone = chance.choice(PLACES)[0]
                self.set(time_zone=books.zone)
            case "weights":
                read, written = chance.choice((0.0, 0.1)), chance.choice((1.0, 1.25))
                books.weights = ("1", "1", str(written), str(read))
                self.set(cache_read_weight=read, cache_creation_weight=written)
            case "plan":
                warning, switch = chance.choice(((0, 0), (50, 90), (0, 75), (75, 75)))
                books.plan_warning, books.plan_switch = warning, switch
                self.set(plan_warning_percent=warning, plan_auto_switch_percent=switch)
            case "session":
                self.resize()
            case _:
                books.counted = chance.choice((("claude-code",), ("claude-code", "codex")))
                self.set(counted_assistants=",".join(books.counted))

    def resize(self) -> None:
        """Give sessions another limit and other thresholds."""
        books = self.books
        books.limit = self.chance.choice((50_000, 200_000))
        books.switch = self.chance.choice((books.limit, books.limit * 9 // 10))
        books.warning = books.limit * 3 // 4
        self.set(
            session_limit=books.limit,
            token_auto_switch_threshold=books.switch,
            token_warning_threshold=books.warning,
        )

    def reset(self) -> None:
        session = self.chance.choice(SESSIONS)
        run_sync(self.router.reset_session(session=session))
        self.books.reset(session, self.now)

    def look(self) -> None:
        session = self.chance.choice(SESSIONS)
        sitting = self.books.sitting(session, self.now)
        run_sync(self.router.open_session(session))
        person = self.somebody()
        status = run_sync(self.router_in(None, person).get_session_status(session))
        assert status.session_tokens == self.books.session_tokens(sitting)
        shown = {each.name: each for each in status.budgets or ()}
        states = self.books.states(self.now, sitting, person)
        assert list(shown) == list(states)
        for name, state in states.items():
            found = shown[name]
            assert (found.warning_level, bool(found.at_least)) == (state.level, state.is_at_least)
            if state.used is None or found.used is None or found.percent_used is None:
                assert (found.used, found.percent_used, state.used) == (None, None, None)
                continue
            assert abs(Fraction(found.used) - state.used) <= Fraction("0.0000501")
            percent = 100 * state.used / state.allowed
            assert abs(Fraction(found.percent_used) - percent) <= Fraction("0.0501")
            assert (
                found.ends_at is None
                or found.starts_at is None
                or found.starts_at <= self.now < found.ends_at
            )


def live(file: Path, chance: random.Random, steps: int) -> None:
    made_ledgers.put(file, made_ledgers.empty())
    with InlineSqliteLedger(file) as ledger:
        Days(ledger, chance).live(steps)


@pytest.mark.parametrize("seed", [3, 6, 12, 20])
def test_weeks_of_a_team_are_decided_as_the_rules_say(tmp_path: Path, seed: int) -> None:
    live(tmp_path / "ledger.db", random.Random(seed), 150)


few = settings(max_examples=settings.default.max_examples // 30)  # type: ignore[union-attr]


@pytest.mark.postgres
def test_weeks_of_a_team_are_decided_alike_on_postgresql() -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    for seed in (6, 12):
        with InlinePostgresqlLedger(postgresql_server.empty_ledger()) as ledger:
            Days(ledger, random.Random(seed)).live(60)


@few
@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_any_weeks_of_a_team_are_decided_as_the_rules_say(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, steps: int
) -> None:
    live(tmp_path_factory.mktemp("team") / "ledger.db", chance, steps)
