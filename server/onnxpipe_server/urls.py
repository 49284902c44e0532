"""Files at addresses that requests name: read only from hosts that the operator has listed.

An entry of the list is a host ("images.example.org"), the hosts below one ("*.example.org"), every host ("*"), or an IP
address or network ("10.0.0.0/8"); a port may follow a host or an address (":8080"), else it is that of http or https.
Whatever a host's name is, each address it stands for must be public, or be listed as an address itself; the one that is
checked is the one that is connected to. Redirects and proxies are not followed, nothing is sent but the request.
"""

import contextlib
import dataclasses
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from onnxpipe.errors import DeadlineExceeded, InvalidInput
from onnxpipe.version import __version__
from onnxpipe_server.tickets import current_ticket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_EXPECTED = "expected a host such as example.org, *.example.org, 10.0.0.0/8 or example.org:8080"
# addresses of IPv6 whose last bits are one of IPv4: what is reached is that one
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LONGEST = 2048
_CHUNK_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True)
class Rule:
    """Hosts that may be asked: by name, or by address. `port` is None for the scheme's own."""

    name: str = ""
    network: Network | None = None
    port: int | None = None

    def covers(self, host: str, port: int, scheme: str) -> bool:
        """Whether a URL with this host and port may be opened, if its addresses may."""
        if port != (self.port or _PORTS[scheme]):
            return False
        if self.network is not None:
            return (address := _read_address(host)) is not None and self.has(address, port)
        return self.name == "*" or host == self.name or (self.name[:2] == "*." and host.endswith(self.name[1:]))

    def has(self, address: Address, port: int) -> bool:
        """Whether it lists this very address."""
        return self.network is not None and address in self.network and self.port in (None, port)


def read_rules(entries: Iterable[str]) -> tuple[Rule, ...]:
    """The rules in a list of hosts. Raises InvalidInput naming the entry that is none."""
    return tuple(_read_rule(entry.strip().lower()) for entry in entries)


class UrlReader:
    """Reads what one request names: so many bytes in so many seconds at most, however many addresses there are."""

    def __init__(self, rules: Sequence[Rule], *, max_bytes: int, max_seconds: float) -> None:
        self._rules = rules
        self._left = self._max_bytes = max_bytes
        remaining_s = current_ticket().remaining_s()
        self._seconds = max_seconds if remaining_s is None else min(max_seconds, remaining_s)
        self._end = time.monotonic() + self._seconds

    def read(self, url: str) -> bytes:
        """The content at an address. Raises InvalidInput when it may not be opened, or is not to be had."""
        parts, port = _split(url)
        host = (parts.hostname or "").rstrip(".")
        if not any(rule.covers(host, port, parts.scheme) for rule in self._rules):
            raise InvalidInput(f"this server does not open addresses of the host {host!r} and port {port}")
        addresses = self._resolve(host, port)
        from http.client import HTTPException  # here, as in `_fetch`: most servers never need it

        connection: list[socket.socket] = []
        # ends whatever waits for the other side, however slowly that sends
        guard = threading.Timer(max(self._end - time.monotonic(), 0.0), _shut, [connection])
        guard.daemon = True
        guard.start()
        try:
            return self._fetch(parts, host, port, addresses, connection)
        except InvalidInput:
            raise
        except (OSError, HTTPException, ValueError) as error:  # the last one from a socket that the guard has closed
            self._check_time()
            raise InvalidInput(f"the address at {host!r} cannot be read ({type(error).__name__})") from None
        finally:
            guard.cancel()
            _shut(connection)

    def _resolve(self, host: str, port: int) -> list[str]:
        """The addresses to connect to. Raises InvalidInput when one of the host's is not to be reached from here."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise InvalidInput(f"the host {host!r} is not known") from None
        numbers = [str(entry[4][0]) for entry in found]
        for number in numbers:
            address = _read_address(number)
            if address is None or not (_is_public(address) or any(rule.has(address, port) for rule in self._rules)):
                raise InvalidInput(f"this server does not open addresses of the host {host!r}: it is not a public one")
        return numbers

    def _connect(self, addresses: Sequence[str], port: int) -> socket.socket:
        *others, last = addresses
        for address in others:
            with contextlib.suppress(OSError):  # the next one may answer
                return socket.create_connection((address, port), self._time_left())
        return socket.create_connection((last, port), self._time_left())

    def _fetch(
        self, parts: SplitResult, host: str, port: int, addresses: Sequence[str], kept: list[socket.socket]
    ) -> bytes:
        import http.client

        kept.append(self._connect(addresses, port))
        if parts.scheme == "https":
            import ssl

            context = ssl.create_default_context()
            secured = context.wrap_socket(kept[0], server_hostname=host, do_handshake_on_connect=False)
            kept.append(secured)  # before anything is waited for
            secured.do_handshake()
        connection = http.client.HTTPConnection(host, None if port == _PORTS[parts.scheme] else port)
        connection.sock = kept[-1]  # the address that was checked: a name could stand for another one now
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"accept-encoding": "identity", "connection": "close", "user-agent": f"onnxpipe/{__version__}"}
        connection.request("GET", target, headers=headers)
        with connection.getresponse() as response:
            return self._receive(response, host)

    def _receive(self, response: Any, host: str) -> bytes:  # http.client is imported where it is used
        if response.status != 200:
            told = "a redirect, which is not followed" if 300 <= response.status < 400 else f"status {response.status}"
            raise InvalidInput(f"the address at {host!r} answered with {told}")
        if response.getheader("content-encoding", "identity").lower() != "identity":
            raise InvalidInput(f"the address at {host!r} answered with compressed content, which was not asked for")
        if (response.length or 0) > self._left:
            raise self._too_large(host)
        chunks = []
        while chunk := response.read1(min(_CHUNK_BYTES, self._left + 1)):
            self._check_time()
            if len(chunk) > self._left:
                raise self._too_large(host)
            self._left -= len(chunk)
            chunks.append(chunk)
        if response.length:
            raise InvalidInput(f"the address at {host!r} ended {response.length} bytes too early")
        self._check_time()
        return b"".join(chunks)

    def _too_large(self, host: str) -> InvalidInput:
        return InvalidInput(f"the address at {host!r} has too much: at most {self._max_bytes} bytes are read a request")

    def _time_left(self) -> float:
        self._check_time()
        return self._end - time.monotonic()

    def _check_time(self) -> None:
        current_ticket().check()
        if time.monotonic() >= self._end:
            raise DeadlineExceeded(f"what the request names could not be read in {self._seconds:g} s")


def _shut(connection: list[socket.socket]) -> None:
    """Close what there is, so that those who wait for it stop."""
    for one in connection:
        with contextlib.suppress(OSError):  # closed already
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def _split(url: str) -> tuple[SplitResult, int]:
    """The parts of an http or https URL, and its port. Raises InvalidInput."""
    if len(url) > _LONGEST or not (url.isascii() and url.isprintable()) or " " in url:
        raise InvalidInput(f"expected an address of at most {_LONGEST} ASCII characters, given {len(url)} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"expected an http or https address, given one that is wrong: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise InvalidInput(f"expected an http or https address, given the scheme {parts.scheme!r}")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("expected an address without a user's name or password")
    return parts, _PORTS[parts.scheme] if port is None else port


def _read_rule(entry: str) -> Rule:
    with contextlib.suppress(ValueError):  # then it has a port, or is a name
        return Rule(network=ipaddress.ip_network(entry))
    try:
        parts = urlsplit(f"//{entry}")
        name, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidInput(f"{_EXPECTED}, given {entry!r} ({error})") from None
    if parts.netloc != entry or "@" in entry:
        raise InvalidInput(f"{_EXPECTED}, given {entry!r}")
    if (address := _read_address(name)) is not None:
        return Rule(network=ipaddress.ip_network(address), port=port)
    if not _HOST.fullmatch(name):
        raise InvalidInput(f"{_EXPECTED}, given {entry!r}")
    return Rule(name=name, port=port)


def _read_address(text: str) -> Address | None:
    """The IP address in a text, without a zone, and that of IPv4 that one of IPv6 stands for; None when it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
