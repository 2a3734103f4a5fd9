"""A database URL for PostgreSQL's own programs: their environment, which says all that the URL says.

Nothing of it is an argument, which every account of the machine could read. An environment is for the account itself
and for root, as a password file would be; and unlike a file it is gone with the process, however that ends. What libpq
reads from no variable, a key's password among it, is in a service file with mode 0600 for as long as the program runs.
"""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.embedded_binaries import program_environment
from db.tls import has_own_root, tls_arguments
from db.url import DatabaseUrl, InvalidDatabaseUrl

# What the driver takes from our environment where the URL does not say it.
INHERITED = (
    "PGHOST",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGTARGETSESSIONATTRS",
    "HOME",
    "USER",
    "LOGNAME",
)
INHERITED_PREFIX = "PGSSL"
VARIABLES = {
    "passfile": "PGPASSFILE",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "channel_binding": "PGCHANNELBINDING",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "options": "PGOPTIONS",
}
BY_SERVICE_FILE = (
    "sslpassword",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
SERVICE = "stockshift"
SOCKET_FOLDERS = ("/run/postgresql", "/var/run/postgresql", "/var/pgsql_socket", "/private/tmp", "/tmp")  # noqa: S108
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def wants_tls(url: DatabaseUrl) -> bool:
    """The URL lets nobody in without TLS."""
    return (url.parameter("sslmode") or "") in ("require", "verify-ca", "verify-full") or url.verifies_server


@contextmanager
def libpq_environment(url: DatabaseUrl, *, application_name: str, encrypted: bool) -> Iterator[dict[str, str]]:
    """The whole environment of a program that connects as the driver does, and for as long as this.

    `encrypted`: the driver's own connection is, so this one must be too, although the URL only prefers it.
    Raises InvalidDatabaseUrl for a file that is not there.
    """
    tls_arguments(url)
    given = {name: value for name, value in url.parameters if name in VARIABLES} | tls_parameters(url, encrypted)
    inherited = {
        name: value for name, value in os.environ.items() if name in INHERITED or name.startswith(INHERITED_PREFIX)
    }
    environment = {
        **program_environment(),
        **inherited,
        **place(url, inherited),
        **{VARIABLES[name]: value for name, value in given.items()},
        "PGDATABASE": url.database,
        "PGAPPNAME": application_name,
        "PGCLIENTENCODING": "UTF8",
        **{name: value for name, value in (("PGUSER", url.user), ("PGPASSWORD", url.password)) if value is not None},
    }
    lines = [f"{name}={value}" for name in BY_SERVICE_FILE if (value := url.parameter(name)) is not None]
    if not lines:
        yield environment
        return
    with tempfile.NamedTemporaryFile("w", prefix="stockshift-", suffix=".conf") as file:  # mode 0600
        file.write("\n".join([f"[{SERVICE}]", *lines, ""]))
        file.flush()
        yield {**environment, "PGSERVICEFILE": file.name, "PGSERVICE": SERVICE}


def tls_parameters(url: DatabaseUrl, encrypted: bool) -> dict[str, str]:
    """What db.tls tells the driver, in libpq's words."""
    given = dict(url.parameters)
    mode = given.get("sslmode", "")
    verified = url.verifies_server or mode.startswith("verify")
    if given.get("sslrootcert") == "system" or (verified and not has_own_root(given)):
        return {"sslmode": "verify-full", "sslrootcert": system_root()}
    if given.get("sslaccept") == "strict":
        return {"sslmode": "verify-full"}
    if verified and not mode.startswith("verify"):
        return {"sslmode": "verify-ca"}
    return {"sslmode": "require"} if encrypted and mode in ("", "allow", "prefer") else {}


def system_root() -> str:
    """The authorities that this machine trusts. libpq knows the word "system" since PostgreSQL 16, a file always."""
    places = (ssl.get_default_verify_paths().cafile, AUTHORITIES)
    return next((file for file in places if file and Path(file).is_file()), "system")


def place(url: DatabaseUrl, inherited: dict[str, str]) -> dict[str, str]:
    """Host and port; with none said, where the driver looks, whatever folder the program was built for."""
    if url.hosts:
        if any("," in host for host, _ in url.hosts):
            raise InvalidDatabaseUrl("A socket directory with a comma in its name cannot be given to pg_dump: move it.")
        return {
            "PGHOST": ",".join(host for host, _ in url.hosts),
            "PGPORT": ",".join(str(port) for _, port in url.hosts),
        }
    if "PGHOST" in inherited:
        return {}
    socket = f".s.PGSQL.{inherited.get('PGPORT', '5432')}"
    return {"PGHOST": next((folder for folder in SOCKET_FOLDERS if (Path(folder) / socket).exists()), "localhost")}
