"""Routing quality of the track record: the cost-quality curve of a router that learns online.

DATA is a CSV file with the columns task_type, weak_correct and strong_correct (0 or 1), one task per
line. The tasks arrive in random order as decisions at the mapped row; every task type is mapped to
the weak model as the local one, and the strong model is Claude. Verdict and evidence are the router's
own (``track_record.judge`` and ``add``, with the default constants), and it sees only outcomes of the
model it chose: of the local model only, or of both models.

One run over all tasks at one value of ``gain`` gives one point: the share of tasks that went to the
strong model, and the share of the accuracy gap between the two that was recovered. The cost of
learning is included. APGR (average performance gap recovered; RouteLLM, arXiv 2406.18665)
is the area under the line through the points of all values and (0, 0) and (1, 1), without leaving
any out; CPT(x) is the least share of tasks on that line that recovers x of the gap.
"""

from __future__ import annotations

import csv
import json
import os
import random
import statistics
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from side_by_side import argument_parser

from immunos_mcp.rules import track_record
from immunos_mcp.rules.settings import Settings
from immunos_mcp.rules.track_record import Evidence, ModelRecord

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

COLUMNS = ("task_type", "weak_correct", "strong_correct")
GAINS = (
    *(-1.0, -0.5, -0.3, -0.2, -0.15, -0.1),
    *(step / 40 for step in range(-3, 17)),
    *(0.5, 0.6, 0.8),
)
"""The values of the sweep: from always Claude to always local, densest where models usually differ."""

START = datetime(2026, 1, 1, tzinfo=UTC)
GOALS = {"local_outcomes": 0.57, "both_outcomes": 0.64}
NOTHING_KNOWN = ModelRecord()


class Task(NamedTuple):
    """A task, and which models solve it correctly."""

    task_type: str
    weak: bool
    strong: bool


class Point(NamedTuple):
    """A share of tasks sent to the strong model, and the share of the gap that it recovers."""

    share: float
    recovered: float


@dataclass(frozen=True, slots=True)
class Quality:
    """A curve's figures; ``deviation`` is the standard deviation of ``apgr`` over the seeds."""

    apgr: float
    cpt_50: float
    cpt_80: float
    deviation: float = 0.0


def read_tasks(file: Path) -> list[Task]:
    """Read the tasks of a file.

    Raises:
        ValueError: it is not as the head of this file says, or the strong model is not the better.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{file}: columns must be {list(COLUMNS)} (got {rows.fieldnames})")
        tasks = [
            Task(
                row["task_type"], _is_right(file, row[COLUMNS[1]]), _is_right(file, row[COLUMNS[2]])
            )
            for row in rows
        ]
    if _gap(tasks) <= 0:
        raise ValueError(f"{file}: the strong model must solve more tasks than the weak model")
    return tasks


def _is_right(file: Path, text: str | None) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{file}: weak_correct and strong_correct must be 0 or 1 (got {text!r})")
    return text == "1"


def _gap(tasks: Sequence[Task]) -> int:
    return sum(task.strong - task.weak for task in tasks)


def shuffled(tasks: Sequence[Task], seed: int) -> list[Task]:
    order = list(tasks)
    random.Random(seed).shuffle(order)  # noqa: S311  # an order, no secret
    return order


def learned_point(
    order: Sequence[Task], settings: Settings, *, both: bool, moments: Sequence[datetime]
) -> Point:
    """Route tasks in order, learning from the outcomes; return the resulting point."""
    local: defaultdict[str, Evidence] = defaultdict(Evidence)
    claude: defaultdict[str, Evidence] = defaultdict(Evidence)
    local_everywhere = claude_everywhere = Evidence()
    sent = won = 0
    for task, now in zip(order, moments, strict=True):
        kind = task.task_type
        of_local = ModelRecord(local[kind], local_everywhere)
        of_claude = ModelRecord(claude[kind], claude_everywhere) if both else NOTHING_KNOWN
        verdict = track_record.judge(of_local, of_claude, settings, now)
        if not verdict.passed_over:
            here = track_record.tried(of_local.here, now) if verdict.trial else of_local.here
            local[kind] = track_record.add(here, succeeded=task.weak, at=now, settings=settings)
            local_everywhere = track_record.add(
                local_everywhere, succeeded=task.weak, at=now, settings=settings
            )
            continue
        sent += 1
        won += task.strong - task.weak
        if both:
            here = track_record.tried(of_claude.here, now) if verdict.trial else of_claude.here
            claude[kind] = track_record.add(here, succeeded=task.strong, at=now, settings=settings)
            claude_everywhere = track_record.add(
                claude_everywhere, succeeded=task.strong, at=now, settings=settings
            )
    return Point(sent / len(order), won / _gap(order))


def learned_curve(tasks: Sequence[Task], per_day: float, run: tuple[int, bool]) -> list[Point]:
    """Sweep the threshold over one order of the tasks."""
    seed, both = run
    order = shuffled(tasks, seed)
    moments = [START + timedelta(days=number / per_day) for number in range(len(order))]
    points = [
        learned_point(order, Settings(record_gain=gain), both=both, moments=moments)
        for gain in GAINS
    ]
    return sorted([Point(0, 0), *points, Point(1, 1)])


def sorted_curve(order: Sequence[Task], score: Callable[[Task], float]) -> list[Point]:
    """Send tasks to the strong model one by one, highest score first."""
    gap, won = _gap(order), 0
    points = [Point(0, 0)]
    for count, task in enumerate(sorted(order, key=score, reverse=True), start=1):
        won += task.strong - task.weak
        points.append(Point(count / len(order), won / gap))
    return points


def area(curve: Sequence[Point]) -> float:
    return sum(
        (right.share - left.share) * (left.recovered + right.recovered) / 2
        for left, right in pairwise(curve)
    )


def share_for(curve: Sequence[Point], recovered: float) -> float:
    """Return the smallest share of strong calls at which the curve reaches a height."""
    for left, right in pairwise(curve):
        if right.recovered >= recovered:
            part = (recovered - left.recovered) / (right.recovered - left.recovered)
            return left.share + part * (right.share - left.share)
    raise AssertionError("the curve ends at (1, 1)")


def quality(curves: Sequence[Sequence[Point]]) -> Quality:
    """Average the figures of several curves."""
    areas = [area(curve) for curve in curves]
    return Quality(
        apgr=statistics.fmean(areas),
        cpt_50=statistics.fmean(share_for(curve, 0.5) for curve in curves),
        cpt_80=statistics.fmean(share_for(curve, 0.8) for curve in curves),
        deviation=statistics.stdev(areas) if len(areas) > 1 else 0.0,
    )


def knowing_routers(tasks: Sequence[Task]) -> dict[str, Callable[[Task], float]]:
    """Return the scores of routers without learning, from one that knows nothing to one that knows all."""
    counts = Counter(task.task_type for task in tasks)
    weak = Counter(task.task_type for task in tasks if task.weak)
    strong = Counter(task.task_type for task in tasks if task.strong)

    def by_weak(task: Task) -> float:
        return -weak[task.task_type] / counts[task.task_type]

    def by_both(task: Task) -> float:
        return (strong[task.task_type] - weak[task.task_type]) / counts[task.task_type]

    return {
        "random": lambda _task: 0.0,
        "knows_local_rates": by_weak,
        "knows_both_rates": by_both,
        "knows_every_answer": lambda task: task.strong - task.weak,
    }


def measure(tasks: Sequence[Task], seeds: int, per_day: float) -> dict[str, Quality]:
    """Measure the learning routers and the baselines over the same orders."""
    orders = [shuffled(tasks, seed) for seed in range(seeds)]
    found = {
        name: quality([sorted_curve(order, score) for order in orders])
        for name, score in knowing_routers(tasks).items()
    }
    runs = [(seed, both) for both in (False, True) for seed in range(seeds)]
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as processes:
        curves = list(processes.map(partial(learned_curve, tasks, per_day), runs))
    found["local_outcomes"] = quality(curves[:seeds])
    found["both_outcomes"] = quality(curves[seeds:])
    return found


def as_json(found: dict[str, Quality], given: argparse.Namespace, tasks: Sequence[Task]) -> str:
    answer: dict[str, object] = {f"apgr_{name}": found[name].apgr for name in GOALS}
    answer |= {"routers": {name: asdict(figures) for name, figures in found.items()}}
    answer |= {
        "tasks": len(tasks),
        "task_types": len({task.task_type for task in tasks}),
        "seeds": given.seeds,
        "per_day": given.per_day,
    }
    return json.dumps(answer)


def as_table(found: dict[str, Quality]) -> str:
    lines = ["router               APGR  deviation  CPT 50 %  CPT 80 %  goal"]
    for name, figures in found.items():
        goal = GOALS.get(name)
        verdict = ""
        if goal is not None:
            verdict = f">= {goal}  {'met' if figures.apgr >= goal else 'missed'}"
        cells = (
            f"{name:18}  {figures.apgr:.4f}     {figures.deviation:.4f}    {figures.cpt_50:6.1%}"
            f"    {figures.cpt_80:6.1%}  {verdict}"
        )
        lines.append(cells.rstrip())
    return "\n".join(lines)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("file", metavar="DATA", type=Path, help="the CSV file of tasks")
    parser.add_argument("--seeds", type=int, default=10, help="random orders, from seed 0 on")
    parser.add_argument(
        "--per-day", type=float, default=500, help="tasks a day, by which outcomes age"
    )
    given = parser.parse_args()
    if given.seeds < 1 or given.per_day <= 0:
        parser.error("--seeds takes a whole number from 1, --per-day a number above 0")
    try:
        tasks = read_tasks(given.file)
    except (OSError, ValueError) as refused:
        parser.error(str(refused))
    found = measure(tasks, given.seeds, given.per_day)
    print(as_json(found, given, tasks) if given.json else as_table(found))


if __name__ == "__main__":
    main()
