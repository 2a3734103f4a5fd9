"""TCP keepalive: how a connection to a peer that vanished without a word is noticed."""

import socket
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from db.url import DatabaseUrl

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[Any]
else:
    Connection = asyncpg.Connection  # generic for the type checker only

# Parameter, socket option, default. 0 leaves the option to the system.
OPTIONS = (
    ("keepalives_idle", "TCP_KEEPIDLE", 60),
    ("keepalives_interval", "TCP_KEEPINTVL", 10),
    ("keepalives_count", "TCP_KEEPCNT", 6),
    ("tcp_user_timeout", "TCP_USER_TIMEOUT", 0),
)


def keeping_alive(url: DatabaseUrl) -> type[Connection]:
    """A class of connections whose sockets are set as the URL says. An option the system lacks is left out."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] if url.parameter("keepalives") != "0" else []
    for name, option, default in OPTIONS:
        asked = url.number(name)
        value = default if asked is None else asked
        if value and hasattr(socket, option):
            options.append((socket.IPPROTO_TCP, getattr(socket, option), value))

    class KeptAlive(Connection):
        __slots__ = ()

        def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
            super().__init__(protocol, transport, *rest)
            plug = transport.get_extra_info("socket")
            if plug.family != socket.AF_UNIX:
                for level, option, value in options:
                    plug.setsockopt(level, option, value)

    return KeptAlive
