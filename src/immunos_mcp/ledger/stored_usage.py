"""A response as it is stored.

Annotations are no texts here: a named tuple would compile each of them at every start.
"""

from typing import NamedTuple

from immunos_mcp.domain import TokenCounts


class StoredUsage(NamedTuple):
    """A stored response; a tuple, since it is a row.

    Attributes:
        conversation: and what follows is what it has besides its tokens.
    """

    message_id: str
    measured_at: str
    provider: str
    folder: str | None
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    conversation: str | None
    cache_1h_input_tokens: int | None
    speed: str | None
    service_tier: str | None
    region: str | None
    web_searches: int | None
    is_sidechain: int | None
    request_id: str | None
    model: str

    @property
    def counts(self) -> TokenCounts:
        """The tokens by kind."""
        return TokenCounts(*self[4:8])
