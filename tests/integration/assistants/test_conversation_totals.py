"""Conversations' own totals: what they have beyond responses is counted once, in whatever order it is read."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import examples
import pytest
import wire
from hypothesis import given
from hypothesis import strategies as st
from transcript_desks import Desk

from immunos_mcp.assistants import bulk_reading
from immunos_mcp.domain import TokenCounts
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.ingestion import ingest_requests
from immunos_mcp.ledger.pruning import prune
from immunos_mcp.logged_usage import RequestUsage

BEGIN = datetime(2026, 1, 15, 11, tzinfo=UTC)
OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5"
NAMES = ("inputTokens", "outputTokens", "cacheCreationInputTokens", "cacheReadInputTokens")
KINDS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class World:
    """What programs hand out, and the files in which they write it down.

    Attributes:
        files: the content of each transcript.
        handed_out: the tokens of all requests, by kind.
        answering: the names that the models answer under, where they are not those asked for.
        unwritten: those of conversations since their last total.
    """

    now: datetime = BEGIN
    files: dict[str, str] = field(default_factory=dict[str, str])
    handed_out: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    made: int = 0
    answering: dict[str, str] = field(default_factory=dict[str, str])

    def tick(self, seconds: float = 1) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def write(self, file: str, **line: object) -> None:
        self.files[file] = self.files.get(file, "") + json.dumps(line) + "\n"


@dataclass
class Conversation:
    """A conversation of the client, which sums up all that its requests use."""

    world: World
    name: str
    start: int
    sums: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    lines: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    last: tuple[str, dict[str, list[int]]] | None = None
    has_responded: bool = False

    @property
    def file(self) -> str:
        return f"-home-dev/{self.name}.jsonl"

    def request(self, kinds: tuple[int, int, int, int], model: str = OPUS) -> None:
        """Use tokens that no line shows."""
        self.world.tick()
        before = self.sums.get(model, [0, 0, 0, 0])
        self.sums[model] = [old + new for old, new in zip(before, kinds, strict=True)]
        self.world.handed_out = [
            old + new for old, new in zip(self.world.handed_out, kinds, strict=True)
        ]

    def respond(
        self,
        kinds: tuple[int, int, int, int],
        agent: str | None = None,
        advisor: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Use tokens and write the response down, as two lines."""
        self.request(kinds)
        self.world.made += 1
        usage: dict[str, object] = dict(zip(KINDS, kinds, strict=True))
        if advisor is not None:
            self.request(advisor, HAIKU)
            counts = dict(zip(KINDS, advisor, strict=True))
            answering = self.world.answering.get(HAIKU, HAIKU)
            usage["iterations"] = [
                {"type": "message", **usage},
                {"type": "advisor_message", "model": answering, **counts},
                {"type": "fallback_message", "model": HAIKU, **counts},
                {"type": "compaction", **counts},
            ]
        number, model = self.world.made, self.world.answering.get(OPUS, OPUS)
        line: dict[str, object] = {
            "type": "assistant",
            "isSidechain": agent is not None,
            "message": {"id": f"m{number}", "model": model, "usage": usage},
            "requestId": f"req{number}",
            "timestamp": stamp(self.world.now),
            "cwd": "/home/dev",
            "sessionId": self.name,
        }
        file = self.file if agent is None else f"-home-dev/{self.name}/subagents/{agent}.jsonl"
        if agent is None:
            self.has_responded = True
            self.lines += [line]
        self.world.write(file, **line)
        self.world.write(file, **line)

    def leave(self, *, has_later_line: bool = True) -> None:
        """Write the total down."""
        self.has_responded = False
        if has_later_line:
            self.world.write(self.file, type="attachment", timestamp=stamp(self.world.tick()))
        usage = {model: dict(zip(NAMES, kinds, strict=True)) for model, kinds in self.sums.items()}
        self.world.write(
            self.file,
            type="cost-state",
            sessionId=self.name,
            startTime=self.start,
            modelUsage=usage,
        )
        self.world.tick(5)

    def fork(self, name: str) -> Conversation:
        """Continue the total in another conversation, which has copies of the lines."""
        other = Conversation(
            self.world, name, self.start, {model: [*kinds] for model, kinds in self.sums.items()}
        )
        for line in self.lines:
            other.lines.append({**line, "sessionId": name})
            self.world.write(other.file, **other.lines[-1])
        return other


def begin(world: World, name: str = "one") -> Conversation:
    conversation = Conversation(world, name, int(world.tick().timestamp() * 1000))
    world.tick()
    return conversation


def put(desk: Desk, world: World) -> None:
    for name, content in world.files.items():
        path = desk.projects / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def counted(desk: Desk) -> list[int]:
    """Return the sums of all records, which must be what the session has."""
    file = Path(desk.projects).parent / "ledger.db"
    wire.assert_sound(file)
    (row,) = wire.rows(
        file,
        "SELECT sum(measured_input_tokens), sum(measured_output_tokens),"
        " sum(measured_cache_creation_input_tokens), sum(measured_cache_read_input_tokens)"
        " FROM immunos_mcp_session",
    )
    return [int(value) for value in row]


def counted_at_a_look(desk: Desk) -> list[int]:
    desk.tokens()
    return counted(desk)


kinds = st.tuples(*[st.integers(0, 1000)] * 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("request"), kinds, st.sampled_from([OPUS, HAIKU])),
        st.tuples(st.just("respond"), kinds, st.sampled_from([None, "a", "b"])),
        st.tuples(st.just("advised"), kinds, kinds),
        st.tuples(st.just("leave"), st.none(), st.none()),
        st.tuples(st.just("fork"), st.none(), st.none()),
        st.tuples(st.just("other"), st.none(), st.none()),
        st.tuples(st.just("switch"), st.integers(0, 5), st.none()),
    ),
    max_size=15,
)


answering = st.sampled_from(
    [
        {},
        {OPUS: f"{OPUS}-20261001", HAIKU: "us.anthropic.claude-haiku-5-20261001-v1:0"},
        {OPUS: "claude-of-a-gateway", HAIKU: "claude-of-another"},
    ]
)


def played(script: list[tuple[str, object, object]], answering: dict[str, str]) -> World:
    """Let programs run one after another, each of which writes its total down at its end."""
    world = World(answering=answering)
    conversations = [begin(world, "one")]
    current = conversations[0]
    for step, what, more in script:
        if step == "request":
            current.request(what, more)  # type: ignore[arg-type]  # as generated above
        elif step == "respond":
            # A subagent is started by a response of its conversation.
            agent = more if current.has_responded else None
            current.respond(what, agent)  # type: ignore[arg-type]  # likewise
        elif step == "advised":
            current.respond(what, advisor=more)  # type: ignore[arg-type]  # likewise
        else:
            current.leave()
            if step == "fork":
                current = current.fork(f"fork{len(conversations)}")
                conversations.append(current)
            elif step == "other":
                current = begin(world, f"other{len(conversations)}")
                conversations.append(current)
            elif step == "switch":
                current = conversations[int(str(what)) % len(conversations)]
    current.leave()
    return world


@examples.on_ledgers
@given(steps, answering, st.data())
def test_the_count_is_what_was_handed_out_in_whatever_portions_and_order_it_is_read(
    script: list[tuple[str, object, object]], answering: dict[str, str], data: st.DataObject
) -> None:
    world = played(script, answering)
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        desk = Desk(Path(folder))
        stack.enter_context(desk.ledger)
        desk.now = BEGIN - timedelta(hours=1)
        desk.begin()
        desk.now = BEGIN + timedelta(hours=1)
        unread = {name: content.encode() for name, content in world.files.items()}
        for _ in range(data.draw(st.integers(0, 4))):
            name = data.draw(st.sampled_from(sorted(unread)))
            length = data.draw(st.integers(0, len(unread[name])))
            path = desk.projects / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as stream:
                stream.write(unread[name][:length])
            unread[name] = unread[name][length:]
            desk.tokens()
        for name, rest in unread.items():
            path = desk.projects / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as stream:
                stream.write(rest)
        if data.draw(st.booleans()):
            desk.sync_all()
        assert desk.tokens() == sum(world.handed_out[:3])
        assert counted(desk) == world.handed_out
        records = wire.rows(Path(folder) / "ledger.db", "SELECT * FROM immunos_mcp_side_usage")
        wire.execute(Path(folder) / "ledger.db", "DELETE FROM immunos_mcp_transcript")
        desk.sync_all()
        desk.tokens()
        assert counted(desk) == world.handed_out
        assert (
            wire.rows(Path(folder) / "ledger.db", "SELECT * FROM immunos_mcp_side_usage") == records
        )


def opened(desk: Desk) -> World:
    desk.now = BEGIN - timedelta(hours=1)
    desk.begin()
    desk.now = BEGIN + timedelta(hours=1)
    return World()


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (["claude-sonnet-4-5"], ["claude-sonnet-4-5-20250929"]),
        (["claude-sonnet-4-5[1m]", "claude-sonnet-4-5"], ["claude-sonnet-4-5-20250929"]),
        (["us.anthropic.claude-opus-4-6-v1"], ["claude-opus-4-6"]),
        (["anthropic/claude-sonnet-4.5"], ["claude-sonnet-4-5@20250929"]),
        (["claude-opus-5-5", "claude-haiku-5"], ["claude-of-a-gateway", "claude-of-another"]),
    ],
)
def test_a_total_names_models_as_they_were_asked_for_and_responses_as_they_answered(
    desk: Desk, asked: list[str], answered: list[str]
) -> None:
    world = opened(desk)
    conversation = begin(world)
    for number, model in enumerate(asked):
        world.answering[OPUS] = answered[number % len(answered)]
        conversation.respond((100, 20, 3, 4))
        conversation.sums[model] = conversation.sums.pop(OPUS)
    conversation.request((7, 0, 0, 0), asked[0])
    conversation.leave()
    put(desk, world)
    assert counted_at_a_look(desk) == world.handed_out
    assert desk.status().side_request_tokens == 7


def test_a_total_that_names_a_model_in_two_ways_later_changes_no_earlier_one(desk: Desk) -> None:
    world = opened(desk)
    conversation = begin(world)
    conversation.respond((100, 0, 0, 0))
    conversation.request((7, 0, 0, 0))
    conversation.leave()
    put(desk, world)
    assert desk.tokens() == 107
    conversation.request((9, 0, 0, 0), f"{OPUS}[1m]")
    conversation.leave()
    put(desk, world)
    assert counted_at_a_look(desk) == world.handed_out


def test_parent_and_fork_that_both_go_on_count_both_increases(desk: Desk) -> None:
    world = opened(desk)
    parent = begin(world)
    parent.respond((1, 0, 0, 0))
    parent.request((2, 0, 0, 0))
    parent.leave()
    fork = parent.fork("two")
    fork.respond((4, 0, 0, 0))
    fork.request((8, 0, 0, 0))
    parent.respond((16, 0, 0, 0))
    parent.request((32, 0, 0, 0))
    parent.leave()
    fork.request((64, 0, 0, 0))
    fork.leave()
    put(desk, world)
    assert desk.tokens() == 127
    assert desk.status().side_request_tokens == 2 + 8 + 32 + 64


def test_a_fork_of_a_fork_continues_the_total_of_that_fork(desk: Desk) -> None:
    world = opened(desk)
    parent = begin(world)
    for _ in range(3):
        parent.respond((1, 0, 0, 0))
    parent.leave()
    fork = parent.fork("two")
    fork.respond((10, 0, 0, 0))
    fork.request((20, 0, 0, 0))
    fork.leave()
    other = fork.fork("three")
    other.respond((100, 0, 0, 0))
    other.leave()
    put(desk, world)
    assert desk.tokens() == 133
    assert desk.status().side_request_tokens == 20


@pytest.mark.parametrize("later", [(7, 0, 0, 0), (2000, 0, 0, 0)])
def test_two_programs_that_continue_a_conversation_at_once_both_count(
    desk: Desk, later: tuple[int, int, int, int]
) -> None:
    world = opened(desk)
    first = begin(world)
    first.respond((1000, 0, 0, 0))
    first.leave()
    other = replace(first, sums={model: [*kinds] for model, kinds in first.sums.items()})
    for tokens in (10, 20):
        first.respond((tokens, 0, 0, 0))
        other.respond((2 * tokens, 0, 0, 0))
    first.request((5, 0, 0, 0))
    other.request(later)
    first.leave()
    other.leave()
    put(desk, world)
    assert counted_at_a_look(desk) == world.handed_out
    assert desk.status().side_request_tokens == 5 + later[0]


def test_each_of_two_forks_continues_the_total_of_their_parent(desk: Desk) -> None:
    world = opened(desk)
    parent = begin(world)
    parent.respond((1, 0, 0, 0))
    for _ in range(3):
        parent.respond((1, 0, 0, 0), "agent-a")
    parent.request((2, 0, 0, 0))
    parent.leave()
    for number, name in enumerate(("two", "three")):
        fork = parent.fork(name)
        fork.respond((10, 0, 0, 0))
        fork.request((100 + number, 0, 0, 0))
        fork.leave()
    parent.respond((1000, 0, 0, 0))
    parent.leave()
    put(desk, world)
    assert counted_at_a_look(desk) == world.handed_out
    assert desk.status().side_request_tokens == 2 + 100 + 101


def test_a_fork_continues_the_total_that_its_parent_had_before_others_of_the_same_time(
    desk: Desk,
) -> None:
    world = opened(desk)
    parent = begin(world)
    parent.respond((1, 0, 0, 0))
    parent.leave(has_later_line=False)
    fork = parent.fork("two")
    fork.request((10, 0, 0, 0), HAIKU)
    fork.leave(has_later_line=False)
    parent.request((100, 0, 0, 0))
    parent.leave(has_later_line=False)
    put(desk, world)
    assert desk.tokens() == 111
    counted(desk)


def test_a_conversation_that_is_read_again_counts_the_same(desk: Desk) -> None:
    world = opened(desk)
    conversation = begin(world)
    for tokens in (1, 10):
        conversation.respond((tokens, 0, 0, 0))
        conversation.request((5 * tokens, 0, 0, 0))
        conversation.leave(has_later_line=False)
    put(desk, world)
    assert desk.tokens() == 66
    (desk.projects / conversation.file).unlink()
    put(desk, world)
    assert desk.tokens() == 66
    counted(desk)


def test_a_request_of_telemetry_between_two_totals_is_in_the_one_that_it_fits(desk: Desk) -> None:
    world = opened(desk)
    conversation = begin(world)
    conversation.respond((1, 0, 0, 0))
    conversation.request((2, 0, 0, 0))
    conversation.leave()
    # The next program's first request, before any response.
    conversation.request((20, 0, 0, 0))
    told = [RequestUsage("side", world.now, OPUS, TokenCounts(20), conversation.name)]
    conversation.respond((100, 0, 0, 0))
    conversation.request((200, 0, 0, 0))
    conversation.leave()
    put(desk, world)
    run_sync(desk.ledger.write(ingest_requests, told))
    assert desk.tokens() == 323
    counted(desk)


def test_what_ran_before_a_program_was_killed_is_no_part_of_the_next_total(desk: Desk) -> None:
    world = opened(desk)
    killed = begin(world)
    killed.respond((1, 0, 0, 0))
    resumed = replace(begin(world), lines=killed.lines)
    resumed.respond((2, 0, 0, 0))
    resumed.request((4, 0, 0, 0))
    resumed.leave()
    put(desk, world)
    assert desk.tokens() == 7


@pytest.mark.parametrize("is_first", [True, False])
def test_a_request_of_telemetry_is_not_counted_again_by_the_total(
    desk: Desk, *, is_first: bool
) -> None:
    world = opened(desk)
    conversation = begin(world)
    conversation.respond((1, 0, 0, 0))
    conversation.request((2, 0, 0, 0))
    at = world.now
    conversation.request((4, 0, 0, 0))
    conversation.leave()
    told = [RequestUsage("side", at, OPUS, TokenCounts(2), conversation.name)]
    if is_first:
        run_sync(desk.ledger.write(ingest_requests, told))
    put(desk, world)
    assert desk.tokens() == 7
    run_sync(desk.ledger.write(ingest_requests, told))
    assert desk.tokens() == 7
    assert desk.status().side_request_tokens == 6
    counted(desk)
    signed = wire.rows(
        desk.projects.parent / "ledger.db", "SELECT input_tokens FROM immunos_mcp_side_usage"
    )
    assert signed == ([(4,)] if is_first else [(6,), (-2,)])


def test_a_total_whose_responses_were_left_out_is_not_taken_for_side_usage(desk: Desk) -> None:
    world = World()
    conversation = begin(world)
    conversation.respond((1, 0, 0, 0))
    conversation.request((2, 0, 0, 0))
    desk.now = world.now
    desk.begin()
    conversation.leave()
    conversation.respond((4, 0, 0, 0))
    conversation.request((8, 0, 0, 0))
    conversation.leave()
    put(desk, world)
    desk.now = BEGIN + timedelta(hours=1)
    assert desk.tokens() == 12
    desk.sync_all()
    assert desk.tokens() == 12 + 2  # its moment is in the session


def test_pruning_keeps_every_total_and_settles_nothing_anew(desk: Desk) -> None:
    world = opened(desk)
    conversation = begin(world)
    conversation.respond((1, 0, 0, 0))
    conversation.request((2, 0, 0, 0))
    conversation.leave()
    put(desk, world)
    assert desk.tokens() == 3
    run_sync(desk.ledger.write(prune, BEGIN + timedelta(days=30)))
    conversation.respond((4, 0, 0, 0))
    conversation.leave()
    put(desk, world)
    assert desk.tokens() == 3
    total = "SELECT sum(input_tokens), sum(usage_records) FROM immunos_mcp_pruned_usage"
    assert wire.rows(desk.projects.parent / "ledger.db", total)[0][0] == 1


@pytest.mark.parametrize(
    ("line", "unread"),
    [
        (
            '{"type": "cost-state", "sessionId": "x", "startTime": 1, "modelUsage": 5, "cacheCreationInputTokens": 1}',
            1,
        ),
        (
            '{"type": "cost-state", "sessionId": "x", "startTime": -1, "modelUsage": {}, "cacheCreationInputTokens": 1}',
            1,
        ),
        (
            '{"type": "cost-state", "startTime": 1, "modelUsage": {"m": {"cacheCreationInputTokens": 0}}}',
            1,
        ),
        (
            '{"type": "cost-state", "sessionId": "x", "startTime": 9e300, "modelUsage": {"m": {"cacheCreationInputTokens": 0}}}',
            1,
        ),
        (
            (
                '{"type": "cost-state", "sessionId": "x", "startTime": 1,'
                ' "modelUsage": {"m": {"inputTokens": -5, "cacheCreationInputTokens": 0}}}'
            ),
            1,
        ),
        (
            (
                '{"type": "cost-state", "sessionId": "x", "startTime": 1768474800000.0,'
                ' "modelUsage": {"claude-x": {"inputTokens": "0", "cacheCreationInputTokens": "0"}}} torn'
            ),
            0,
        ),
        (
            '{"type": "result", "modelUsage": {"m": {"inputTokens": 5, "cacheCreationInputTokens": 5}}}',
            0,
        ),
    ],
)
def test_odd_totals_are_told_and_not_guessed(desk: Desk, line: str, unread: int) -> None:
    world = opened(desk)
    conversation = begin(world)
    conversation.respond((1, 0, 0, 0))
    put(desk, world)
    with (desk.projects / conversation.file).open("a") as stream:
        stream.write(line + "\n")
    assert desk.tokens() == 1
    assert (desk.status().unread_lines or 0) == unread


def test_reading_in_processes_gives_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    world = opened(desk)
    conversation = begin(world)
    for _ in range(3):
        conversation.respond((1, 2, 3, 4), agent="a")
        conversation.request((10, 20, 30, 40))
        conversation.leave()
    other = conversation.fork("two")
    other.request((100, 0, 0, 0), HAIKU)
    other.leave()
    put(desk, world)
    monkeypatch.setattr(bulk_reading, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(bulk_reading, "TASK_BYTES", 1)
    desk.sync_all()
    assert counted(desk) == world.handed_out
