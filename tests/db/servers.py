"""Servers that a test wants beside the embedded one: PostgreSQL with TLS and TCP, and PgBouncer."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from db.url import DatabaseUrl
from tests.support import missing

PASSWORD = "p@ss w:rd/?#%"
KEY_PASSWORD = "k#y"


def free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


@dataclass(frozen=True)
class Folder:
    """A folder of the account that servers run as, who must not be root."""

    path: Path
    uid: int

    def write(self, name: str, content: bytes | str) -> Path:
        file = self.path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        os.chown(file, self.uid, -1)
        file.chmod(0o600)
        return file

    def run(self, *command: str | Path) -> None:
        user = self.uid if os.geteuid() == 0 else None
        with (self.path / "log").open("ab") as log:
            subprocess.run(command, user=user, check=True, stdout=log, stderr=log, cwd=self.path, timeout=120)


@contextmanager
def folder(uid: int) -> Iterator[Folder]:
    with tempfile.TemporaryDirectory(prefix="stockshift-", ignore_cleanup_errors=True) as path:
        os.chown(path, uid, -1)
        yield Folder(Path(path), uid)


class Authority:
    """A certificate authority for one test."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test Authority")])
        self.certificate = self.sign(self.name, self.key, names=(), authority=True)

    def sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, names: Sequence[str], authority: bool = False
    ) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(
                issuer_name=self.name,
                subject_name=subject,
                public_key=key.public_key(),
                serial_number=x509.random_serial_number(),
                not_valid_before=now - timedelta(days=1),
                not_valid_after=now + timedelta(days=1),
            )
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, common_name: str, *, password: str | None = None) -> tuple[bytes, bytes]:
        """Certificate and key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        encryption = (
            serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        )
        return self.sign(subject, key, names=[common_name]), key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )


@dataclass(frozen=True)
class TlsServer:
    """PostgreSQL with TCP and TLS; its certificate is for localhost and not for 127.0.0.1.

    Users: shop (TLS or not), tls (TLS only), plain (no TLS), certified (by the client's certificate).
    """

    programs: Path
    home: Folder
    port: int

    @property
    def root(self) -> Path:
        return self.home.path / "root.crt"

    def control(self, action: str) -> None:
        self.home.run(self.programs / "pg_ctl", "-D", self.home.path / "data", "-w", "-t", "60", "-m", "fast", action)


HBA = """
local   all all                        trust
hostssl all certified 127.0.0.1/32     cert
hostssl all tls       127.0.0.1/32     scram-sha-256
hostnossl all plain   127.0.0.1/32     scram-sha-256
host    all shop      127.0.0.1/32     scram-sha-256
"""


def tls_programs() -> Path:
    """The programs of a PostgreSQL which was built with TLS: a system's, as the embedded one has none."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not places:
        missing("a PostgreSQL with TLS in /usr/lib/postgresql")
    return places[0]


@contextmanager
def tls_server() -> Iterator[TlsServer]:
    programs = tls_programs()
    uid = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else os.geteuid()
    with folder(uid) as home:
        authority = Authority()
        certificate, key = authority.issue("localhost")
        home.write("root.crt", authority.certificate)
        home.write("server.crt", certificate)
        home.write("server.key", key)
        for name, content in zip(
            ("client.crt", "client.key"), authority.issue("certified", password=KEY_PASSWORD), strict=True
        ):
            home.write(name, content)
        server = TlsServer(programs, home, free_port())
        home.run(programs / "initdb", "-D", home.path / "data", "-U", "postgres", "--no-sync", "-A", "trust")
        home.write("data/pg_hba.conf", HBA)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": server.port,
            "unix_socket_directories": home.path,
            "ssl": "on",
            "ssl_ca_file": server.root,
            "ssl_cert_file": home.path / "server.crt",
            "ssl_key_file": home.path / "server.key",
            "fsync": "off",
        }
        home.write("data/postgresql.auto.conf", "".join(f"{name} = '{value}'\n" for name, value in settings.items()))
        server.control("start")
        try:
            users = "; ".join(
                f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'" for user in ("shop", "tls", "plain", "certified")
            )
            home.run(programs / "psql", "-h", home.path, "-p", str(server.port), "-U", "postgres", "-c", users)
            yield server
        finally:
            server.control("stop")


@contextmanager
def pgbouncer(url: DatabaseUrl, *, connections: int = 1) -> Iterator[int]:
    """PgBouncer in transaction mode with so many connections to the database of `url`, used in turn; its port."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        missing("pgbouncer")
    ((host, port),) = url.hosts
    # A socket may be reached by the account that owns it alone.
    account = Path(host).stat().st_uid if host.startswith("/") else pwd.getpwnam("nobody").pw_uid
    uid = account if os.geteuid() == 0 else os.geteuid()
    own_port = free_port()
    target = {"host": host, "port": port, "user": url.user, "password": url.password}
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": own_port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": connections,
        "server_round_robin": 1,
    }
    with folder(uid) as home:
        database = " ".join(f"{name}='{value}'" for name, value in target.items() if value)
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        file = home.write("pgbouncer.ini", f"[databases]\n{url.database} = {database}\n[pgbouncer]\n{lines}")
        process = subprocess.Popen(
            [str(program), str(file)],
            user=uid if os.geteuid() == 0 else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_listening(own_port)
            yield own_port
        finally:
            process.kill()
            process.wait()


def wait_until_listening(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")
