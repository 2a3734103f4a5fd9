"""A database URL as a shop has it, with everything its ORM and its host put into it."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from db.errors import StockshiftError
from db.parameters import REFUSED, UNDERSTOOD

SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg")
OTHER_SCHEMES = {
    "prisma": "it is the address of Prisma Accelerate, not of a PostgreSQL server; give the direct URL of the "
    "database (Prisma's DIRECT_URL), which starts with postgresql://",
    "prisma+postgres": "it is the address of Prisma's own proxy, not of a PostgreSQL server; give the direct URL "
    "of the database (Prisma's DIRECT_URL), which starts with postgresql://",
}
ENCODE = "write @ : / ? # % inside a user, password or value percent-encoded (%40 %3A %2F %3F %23 %25)"
PUBLIC_SEARCH_PATHS = ("public", '"$user",public')
# What PgBouncer keeps for each of its clients; any other session setting would reach a stranger's connection.
PGBOUNCER_KEEPS = ("application_name", "client_encoding", "datestyle", "standard_conforming_strings", "timezone")


class InvalidDatabaseUrl(StockshiftError):
    """The database URL cannot be used: give one like postgresql://user:password@host:5432/database."""


@dataclass(frozen=True, repr=False)
class DatabaseUrl:
    """A checked database URL.

    `hosts` are (name, address or absolute socket directory; port), in the order to try them; none means the
    places where a local server listens. `parameters` are those of db.parameters.UNDERSTOOD, decoded and checked,
    without host, port, user, password and dbname, which are fields. str() and repr() show no secret.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None
    database: str
    parameters: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "DatabaseUrl":
        """Raises InvalidDatabaseUrl, which names what was wrong, and never a password."""
        scheme, rest = split_scheme(unwrap(text))
        if scheme not in SCHEMES:
            why = OTHER_SCHEMES.get(scheme, "write postgresql:// there")
            raise InvalidDatabaseUrl(f"A database URL cannot start with {scheme}://: {why}.")
        authority, path, query = split_parts(rest)
        login, _, places = authority.rpartition("@")
        user, _, password = login.partition(":")
        parameters = read_parameters(query)
        database = parameters.pop("dbname", None) or decode(path, "database name")
        if not database:
            raise InvalidDatabaseUrl(
                "The database URL names no database: add its name after the host, as in postgresql://host/shop."
            )
        url = cls(
            hosts=read_hosts(places, parameters.pop("host", None), parameters.pop("port", None)),
            user=parameters.pop("user", None) or decode(user, "user") or None,
            password=parameters.pop("password", None) or decode(password, "password") or None,
            database=database,
            parameters=tuple(parameters.items()),
        )
        url.check_together()
        return url

    def with_database(self, name: str) -> "DatabaseUrl":
        return replace(self, database=name)

    def parameter(self, name: str) -> str | None:
        return dict(self.parameters).get(name)

    def number(self, name: str) -> int | None:
        value = self.parameter(name)
        return None if value is None else int(value)

    def flag(self, name: str) -> bool:
        return self.parameter(name) == "true"

    @property
    def application_name(self) -> str | None:
        """The name under which the shop's application runs; Stockshift runs under its own."""
        return self.parameter("application_name") or self.parameter("fallback_application_name")

    @property
    def pooled(self) -> bool:
        """PgBouncer in transaction mode stands between: nothing may be kept in a session."""
        return self.flag("pgbouncer") or any(host.partition(".")[0].endswith("-pooler") for host, _ in self.hosts)

    @property
    def settings(self) -> Mapping[str, str]:
        """What `options` sets with -c, by name in lower case."""
        return read_options(self.parameter("options") or "")[0]

    @property
    def routing(self) -> str:
        """What `options` tells the host's proxy (Neon's endpoint=..., project=...)."""
        return " ".join(read_options(self.parameter("options") or "")[1])

    @property
    def verifies_server(self) -> bool:
        """The server must prove by its certificate who it is, beyond what sslmode says."""
        return self.parameter("channel_binding") == "require" or self.parameter("sslaccept") == "strict"

    def check_together(self) -> None:
        """What is wrong only in company."""
        given = dict(self.parameters)
        mode = given.get("sslmode", "prefer")
        if self.verifies_server and mode == "disable":
            wish = "sslaccept=strict" if given.get("sslaccept") == "strict" else "channel_binding=require"
            raise InvalidDatabaseUrl(f"sslmode=disable and {wish} contradict each other: remove one of them.")
        if given.get("channel_binding") == "require" and any(host.startswith("/") for host, _ in self.hosts):
            raise InvalidDatabaseUrl(
                "channel_binding=require needs TLS, which a socket directory does not have: "
                "remove channel_binding, or name the server's host."
            )
        if given.get("sslaccept") == "accept_invalid_certs" and (
            mode.startswith("verify") or self.verifies_server or "sslrootcert" in given
        ):
            raise InvalidDatabaseUrl(
                "sslaccept=accept_invalid_certs contradicts the parameter that has the certificate verified "
                "(sslmode=verify-*, sslrootcert or channel_binding=require): remove one of them."
            )
        if ("sslcert" in given) != ("sslkey" in given):
            raise InvalidDatabaseUrl(
                "sslcert and sslkey belong together, the client's certificate and its key: give both; if the "
                "file is the server's root certificate (Prisma calls it sslcert), call it sslrootcert."
            )
        refused = sorted(set(self.settings) - set(PGBOUNCER_KEEPS)) if self.pooled else []
        if refused:
            raise InvalidDatabaseUrl(
                f"options sets {', '.join(refused)}, which cannot be set through PgBouncer: remove it, "
                "or use the direct URL of the database (pgbouncer=false, at Neon without -pooler)."
            )

    def __str__(self) -> str:
        places = ",".join(f"{place(host)}:{port}" for host, port in self.hosts)
        secret = ":***" if self.password else ""
        login = f"{quote(self.user or '', safe='')}{secret}@" if self.user or self.password else ""
        shown = "&".join(
            f"{name}={'***' if UNDERSTOOD[name].secret else quote(value, safe='/,')}" for name, value in self.parameters
        )
        return f"postgresql://{login}{places}/{quote(self.database, safe='')}{'?' if shown else ''}{shown}"

    def __repr__(self) -> str:
        return f"DatabaseUrl.parse({str(self)!r})"


def unwrap(text: str) -> str:
    """Take off what clings to a URL copied out of an .env file or a shell."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1].strip()
    if not text:
        raise InvalidDatabaseUrl("The database URL is empty: give one like postgresql://host/shop.")
    if not text.isprintable():
        raise InvalidDatabaseUrl("The database URL holds a line break or a control character: remove it.")
    return text


def split_scheme(text: str) -> tuple[str, str]:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.:-]{0,40})://(.*)", text)
    if not found:
        raise InvalidDatabaseUrl(
            "The database URL does not start with postgresql:// (nothing may stand before it, not psql and no "
            "name of a variable): give one like postgresql://user:password@host:5432/database."
        )
    return found[1].lower(), found[2]


def split_parts(rest: str) -> tuple[str, str, str]:
    """Authority, path without its slash, query. A raw @ or # further on is a password that was not encoded."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    tail = rest.removeprefix(authority)
    if "@" in tail or "#" in tail:
        raise InvalidDatabaseUrl(f"The database URL has an @ or a # after the host: {ENCODE}.")
    path, _, query = tail.partition("?")
    path = path.removeprefix("/")
    if "/" in path:
        raise InvalidDatabaseUrl(
            f"The database URL has a second / after the host, in {path!r}: remove it, or write %2F if the "
            "database's name holds it."
        )
    return authority, path, query


def decode(text: str, what: str) -> str:
    """The value is not repeated in an error: it may be a password."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise InvalidDatabaseUrl(f"The {what} in the database URL is not UTF-8 text: {ENCODE}.")
    return decoded


def read_parameters(query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        raw_name, equals, raw_value = pair.partition("=")
        name = decode(raw_name, "name of a parameter")
        if not re.fullmatch(r"\w{1,60}", name):
            raise InvalidDatabaseUrl(f"A parameter of the database URL has no proper name: {ENCODE}.")
        value = decode(raw_value, f"value of {name}")
        check_parameter(name, value if equals else None)
        if value and given.setdefault(name, value) != value:
            raise InvalidDatabaseUrl(f"The database URL gives {name} twice, and differently: keep one of them.")
    return given


def check_parameter(name: str, value: str | None) -> None:
    if name in REFUSED:
        raise InvalidDatabaseUrl(f"The parameter {name} of the database URL is not supported: {REFUSED[name]}.")
    if name not in UNDERSTOOD:
        close = difflib.get_close_matches(name.lower(), UNDERSTOOD, n=1)
        hint = f"did you mean {close[0]}?" if close else "remove it (docs/database-urls.md lists those known)."
        raise InvalidDatabaseUrl(f"The parameter {name} of the database URL is unknown: {hint}")
    known = UNDERSTOOD[name]
    if value is None:
        raise InvalidDatabaseUrl(f"The parameter {name} of the database URL has no value: allowed: {known.allowed}.")
    if value and not known.accepts(value):
        shown = "***" if known.secret else value
        advice = f"; {known.advice}" if known.advice else ""
        raise InvalidDatabaseUrl(
            f"{name}={shown} in the database URL is not accepted, allowed: {known.allowed}{advice}."
        )
    if name == "options" and value:
        read_options(value)


def read_hosts(places: str, host: str | None, port: str | None) -> tuple[tuple[str, int], ...]:
    """Hosts with ports; `host` and `port` of the query stand above the authority's, as in libpq."""
    found = [split_place(item) for item in places.split(",")] if places else []
    names = [name for name, _ in found]
    ports = [own for _, own in found]
    if host is not None:
        names = host.split(",")
        ports = ports if len(ports) == len(names) else [None] * len(names)
    if port is not None:
        listed: list[int | None] = [checked_port(item) for item in port.split(",")]
        ports = listed * max(len(names), 1) if len(listed) == 1 else listed
        names = names or ["localhost"]
    if len(names) != len(ports):
        raise InvalidDatabaseUrl(
            f"The database URL names {len(names)} hosts and {len(ports)} ports: give one port for each host, or one."
        )
    if names == [""]:
        return (("localhost", ports[0]),) if ports[0] else ()
    if "" in names:
        raise InvalidDatabaseUrl("The database URL has an empty host in its list: name each host.")
    return tuple((name, own or 5432) for name, own in zip(names, ports, strict=True))


def split_place(item: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^:\[\]]*)(?::(.*))?", item)
    if not found:
        raise InvalidDatabaseUrl(
            "The host in the database URL is not understood: write an IPv6 address in brackets, as in "
            f"postgresql://[::1]:5432/shop; {ENCODE}."
        )
    return decode(found[1].strip("[]"), "host"), checked_port(found[2]) if found[2] else None


def checked_port(text: str) -> int:
    """What stands there may be half a password, so it is not repeated."""
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 0 < int(text) < 65536:
        raise InvalidDatabaseUrl(
            "The port in the database URL is not a number from 1 to 65535; write an IPv6 address in brackets; "
            f"{ENCODE}."
        )
    return int(text)


def read_options(text: str) -> tuple[dict[str, str], list[str]]:
    """Settings of -c and --, and words for a proxy. A backslash keeps a space inside a value."""
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", text)]
    settings: dict[str, str] = {}
    routing: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if re.match(r"(endpoint|project)=.", word):
            routing.append(word)
            continue
        setting = next(remaining, "") if word == "-c" else re.sub(r"^(-c|--)", "", word)
        name, _, value = setting.partition("=")
        if (word == setting) or not re.fullmatch(r"[A-Za-z_][\w.-]*", name) or not value:
            raise InvalidDatabaseUrl(
                "options in the database URL is not understood: allowed: "
                f"{UNDERSTOOD['options'].allowed}; write a space as %20."
            )
        settings[name.lower().replace("-", "_")] = value
    if settings.get("search_path", "public").replace(" ", "") not in PUBLIC_SEARCH_PATHS:
        raise InvalidDatabaseUrl(
            "options in the database URL sets search_path to something else than public: remove it, "
            "Stockshift works on the tables in public."
        )
    return settings, routing


def place(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host and not host.startswith("/") else quote(host, safe="")
