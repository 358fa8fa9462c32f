"""Loads libraries without those of their modules that nothing here uses, which can take longer than the rest.

While a library loads, something small stands in for such a module; whoever imports it later gets the real
one.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import ModuleType


class _Unencoded:
    """Stands in for classes that ``msgspec`` could encode."""


def load_msgspec() -> None:
    """Load ``msgspec``, which nobody asks for schemas, TOML, YAML, or the encoding of a UUID or a ``Decimal``.

    From Python 3.11 on, it takes from ``typing`` what it would from ``typing_extensions``.
    """
    _load(
        "msgspec",
        {
            # Importing what is ``None`` here fails as if it were not installed.
            "typing_extensions": None,
            "uuid": SimpleNamespace(UUID=_Unencoded, SafeUUID=SimpleNamespace(unknown=None)),
            "decimal": SimpleNamespace(Decimal=_Unencoded),
            "msgspec.inspect": SimpleNamespace(),
            "msgspec.toml": SimpleNamespace(),
            "msgspec.yaml": SimpleNamespace(),
            "msgspec._json_schema": SimpleNamespace(schema=None, schema_components=None),
        },
    )


def load_pathlib() -> None:
    """Load ``pathlib`` without the module for addresses, which it needs only to make one of a path."""
    _load("pathlib", {"urllib.parse": SimpleNamespace(quote_from_bytes=_quoted)})


def _quoted(path: bytes) -> str:
    from urllib.parse import quote_from_bytes

    return quote_from_bytes(path)


def load_argparse() -> None:
    """Load ``argparse`` without translations, which it has none of; its messages are matched in English."""
    _load("argparse", {"gettext": SimpleNamespace(gettext=str, ngettext=_one_or_many)})


def _one_or_many(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def _load(name: str, unused: dict[str, object]) -> None:
    standing_in = {each: module for each, module in unused.items() if each not in sys.modules}
    sys.modules.update(cast("dict[str, ModuleType]", standing_in))
    try:
        # Another version may use more of them, and is loaded as a whole where it is needed.
        with suppress(ImportError, AttributeError):
            __import__(name)
    finally:
        for each in standing_in:
            sys.modules.pop(each, None)
