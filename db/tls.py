"""What a database URL says about TLS, in the driver's words."""

import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from db.url import DatabaseUrl, InvalidDatabaseUrl

FILES = ("sslrootcert", "sslcert", "sslkey", "passfile")
# The driver reads these from a DSN only. It knows libpq's rules for them, default files in ~/.postgresql included.
BY_DSN = (
    *FILES,
    "sslmode",
    "sslpassword",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "target_session_attrs",
)


def tls_arguments(url: DatabaseUrl) -> dict[str, Any]:
    """Arguments of asyncpg.connect. Raises InvalidDatabaseUrl for a file that is not there.

    The driver cannot bind the channel (SCRAM-SHA-256-PLUS), which proves who the server is. Where channel_binding is
    required, the server's certificate proves it instead: it is verified although sslmode=require would not.
    """
    given = {name: value for name in BY_DSN if (value := url.parameter(name)) is not None}
    for name in FILES:
        file = given.get(name)
        if file and (name, file) != ("sslrootcert", "system") and not os.access(file, os.R_OK):
            raise InvalidDatabaseUrl(
                f"{name}={file} in the database URL is no file that can be read: correct the path (it is relative "
                f"to {Path.cwd()})."
            )
    verified = url.verifies_server or given.get("sslmode", "").startswith("verify")
    if given.get("sslrootcert") == "system" or (verified and not has_own_root(given)):
        return {"dsn": dsn(given), "ssl": system_verified(given)}
    if url.parameter("sslaccept") == "strict":
        given["sslmode"] = "verify-full"
    elif verified and not given.get("sslmode", "").startswith("verify"):
        given["sslmode"] = "verify-ca"
    return {"dsn": dsn(given)}


def dsn(given: dict[str, str]) -> str:
    return f"postgresql://?{urlencode(given)}" if given else "postgresql://"


def has_own_root(given: dict[str, str]) -> bool:
    """An authority of the shop's own: in the URL, or where libpq looks for one."""
    places = (given.get("sslrootcert"), os.environ.get("PGSSLROOTCERT"))
    return any(places) or (Path.home() / ".postgresql" / "root.crt").exists()


def system_verified(given: dict[str, str]) -> ssl.SSLContext:
    """The server must have a certificate for its host name from an authority that this machine trusts."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    context.minimum_version = protocol(given.get("ssl_min_protocol_version", "TLSv1.2"))
    context.maximum_version = protocol(given.get("ssl_max_protocol_version", "TLSv1.3"))
    if "sslcert" in given:
        context.load_cert_chain(given["sslcert"], given["sslkey"], given.get("sslpassword", ""))
    return context


def protocol(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]
