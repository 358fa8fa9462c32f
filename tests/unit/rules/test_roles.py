"""Who may do what in a team."""

from __future__ import annotations

import pytest

from immunos_mcp.errors import NotAllowedError
from immunos_mcp.rules.roles import Person, Role, require_reset


@pytest.mark.parametrize(
    ("name", "role", "session", "is_allowed"),
    [
        ("ada", Role.MEMBER, "ada", True),
        ("ada", Role.MEMBER, "default", False),
        ("ada", Role.MEMBER, "bob", False),
        ("default", Role.MEMBER, "default", False),
        ("default", Role.LEAD, "default", True),
    ],
)
def test_the_team_s_session_is_no_member_s_own(
    name: str, role: Role, session: str, is_allowed: bool
) -> None:
    person = Person(1, name, role)
    if is_allowed:
        require_reset(person, session, "default")
    else:
        with pytest.raises(NotAllowedError, match="a member may reset only"):
            require_reset(person, session, "default")
