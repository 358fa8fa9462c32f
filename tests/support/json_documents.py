"""Hypothesis strategies for the JSON of configuration files."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

PATH = ("mcpServers", "immunos")

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.sampled_from(PATH), inner, max_size=3)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=6) | st.sampled_from(PATH), values, max_size=4)
