"""Why there is no connection, in one line for a person."""

import errno
import socket
import ssl

import asyncpg
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.errors import StockshiftError


class ConnectionFailed(StockshiftError):
    """The database cannot be reached: see that the server runs and that the database URL is right."""


class PoolFull(ConnectionFailed):
    """Every connection of the pool stayed in use: try again, or raise connection_limit or pool_timeout."""


def connection_failed(target: URL, error: Exception) -> ConnectionFailed:
    """`error` is what connecting to `target` raised, or waiting for a connection of the pool."""
    cause = error.driver_exception if isinstance(error, DBAPIError) else error
    reason, advice = (
        explain_refusal(cause, target) if isinstance(cause, asyncpg.PostgresError) else explain_failure(cause)
    )
    kind = PoolFull if isinstance(error, PoolTimeout) else ConnectionFailed
    return kind(f"Cannot connect to {name_of(target)}: {reason}; {advice}.")


def name_of(target: URL) -> str:
    """A database as people call it."""
    return f'the database "{target.database}" at {target.host or "the local socket"}'


def explain_refusal(error: asyncpg.PostgresError, target: URL) -> tuple[str, str]:
    """The server answered, and said no: the reason and what to do."""
    said = one_line(error)
    match error:
        case asyncpg.InvalidPasswordError():
            return (
                f'wrong password for the user "{target.username}"',
                "correct it in the database URL, with characters such as @ : / ? # % percent-encoded",
            )
        case asyncpg.InvalidAuthorizationSpecificationError():
            return said, (
                "correct the user in the database URL, or let the server's administrator admit it from this machine"
            )
        case asyncpg.InvalidCatalogNameError():
            return "there is no such database", "correct its name in the database URL, or create it"
        case asyncpg.TooManyConnectionsError():
            return said, "lower connection_limit in the database URL, or connect through a pooler"
        case asyncpg.CannotConnectNowError():
            return said, "try again in a moment"
        case asyncpg.ProtocolViolationError():
            return said, "if this is PgBouncer, add pgbouncer=true to the database URL"
    return said, "correct the database URL or the server's configuration"


def explain_failure(error: BaseException | None) -> tuple[str, str]:
    """Nobody answered, or nobody to be trusted: the reason and what to do."""
    match error:
        case PoolTimeout():
            return (
                "every connection of the pool is in use",
                "try again, or raise connection_limit or pool_timeout in the database URL",
            )
        case ssl.SSLCertVerificationError():
            return (
                f"TLS failed, the server's certificate is not trusted ({error.verify_message})",
                "name its authority in sslrootcert, or on a safe network say sslmode=require, channel_binding=prefer",
            )
        case ssl.SSLError():
            return (
                f"TLS failed ({one_line(error)})",
                "see that sslcert, sslkey, sslpassword and sslrootcert belong together and the server speaks TLS",
            )
        case socket.gaierror():
            return "the host is unknown", "correct the host in the database URL, or see that the network is up"
        case TimeoutError():
            return (
                "no answer in time",
                "see that the host and port are right and no firewall is between, or raise connect_timeout",
            )
        case FileNotFoundError():
            return "there is no server's socket", "start the server, or correct host and port in the database URL"
        case ConnectionError() if "rejected SSL upgrade" in str(error):
            return "the server does not speak TLS", "switch TLS on there, or say sslmode=prefer in the database URL"
        case OSError() if error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error):
            return (
                "the connection was refused",
                "see that the server runs and listens there, and that host and port are right",
            )
    return one_line(error), "see that the server runs and that the database URL is right"


def one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
