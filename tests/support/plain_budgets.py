"""The rules of budgets and reservations stated a second time, from the documentation alone.

Nothing is stored that could be worked out, and everything is worked out again for each question: each day is
found by looking at the clocks of the day before, each sum by adding up all that was ever used. Amounts are
fractions. None of the program's code is used here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

Kinds = tuple[int, int, int, int]
"""Input, output, written to the cache, read from the cache."""

DOLLARS = {  # of a million tokens of each kind, and of what the cache keeps for an hour
    "claude-sonnet-4-5": ("3", "15", "3.75", "0.3", "6"),
    "claude-opus-4-5": ("5", "25", "6.25", "0.5", "10"),
    "claude-haiku-4-5": ("1", "5", "1.25", "0.1", "2"),
    "gpt-5": ("1.25", "10", "0", "0.125", "0"),
}
LOCAL = "qwen2.5-coder:7b"
NORMAL, WARNING, CRITICAL = "normal", "warning", "critical"
LENGTHS = {"5h": timedelta(hours=5), "7d": timedelta(days=7)}


class Allotment(NamedTuple):
    """A budget; its limit is in tokens, dollars or percent."""

    name: str
    limit: int
    unit: str
    window: str
    warn: int = 75
    switch: int = 90
    is_spread: bool = False
    assistant: str | None = None
    folder: str | None = None
    person: str | None = None
    is_each: bool = False

    @property
    def text(self) -> str:
        """The budget as a user writes it."""
        words = [f"{self.limit} {self.unit}/{self.window} warn {self.warn} switch {self.switch}"]
        words += ["spread"] if self.is_spread else []
        words += [f"by {self.assistant}"] if self.assistant else []
        words += [f"of {self.person}"] if self.person else []
        words += ["each"] if self.is_each else []
        words += [f"in {self.folder}"] if self.folder else []
        return " ".join(words)


@dataclass(slots=True)
class Used:
    """One response; ``whose`` is claude, hosted or local."""

    key: str
    at: datetime
    model: str
    kinds: Kinds
    whose: str
    hour_long: int | None = 0
    assistant: str | None = None
    folder: str | None = None
    thread: str | None = None
    calls: tuple[str, ...] = ()
    sitting: Sitting | None = None
    person: str | None = None


@dataclass(slots=True)
class Sitting:
    """A session from its start to its end; only its folder's usage counts where it has one.

    It begins at zero: ``known`` is what had been read by then, which a clock that was set back may have
    dated later.
    """

    name: str
    known: dict[str, Kinds]
    began: datetime
    ended: datetime | None = None
    folder: str | None = None


@dataclass(slots=True)
class Hold:
    """A reservation."""

    decision: int
    sitting: Sitting
    tokens: int
    at: datetime
    until: datetime
    call: str | None
    thread: str | None
    person: str | None


class State(NamedTuple):
    """How far a budget is used: in its unit, of what is allowed now (``None``: nobody knows), and its level."""

    used: Fraction | None
    allowed: Fraction
    level: str
    is_at_least: bool

    @property
    def share(self) -> Fraction:
        """What is used of what is allowed; less than nothing where nobody knows."""
        return Fraction(-1) if self.used is None else self.used / self.allowed


class Asked(NamedTuple):
    """A task, and who asks for it."""

    session: str
    classification: str = "creative"
    is_mapped: bool = False
    estimate: int | None = None
    assistant: str | None = None
    folder: str | None = None
    call: str | None = None
    thread: str | None = None
    person: str | None = None


class Expected(NamedTuple):
    """What must be decided; of equally full budgets any may be named."""

    reason: str
    is_local: bool
    level: str
    tokens: int
    plan: Fraction | None
    budgets: dict[str, Fraction]
    held: int | None
    reserved: int | None


@cache
def day_of(moment: datetime, zone: ZoneInfo) -> date:
    """Return the day that a moment belongs to: the latest that a clock there has shown by then.

    So a day does not begin again where a clock is set back past midnight.
    """
    quarters = [moment - timedelta(minutes=15 * count) for count in range(96)]
    return max(each.astimezone(zone).date() for each in quarters)


def is_inside(folder: str | None, outer: str) -> bool:
    """Return whether a folder is another one or below it."""
    if folder is None:
        return False
    parts, outer_parts = folder.split("/"), outer.split("/")
    return parts[: len(outer_parts)] == outer_parts


@dataclass
class Books:
    """All that ever happened, and what follows from it."""

    zone: str = "UTC"
    weights: tuple[str, str, str, str] = ("1", "1", "1", "0")
    warning: int = 150_000
    switch: int = 180_000
    limit: int = 200_000
    plan_warning: int = 0
    plan_switch: int = 0
    has_reservations: bool = False
    minutes: int = 30
    counted: tuple[str, ...] = ("claude-code",)
    allotments: dict[str, Allotment] = field(default_factory=dict[str, Allotment])
    used: list[Used] = field(default_factory=list[Used])
    sittings: list[Sitting] = field(default_factory=list[Sitting])
    bound: dict[str, str] = field(default_factory=dict[str, str])
    holds: list[Hold] = field(default_factory=list[Hold])
    plan: dict[tuple[str | None, str], tuple[Fraction, datetime, datetime]] = field(
        default_factory=dict[Any, Any]
    )
    people: tuple[str, ...] = ()
    calls: dict[str, str] = field(default_factory=dict[str, str])

    def weighed(self, kinds: Kinds) -> int:
        """Return budget tokens, rounded half up."""
        exact = sum(Fraction(w) * kind for w, kind in zip(self.weights, kinds, strict=True))
        return int(exact + Fraction(1, 2))

    # What happens.

    def sitting(self, name: str, now: datetime) -> Sitting:
        """Return the open session of a name; it begins now where there is none."""
        for each in self.sittings:
            if each.name == name and each.ended is None:
                return each
        known = {each.key: each.kinds for each in self.used}
        begun = Sitting(name, known, now, folder=self.bound.get(name))
        self.sittings.append(begun)
        return begun

    def reset(self, name: str, now: datetime) -> None:
        """Close a session, and open the next one."""
        for each in self.sittings:
            if each.name == name and each.ended is None:
                each.ended = now
        self.sitting(name, now)

    def measure(self, used: list[Used]) -> None:
        """Read responses in a log; one that is known may have grown."""
        grown: list[tuple[datetime, Used, int]] = []
        for each in used:
            known = next((other for other in self.used if other.key == each.key), None)
            before = (0, 0, 0, 0) if known is None else known.kinds
            if sum(each.kinds) <= sum(before) and known is not None:
                continue
            if known is None:
                self.used.append(each)
            else:
                known.kinds = each.kinds
            more = [new - old for new, old in zip(each.kinds, before, strict=True)]
            tokens = self.weighed((more[0], more[1], more[2], more[3]))
            grown.append((each.at, each, 0 if each.whose == "local" else tokens))
        for _, each, tokens in sorted(grown, key=lambda found: found[0]):
            self._release(each, tokens)

    def _release(self, used: Used, tokens: int) -> None:
        if used.thread is None:
            return
        for call in used.calls:
            self.calls[call] = used.thread
            for hold in self.holds:
                if hold.call == call:
                    hold.thread = used.thread
        if used.calls:
            return
        for hold in self.holds:
            if hold.thread == used.thread and hold.at < used.at < hold.until:
                released = min(tokens, hold.tokens)
                hold.tokens -= released
                tokens -= released

    def report(self, used: Used, name: str, decision: int | None, is_done: bool) -> None:
        """Record what a client reports, perhaps for a decision and perhaps with its outcome."""
        used.sitting = self.sitting(name, used.at)
        self.used.append(used)
        for hold in self.holds:
            if hold.decision == decision:
                hold.tokens = max(0, hold.tokens - self.weighed(used.kinds))
        if is_done and decision is not None:
            self.close(decision)

    def close(self, decision: int) -> None:
        """Record an outcome."""
        self.holds = [each for each in self.holds if each.decision != decision]

    def report_plan(
        self,
        window: str,
        percent: Fraction,
        resets_at: datetime,
        now: datetime,
        person: str | None = None,
    ) -> None:
        """Take what the plan of a person, or of nobody known, says of itself, unless something newer is known."""
        key = (person, window)
        if key not in self.plan or self.plan[key][2] <= now:
            self.plan[key] = percent, resets_at, now

    # What follows from it.

    def session_tokens(self, sitting: Sitting) -> int:
        """Return what a session has used: what was reported to it, and what was logged in its time."""
        kinds = [0, 0, 0, 0]
        for each in self.used:
            before = (0, 0, 0, 0)
            if each.sitting is None:
                before = sitting.known.get(each.key, before)
                is_open = sitting.began <= each.at
                is_open &= sitting.ended is None or each.at < sitting.ended
                is_here = sitting.folder is None or is_inside(each.folder, sitting.folder)
                counts = is_open and is_here
            else:
                counts = each.sitting is sitting
            if counts and each.whose == "claude":
                new = [now - then for now, then in zip(each.kinds, before, strict=True)]
                kinds = [old + more for old, more in zip(kinds, new, strict=True)]
        return self.weighed((kinds[0], kinds[1], kinds[2], kinds[3]))

    def states(
        self, now: datetime, sitting: Sitting, person: str | None, *, sees_all: bool = True
    ) -> dict[str, State]:
        """Return how far each budget is used that a person may see; nobody in particular may see everybody's."""
        found: dict[str, State] = {}
        for each in self.allotments.values():
            if each.person is None and not each.is_each:
                found[each.name] = self._state(each, now, sitting, None, person)
                continue
            for name in self.people:
                is_seen = name == person or (person is None and sees_all)
                if each.person in {None, name} and is_seen:
                    others = each.is_each and person is None
                    shown = f"{each.name}/{name}" if others else each.name
                    found[shown] = self._state(each, now, sitting, name, name)
        return found

    def _state(
        self,
        allotment: Allotment,
        now: datetime,
        sitting: Sitting,
        whose: str | None,
        planner: str | None,
    ) -> State:
        used, is_at_least = self._used(allotment, now, sitting, whose, planner)
        allowed = Fraction(allotment.limit) * self._begun(allotment, now, planner)
        if allotment.unit != "percent":
            parts = 1 if allotment.unit == "tokens" else 10**9
            allowed = Fraction(max(round(allowed * parts), 1), parts)
        level = NORMAL
        if used is not None and used * 100 >= allowed * allotment.switch:
            level = CRITICAL
        elif used is not None and used * 100 >= allowed * allotment.warn:
            level = WARNING
        return State(used, allowed, level, is_at_least)

    def _used(
        self,
        allotment: Allotment,
        now: datetime,
        sitting: Sitting,
        whose: str | None,
        planner: str | None,
    ) -> tuple[Fraction | None, bool]:
        if allotment.window in LENGTHS:
            if (planner, allotment.window) not in self.plan:
                return None, False
            percent, resets_at, _ = self.plan[planner, allotment.window]
            if allotment.unit == "percent":
                return (percent if now < resets_at else None), False
        folder = allotment.folder
        if allotment.window == "session":
            folder = folder or sitting.folder
        counted = [
            each
            for each in self.used
            if each.whose != "local"
            and allotment.assistant in {None, each.assistant}
            and whose in {None, each.person}
            and (folder is None or is_inside(each.folder, folder))
            and self._is_in_window(allotment.window, each.at, now, sitting, planner)
        ]
        if allotment.unit == "tokens":
            kinds = [sum(each.kinds[kind] for each in counted) for kind in range(4)]
            return Fraction(self.weighed((kinds[0], kinds[1], kinds[2], kinds[3]))), False
        costs = [self._cost(each) for each in counted]
        is_at_least = any(not is_known for _, is_known in costs)
        return sum((cost for cost, _ in costs), Fraction(0)), is_at_least

    def _is_in_window(
        self, window: str, at: datetime, now: datetime, sitting: Sitting, planner: str | None
    ) -> bool:
        if window == "session":
            return at >= sitting.began
        if window in LENGTHS:
            resets_at, length = self.plan[planner, window][1], LENGTHS[window]
            return (at - resets_at) // length == (now - resets_at) // length
        zone = ZoneInfo(self.zone)
        return _window_of(window, day_of(at, zone)) == _window_of(window, day_of(now, zone))

    def _begun(self, allotment: Allotment, now: datetime, planner: str | None) -> Fraction:
        if not allotment.is_spread:
            return Fraction(1)
        if allotment.window == "7d":
            if (planner, "7d") not in self.plan:
                return Fraction(1)
            left = (self.plan[planner, "7d"][1] - now) % timedelta(days=7) or timedelta(days=7)
            return Fraction(7 - (left - timedelta(microseconds=1)) // timedelta(days=1), 7)
        today = day_of(now, ZoneInfo(self.zone))
        if allotment.window == "week":
            return Fraction(today.isoweekday(), 7)
        next_month = (today.replace(day=1) + timedelta(days=31)).replace(day=1)
        return Fraction(today.day, (next_month - today.replace(day=1)).days)

    def _cost(self, used: Used) -> tuple[Fraction, bool]:
        if used.model not in DOLLARS:
            return Fraction(0), not any(used.kinds)
        prices = [Fraction(price) / 1_000_000 for price in DOLLARS[used.model]]
        hour_long = used.hour_long or 0
        amounts = [*used.kinds, hour_long]
        amounts[2] -= hour_long
        cost = sum((a * price for a, price in zip(amounts, prices, strict=True)), Fraction(0))
        is_known = used.hour_long is not None or not used.kinds[2]
        return cost, is_known

    def plan_percent(self, now: datetime, person: str | None) -> Fraction | None:
        """Return the fuller of the plan's windows, where a setting looks at it."""
        if not self.plan_warning and not self.plan_switch:
            return None
        known = [
            percent
            for (whose, _), (percent, resets_at, _) in self.plan.items()
            if whose == person and now < resets_at
        ]
        return max(known, default=None)

    def ask(self, asked: Asked, decision: int, now: datetime) -> Expected:
        """Return what must be decided, and hold back what a task for Claude wants."""
        sitting = self.sitting(asked.session, now)
        self.holds = [each for each in self.holds if now < each.until]
        for hold in self.holds:
            if hold.at > now + timedelta(minutes=5):  # the clock was ahead
                hold.at, hold.until = now, now + timedelta(minutes=self.minutes)
        tokens, plan = self.session_tokens(sitting), self.plan_percent(now, asked.person)
        states = {
            name: state
            for name, state in self.states(now, sitting, asked.person, sees_all=False).items()
            if self._concerns(self.allotments[name], asked)
        }
        known = {name: state for name, state in states.items() if state.used is not None}
        rank = (NORMAL, WARNING, CRITICAL).index
        worst = max((rank(state.level) for state in known.values()), default=0)
        at_worst = {name: each.share for name, each in known.items() if rank(each.level) == worst}
        fullest = max(at_worst.values(), default=None)
        named = {name: share for name, share in at_worst.items() if share == fullest}
        level = _level(tokens, self.warning, self.switch)
        plan_level = _level(plan, self.plan_warning, self.plan_switch)
        levels = [level, plan_level, (NORMAL, WARNING, CRITICAL)[worst]]
        reason = _reason(levels, asked)
        held = reserved = None
        if self.has_reservations:
            held = sum(each.tokens for each in self.holds if each.sitting is sitting)
        if held is not None and asked.estimate is not None and not _is_local(reason):
            full = self._without_room(known, asked)
            if full:
                reason, named = "spend_limit_exceeded", {name: known[name].share for name in full}
            elif tokens + held + asked.estimate > self.limit:
                reason = "token_budget_exceeded"
            else:
                reserved = asked.estimate or None
        if reserved is not None:
            until = now + timedelta(minutes=self.minutes)
            thread = asked.thread or self.calls.get(asked.call or "")
            self.holds.append(
                Hold(decision, sitting, reserved, now, until, asked.call, thread, asked.person)
            )
        return Expected(reason, _is_local(reason), level, tokens, plan, named, held, reserved)

    def _concerns(self, allotment: Allotment, asked: Asked) -> bool:
        is_theirs = None in {allotment.assistant, asked.assistant}
        is_theirs |= allotment.assistant == asked.assistant
        is_there = None in {allotment.folder, asked.folder}
        return is_theirs and (is_there or is_inside(asked.folder, allotment.folder or ""))

    def _without_room(self, known: dict[str, State], asked: Asked) -> list[str]:
        output = Fraction(DOLLARS["claude-sonnet-4-5"][1]) / 1_000_000
        found: list[str] = []
        for name, state in known.items():
            allotment = self.allotments[name]
            is_own = allotment.is_each or allotment.person is not None
            held = sum(
                each.tokens for each in self.holds if not is_own or each.person == asked.person
            )
            wanted = Fraction((asked.estimate or 0) + held)
            want = {"tokens": wanted, "usd": wanted * output, "percent": None}[allotment.unit]
            if want is not None and state.used is not None and state.used + want > state.allowed:
                found.append(name)
        return found


def _window_of(window: str, day: date) -> tuple[int, ...]:
    if window == "day":
        return day.timetuple()[:3]
    return day.isocalendar()[:2] if window == "week" else (day.year, day.month)


def _level(used: Fraction | int | None, warning: int, switch: int) -> str:
    if used is not None and switch and used >= switch:
        return CRITICAL
    return WARNING if used is not None and warning and used >= warning else NORMAL


def _reason(levels: list[str], asked: Asked) -> str:
    """Return the first row of the table that applies."""
    names = ("token_budget", "plan_limit", "spend_limit")
    for name, level in zip(names, levels, strict=True):
        if level == CRITICAL:
            return f"{name}_exceeded"
    for name, level in zip(names, levels, strict=True):
        if level == WARNING and asked.classification == "routine":
            return f"{name}_warning"
    if asked.classification == "critical":
        return "task_critical"
    return "task_optimized" if asked.is_mapped else "default_complex"


def _is_local(reason: str) -> bool:
    return reason.endswith(("_exceeded", "_warning", "_optimized"))
