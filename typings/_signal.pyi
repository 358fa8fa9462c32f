# The part of the built-in module that the first lines of the program use.

from collections.abc import Callable
from types import FrameType

SIGINT: int
SIG_DFL: int

def default_int_handler(number: int, frame: FrameType | None, /) -> None: ...
def getsignal(number: int, /) -> int | Callable[[int, FrameType | None], None] | None: ...
def signal(
    number: int, handler: int | Callable[[int, FrameType | None], None], /
) -> int | Callable[[int, FrameType | None], None] | None: ...
