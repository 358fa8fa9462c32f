"""Which engines are beyond this machine, and what may be sent there."""

from __future__ import annotations

import pytest

from immunos_mcp.domain import Switch
from immunos_mcp.rules.engine_places import is_remote, notice, refusal, without_credentials
from immunos_mcp.rules.settings import Settings

HERE = (
    "", "http://127.0.0.1:11434", "http://127.8.9.1:1", "http://localhost:1", "http://LOCALHOST.:1",
    "http://[::1]:11434", "http://[::ffff:127.0.0.1]:1", "http://127.1:1", "http://2130706433:1",
    "http://ollama.localhost:1", "http://host.docker.internal:11434",
)  # fmt: skip
THERE = (
    "192.168.1.5", "10.0.0.1", "gpu", "example.com", "[fe80::1]", "[2001:db8::1]", "localhost.example.com",
    "127.0.0.1.example.com", "[::ffff:10.0.0.1]", "1.2.3.4",
)  # fmt: skip


@pytest.mark.parametrize("url", HERE)
def test_an_engine_on_this_machine_is_nothing_to_tell_of(url: str) -> None:
    assert not is_remote(url)
    assert (notice(url), refusal(url, Settings())) == (None, None)


@pytest.mark.parametrize("host", THERE)
def test_an_engine_elsewhere_is_told_of_and_needs_https_or_a_setting(host: str) -> None:
    plain, encrypted = f"http://{host}:11434", f"https://{host}:443/ollama"
    assert (notice(plain) or "").endswith(
        f"({plain}): tasks and their files are sent there unencrypted"
    )
    assert (notice(encrypted) or "").endswith("are sent there encrypted")
    assert "config set remote_engine=on" in (refusal(plain, Settings()) or "")
    assert refusal(plain, Settings(remote_engine=Switch.ON)) is None
    assert refusal(encrypted, Settings()) is None


def test_credentials_in_urls_are_hidden() -> None:
    line = "--ollama-host http://me:pw@gpu:1 mail@example.com https://token@x"
    assert (
        without_credentials(line) == "--ollama-host http://***@gpu:1 mail@example.com https://***@x"
    )
