"""Strategies for fuzzing: JSON of any kind, and bytes that were right before something happened to them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

ODD_NUMBERS = [0, -0.0, 1.5, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 1e300, 10**30]
ODD_TEXTS = ["", "\x00", "\u0085", "\u2028", "\ufeff", "\U0001f989", "null", "5", "[]", "x" * 300]

scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from(ODD_NUMBERS)
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(ODD_TEXTS)
    | st.text(max_size=8)
)
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)

ODD_BYTES = [b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r\n", b"\xed\xa0\x80", b"\\ud800", b'"', b"{", b"}", b"[" * 2000, b"1e999", b"NaN", b"-"]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """Return one of the originals with pieces replaced, dropped or repeated."""
    content = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 12)))
        put = draw(
            st.sampled_from(ODD_BYTES) | st.binary(max_size=4) | st.just(content[start:end] * 2)
        )
        content = content[:start] + put + content[end:]
    return content
