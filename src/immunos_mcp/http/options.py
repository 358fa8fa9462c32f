"""The options of the server over HTTP; only `serve` has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.options import LOOPBACK_HOSTS, NO_FLAGS, Address, Option, expanded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from immunos_mcp.options import Flags

_HOST_NAME = r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.?"
_MOST_REQUESTS_A_SECOND = 100_000


class HttpOptions(NamedTuple):
    """The options of one run of the server over HTTP.

    Attributes:
        address: where it listens.
        hosts: the names, without ports, that clients may reach it by.
        is_behind_proxy: whether all requests come through a proxy, which adds TLS.
        certificate: the certificate chain that it shows; ``None``: it speaks plain HTTP.
        key: the certificate's key; ``None``: it is in the certificate's file.
        needs_tokens: whether a request needs a token.
        rate_limit: requests a second that each token may make on average; 0: any number.
        issuer: the identity provider whose tokens are accepted besides; empty: none.
        audience: this server's URL in those tokens.
        person_claim: what names the person in them.
        team_claim: what names the team in them; empty: nothing does.
    """

    address: Address
    hosts: frozenset[str]
    is_behind_proxy: bool = False
    certificate: Path | None = None
    key: Path | None = None
    needs_tokens: bool = True
    rate_limit: int = 50
    issuer: str = ""
    audience: str = ""
    person_claim: str = "sub"
    team_claim: str = ""

    @property
    def is_for_this_machine(self) -> bool:
        """Whether no other machine can reach it."""
        return self.address.host in LOOPBACK_HOSTS and not self.is_behind_proxy


def read(environment: Mapping[str, str], flags: Flags = NO_FLAGS) -> HttpOptions:
    """Read the options from flags, by name, and the environment.

    Raises:
        InvalidInputError: an option is invalid, or they would open the server to more than was said.
    """
    address = HTTP.settle(flags, environment)
    if address is None:
        message = f"{HTTP.flag}: is required; must be {_EXPECTED_ADDRESS}"
        raise InvalidInputError(Problem(HTTP.flag, None, message=message))
    allowed = ALLOWED_HOSTS.settle_all(flags, environment)
    chosen = HttpOptions(
        address,
        frozenset(allowed) | (LOOPBACK_HOSTS if address.host in LOOPBACK_HOSTS else frozenset()),
        BEHIND_PROXY.settle(flags, environment),
        CERTIFICATE.settle(flags, environment),
        KEY.settle(flags, environment),
        TOKENS.settle(flags, environment),
        RATE_LIMIT.settle(flags, environment),
        ISSUER.settle(flags, environment),
        AUDIENCE.settle(flags, environment),
        PERSON_CLAIM.settle(flags, environment),
        TEAM_CLAIM.settle(flags, environment),
    )
    _check(chosen, bool(allowed))
    return chosen


def _check(chosen: HttpOptions, names_hosts: bool) -> None:
    """Refuse what would be less safe than it looks."""
    is_open = not chosen.is_for_this_machine
    where = chosen.address.host
    if chosen.key is not None and chosen.certificate is None:
        raise _refused(KEY.flag, f"needs {CERTIFICATE.flag}")
    if is_open and chosen.certificate is None and not chosen.is_behind_proxy:
        means = f"{CERTIFICATE.flag} and {KEY.flag}, or {BEHIND_PROXY.flag} where a proxy adds TLS"
        raise _refused(HTTP.flag, f"{where} can be reached from elsewhere and needs {means}")
    if is_open and not names_hosts:
        needed = f"{ALLOWED_HOSTS.flag} with the name that clients use, such as budget.example.com"
        raise _refused(ALLOWED_HOSTS.flag, f"is required here: give {needed}")
    if is_open and not chosen.needs_tokens:
        reason = f"cannot be used here: others than this machine can reach {where}"
        raise _refused(TOKENS.flag, reason)
    if bool(chosen.issuer) is not bool(chosen.audience):
        given, missing = (ISSUER, AUDIENCE) if chosen.issuer else (AUDIENCE, ISSUER)
        raise _refused(given.flag, f"needs {missing.flag}")
    if chosen.certificate is not None:
        _check_certificate(chosen.certificate, chosen.key)


def _check_certificate(certificate: Path, key: Path | None) -> None:
    import ssl  # takes 10 ms to import

    for option, file in ((CERTIFICATE, certificate), (KEY, key)):
        if file is not None:
            _check_readable(option.flag, file)
    try:
        # Without a password, it would be asked for on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        files = certificate if key is None else f"{certificate} and {key}"
        expected = "a certificate chain and its key in PEM form, without a password"
        message = f"{CERTIFICATE.flag}: must be {expected} ({files}: {error})"
        raise InvalidInputError(
            Problem(CERTIFICATE.flag, str(certificate), expected, None, message)
        ) from None


def _check_readable(flag: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise _refused(flag, f"{file} cannot be read ({error.strerror})") from None


def _refused(field: str, reason: str) -> InvalidInputError:
    return InvalidInputError(Problem(field, None, message=f"{field}: {reason}"))


_EXPECTED_ADDRESS = "an address and a port, such as 127.0.0.1:4780"


def _address(text: str, field: str) -> Address | None:
    if not text:
        return None
    host, _, port = text.rpartition(":")
    bare_host = host.removeprefix("[").removesuffix("]")
    is_host = bool(re.fullmatch(_HOST_NAME, bare_host)) or _is_ipv6(host)
    if is_host and re.fullmatch("[0-9]{1,5}", port) and int(port) < 2**16:
        return Address(bare_host, int(port))
    raise InvalidInputError(Problem(field, text, _EXPECTED_ADDRESS))


def _is_ipv6(host: str) -> bool:
    return bool(re.fullmatch(r"\[[0-9A-Fa-f:.]{2,45}\]", host))


def _host(text: str, field: str) -> str:
    if re.fullmatch(_HOST_NAME, text):
        return text.lower().rstrip(".")
    if _is_ipv6(text):
        return text[1:-1].lower()
    expected = "a host's name without scheme and port, such as budget.example.com"
    raise InvalidInputError(Problem(field, text, expected))


def _is_on(text: str, field: str) -> bool:
    if text not in {"on", "off"}:
        raise InvalidInputError(Problem(field, text, "on or off"))
    return text == "on"


def _file(text: str, field: str) -> Path | None:
    return expanded(text, field).absolute() if text else None


def _rate(text: str, field: str) -> int:
    if re.fullmatch("[0-9]{1,6}", text) and int(text) <= _MOST_REQUESTS_A_SECOND:
        return int(text)
    expected = f"a whole number from 0 to {_MOST_REQUESTS_A_SECOND}"
    raise InvalidInputError(Problem(field, text, expected))


def is_safe_url(text: str) -> bool:
    """Return whether a URL is read over HTTPS, or from this machine."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)
    )


def _url(text: str, field: str) -> str:
    if not text or (is_safe_url(text) and text.isascii() and text.isprintable()):
        return text
    expected = "an https address, such as https://login.example.com"
    raise InvalidInputError(Problem(field, text, expected))


def _claim(text: str, field: str) -> str:
    if re.fullmatch(r"[\x21-\x7e]{1,100}", text):
        return text
    raise InvalidInputError(Problem(field, text, "the name of a claim, such as email"))


def _claim_or_none(text: str, field: str) -> str:
    return _claim(text, field) if text else text


HTTP = Option(
    "IMMUNOS_HTTP",
    _address,
    flag="--http",
    metavar="ADDRESS:PORT",
    about="where to listen, such as 127.0.0.1:4780",
)
ALLOWED_HOSTS = Option(
    "IMMUNOS_ALLOWED_HOSTS",
    _host,
    flag="--allowed-host",
    metavar="NAME",
    about="name that clients reach the server by; may be repeated",
    repeats=True,
    separator=",",
)
BEHIND_PROXY = Option(
    "IMMUNOS_BEHIND_PROXY",
    _is_on,
    "off",
    flag="--behind-proxy",
    about="all requests come through a proxy, which adds TLS",
    stands_for="on",
)
CERTIFICATE = Option(
    "IMMUNOS_CERTIFICATE",
    _file,
    flag="--certificate",
    metavar="FILE",
    about="certificate chain (PEM) to serve HTTPS with",
    is_path=True,
)
KEY = Option(
    "IMMUNOS_KEY",
    _file,
    flag="--key",
    metavar="FILE",
    about="key of the certificate (PEM), if it is not in the same file",
    is_path=True,
)
TOKENS = Option(
    "IMMUNOS_TOKENS",
    _is_on,
    "on",
    flag="--no-tokens",
    about="serve requests without a token; every user and program of this machine can send them",
    stands_for="off",
)
RATE_LIMIT = Option(
    "IMMUNOS_RATE_LIMIT",
    _rate,
    "50",
    flag="--rate-limit",
    metavar="N",
    about="requests a second of each token, on average; 0: any number",
    shown_default="50",
)
ISSUER = Option(
    "IMMUNOS_ISSUER",
    _url,
    flag="--issuer",
    metavar="URL",
    about="identity provider (OpenID Connect) whose signed tokens are accepted besides",
)
AUDIENCE = Option(
    "IMMUNOS_AUDIENCE",
    _url,
    flag="--audience",
    metavar="URL",
    about="this server's URL, which the provider's tokens have to be made for",
)
PERSON_CLAIM = Option(
    "IMMUNOS_PERSON_CLAIM",
    _claim,
    "sub",
    flag="--person-claim",
    metavar="NAME",
    about="what names the person in the provider's tokens",
    shown_default="sub",
)
TEAM_CLAIM = Option(
    "IMMUNOS_TEAM_CLAIM",
    _claim_or_none,
    flag="--team-claim",
    metavar="NAME",
    about="what names the team in the provider's tokens, where the server serves several",
)

HttpRow: TypeAlias = (
    "Option[Address | None] | Option[str] | Option[bool] | Option[Path | None] | Option[int]"
)

HTTP_OPTIONS: tuple[HttpRow, ...] = (
    HTTP,
    ALLOWED_HOSTS,
    BEHIND_PROXY,
    CERTIFICATE,
    KEY,
    TOKENS,
    RATE_LIMIT,
    ISSUER,
    AUDIENCE,
    PERSON_CLAIM,
    TEAM_CLAIM,
)
