"""The parameters of a database URL: those of libpq, Prisma and Neon that shops really have.

docs/database-urls.md is the reader's side of the two tables; a test keeps them equal.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """What may be said for one parameter: `allowed` in words, `pattern` for the whole value."""

    allowed: str
    pattern: str
    advice: str = ""
    secret: bool = False

    def accepts(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value, re.DOTALL) is not None


def one_of(*values: str, advice: str = "") -> Parameter:
    return Parameter(", ".join(values), "|".join(map(re.escape, values)), advice)


def anything(what: str, *, secret: bool = False) -> Parameter:
    return Parameter(what, ".+", secret=secret)


FLAG = one_of("true", "false")
ANY_NUMBER = r"\d{1,9}"
SECONDS = Parameter("seconds, 0 for no limit", ANY_NUMBER)
PROTOCOL = one_of("TLSv1.2", "TLSv1.3")

UNDERSTOOD = {
    # where and who
    "host": anything("host names, addresses or socket directories, comma-separated"),
    "port": Parameter("1 to 65535, comma-separated", r"\d{1,5}(,\d{1,5})*"),
    "user": anything("text"),
    "password": anything("text", secret=True),
    "dbname": anything("text"),
    "passfile": anything("a file"),
    "schema": one_of(
        "public",
        advice="Stockshift migrates the tables in public and keeps its own in the schema stockshift; "
        "a shop in another schema cannot be served",
    ),
    "target_session_attrs": one_of("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "load_balance_hosts": one_of("disable", advice="hosts are tried in the order given"),
    # TLS
    "sslmode": one_of(
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
        advice="require encrypts, verify-full also proves that the server is the right one",
    ),
    "channel_binding": one_of("disable", "prefer", "require"),
    "sslrootcert": anything("a file, or system"),
    "sslcert": anything("a file"),
    "sslkey": anything("a file"),
    "sslpassword": anything("text", secret=True),
    "sslaccept": one_of("strict", "accept_invalid_certs"),
    "sslnegotiation": one_of("postgres", "direct"),
    "ssl_min_protocol_version": PROTOCOL,
    "ssl_max_protocol_version": PROTOCOL,
    "sslsni": one_of("1", advice="the host name is always sent"),
    "sslcompression": one_of("0", advice="TLS compression is unsafe and not offered"),
    "gssencmode": one_of(
        "disable", "prefer", advice="encryption by GSSAPI is not available; encrypt with sslmode=require"
    ),
    "uselibpqcompat": FLAG,
    # the pool and its connections
    "pgbouncer": FLAG,
    "connection_limit": Parameter("1 to 9999", r"[1-9]\d{0,3}"),
    "pool_timeout": SECONDS,
    "connect_timeout": SECONDS,
    "socket_timeout": SECONDS,
    "max_connection_lifetime": SECONDS,
    "max_idle_connection_lifetime": SECONDS,
    "single_use_connections": FLAG,
    "statement_cache_size": Parameter("a number of statements, 0 for none", ANY_NUMBER),
    "keepalives": one_of("0", "1"),
    "keepalives_idle": Parameter("seconds, 0 for the system's default", ANY_NUMBER),
    "keepalives_interval": Parameter("seconds, 0 for the system's default", ANY_NUMBER),
    "keepalives_count": Parameter("a number of probes, 0 for the system's default", ANY_NUMBER),
    "tcp_user_timeout": Parameter("milliseconds, 0 for the system's default", ANY_NUMBER),
    # the session
    "application_name": anything("text"),
    "fallback_application_name": anything("text"),
    "client_encoding": one_of("utf8", "UTF8", "utf-8", "UTF-8", "auto", advice="text travels as UTF-8"),
    "options": anything("-c name=value, endpoint=id, project=id; separated by spaces", secret=True),
}

REFUSED = {
    "gsslib": "log-in by GSSAPI is not available; use a password or a client certificate (sslcert, sslkey)",
    "hostaddr": "name the server in host, and let the name service know its address",
    "krbsrvname": "log-in by GSSAPI is not available; use a password or a client certificate (sslcert, sslkey)",
    "replication": "Stockshift needs an ordinary connection; remove the parameter",
    "require_auth": "the driver cannot refuse a method of log-in; use sslmode=verify-full against false servers",
    "requirepeer": "the driver cannot check who owns the socket; protect the socket's directory instead",
    "service": "service files are not read; write host, port, user and database into the URL",
    "ssl": "say sslmode=require (encrypted) or sslmode=verify-full (encrypted, and the server verified)",
    "sslcrl": "revocation lists are not read; remove the parameter, or withdraw the authority from sslrootcert",
    "sslcrldir": "revocation lists are not read; remove the parameter, or withdraw the authority from sslrootcert",
    "sslidentity": "PKCS#12 files are not read; split it with `openssl pkcs12 -nodes -in FILE` into a certificate "
    "and a key, and name these in sslcert and sslkey",
}
