"""What a shop writes as its database URL is understood, or refused by name, and no secret is told."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.parameters import REFUSED, UNDERSTOOD
from db.url import DatabaseUrl, InvalidDatabaseUrl

DOCUMENT = Path(__file__).parents[2] / "docs" / "database-urls.md"
NEON = (
    "postgresql://shop_owner:npg_Secret1@ep-cool-leaf-123456-pooler.us-east-2.aws.neon.tech/shop"
    "?sslmode=require&channel_binding=require"
)


def refusal(text: str) -> str:
    with pytest.raises(InvalidDatabaseUrl) as caught:
        DatabaseUrl.parse(text)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_url_is_taken_apart() -> None:
    url = DatabaseUrl.parse("postgresql://anna:secret@db.example:6543/shop?connection_limit=5&pool_timeout=0")
    assert (url.hosts, url.user, url.password, url.database) == (
        (("db.example", 6543),),
        "anna",
        "secret",
        "shop",
    )
    assert (url.number("connection_limit"), url.number("pool_timeout")) == (5, 0)
    assert url.number("connect_timeout") is None
    assert not url.pooled


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "PostgreSQL"])
def test_the_three_schemes_mean_the_same(scheme: str) -> None:
    assert DatabaseUrl.parse(f"{scheme}://h/shop") == DatabaseUrl.parse("postgresql://h/shop")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prisma://accelerate.prisma-data.net/?api_key=SECRET", "Prisma Accelerate"),
        ("prisma+postgres://localhost:51213/?api_key=SECRET", "Prisma's own proxy"),
        ("mysql://root:SECRET@h/shop", "mysql://"),
        ("jdbc:postgresql://h/shop?password=SECRET", "jdbc:postgresql://"),
        ("postgresql+psycopg2://u:SECRET@h/shop", "postgresql+psycopg2://"),
        ("psql 'postgresql://u:SECRET@h/shop'", "not psql"),
        ("host=h dbname=shop password=SECRET", "does not start with"),
        ("file:./dev.db", "does not start with"),
        ("", "empty"),
        ("''", "empty"),
        ("postgresql://h/sh\nop", "line break"),
    ],
)
def test_what_is_no_postgresql_url_is_refused_by_name(text: str, said: str) -> None:
    assert said in refusal(text)
    assert "SECRET" not in refusal(text)


@pytest.mark.parametrize("wrapped", ["'{}'", '"{}"', "  {}\n", ' "{}" ', "`{}`"])
def test_quotes_and_spaces_of_an_env_file_are_taken_off(wrapped: str) -> None:
    assert DatabaseUrl.parse(wrapped.format(NEON)) == DatabaseUrl.parse(NEON)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(user=TEXT, password=TEXT, database=TEXT)
def test_percent_encoding_carries_any_text(user: str, password: str, database: str) -> None:
    url = DatabaseUrl.parse(
        f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@h/{quote(database, safe='')}"
    )
    assert (url.user, url.password, url.database) == (user, password, database)


@given(password=st.text("ab1@:/?#%&=[],. ", min_size=1))
def test_a_password_that_was_not_encoded_is_never_told(password: str) -> None:
    marked = f"{password}SECRET{password}"
    text = f"postgresql://u:{marked}@h/shop"
    try:
        shown = str(DatabaseUrl.parse(text))
    except InvalidDatabaseUrl as error:
        shown = error.message
    assert "SECRET" not in shown


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("postgresql://h/shop", [("h", 5432)]),
        ("postgresql://[2001:db8::1]:6000/shop", [("2001:db8::1", 6000)]),
        ("postgresql://[::1]/shop", [("::1", 5432)]),
        ("postgresql:///shop?host=::1", [("::1", 5432)]),
        ("postgresql:///shop", []),
        ("postgresql://:6000/shop", [("localhost", 6000)]),
        ("postgresql:///shop?port=6000", [("localhost", 6000)]),
        ("postgresql:///shop?host=/run/pg", [("/run/pg", 5432)]),
        ("postgresql://user@/shop?host=/run/pg&port=5433", [("/run/pg", 5433)]),
        ("postgresql://u:p@localhost/shop?host=/cloudsql/p:r:i", [("/cloudsql/p:r:i", 5432)]),
        ("postgresql://u:p@localhost:6000/shop?host=/run/pg", [("/run/pg", 6000)]),
        ("postgresql://%2Frun%2Fpg/shop", [("/run/pg", 5432)]),
        ("postgresql://%2Frun%2Fpg:5433/shop", [("/run/pg", 5433)]),
        ("postgresql://a:1,b:2/shop", [("a", 1), ("b", 2)]),
        ("postgresql://a,[::1]:2/shop", [("a", 5432), ("::1", 2)]),
        ("postgresql:///shop?host=a,b&port=7", [("a", 7), ("b", 7)]),
        ("postgresql:///shop?host=a,b&port=7,8", [("a", 7), ("b", 8)]),
    ],
)
def test_hosts_are_names_addresses_and_socket_directories(text: str, hosts: list[tuple[str, int]]) -> None:
    url = DatabaseUrl.parse(text)
    assert list(url.hosts) == hosts
    assert DatabaseUrl.parse(str(url)).hosts == url.hosts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("postgresql://h", "names no database"),
        ("postgresql://h/", "names no database"),
        ("postgresql://h?sslmode=require", "names no database"),
        ("postgresql://h/shop/", "second /"),
        ("postgresql://h:0/shop", "not a number from 1 to 65535"),
        ("postgresql://h:70000/shop", "not a number from 1 to 65535"),
        ("postgresql://::1/shop", "in brackets"),
        ("postgresql://[::1/shop", "in brackets"),
        ("postgresql://a,,b/shop", "empty host"),
        ("postgresql://a,b/shop?port=1,2,3", "2 hosts and 3 ports"),
        ("postgresql://u:%ff@h/shop", "password in the database URL is not UTF-8"),
        ("postgresql://u@h/sh%00op", "database name in the database URL is not UTF-8"),
    ],
)
def test_a_malformed_place_is_refused_with_what_to_do(text: str, said: str) -> None:
    assert said in refusal(text)


def test_user_password_and_database_may_stand_in_the_query() -> None:
    url = DatabaseUrl.parse("postgresql://h/?user=anna&password=a%40b&dbname=shop")
    assert (url.user, url.password, url.database) == ("anna", "a@b", "shop")


def test_the_default_url_of_neon_is_taken() -> None:
    url = DatabaseUrl.parse(NEON)
    assert url.pooled
    assert url.verifies_server
    assert url.hosts == (("ep-cool-leaf-123456-pooler.us-east-2.aws.neon.tech", 5432),)
    assert not DatabaseUrl.parse(NEON.replace("-pooler", "")).pooled


def test_pgbouncer_true_means_a_pooler() -> None:
    assert DatabaseUrl.parse("postgresql://h/shop?pgbouncer=true").pooled
    assert not DatabaseUrl.parse("postgresql://h/shop?pgbouncer=false").pooled


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sslmode=on", "sslmode=on"),
        ("sslmode=on", "disable, allow, prefer, require, verify-ca, verify-full"),
        ("sslmode=no-verify", "require encrypts"),
        ("connection_limit=abc", "connection_limit=abc"),
        ("connection_limit=0", "1 to 9999"),
        ("pool_timeout=-1", "seconds, 0 for no limit"),
        ("pgbouncer=1", "true, false"),
        ("schema=shop", "schema=shop"),
        ("schema=shop", "tables in public"),
        ("channel_binding=yes", "disable, prefer, require"),
        ("gssencmode=require", "GSSAPI"),
        ("sslidentity=x.p12", "openssl pkcs12"),
        ("service=shop", "service files"),
        ("ssl=true", "sslmode=require"),
        ("conection_limit=5", "did you mean connection_limit?"),
        ("SSLMODE=require", "did you mean sslmode?"),
        ("zzz=1", "remove it"),
        ("sslmode", "has no value"),
        ("sslmode=require&sslmode=disable", "gives sslmode twice"),
        ("sslmode=disable&channel_binding=require", "contradict"),
        ("sslmode=disable&sslaccept=strict", "contradict"),
        ("sslmode=verify-full&sslaccept=accept_invalid_certs", "contradicts"),
        ("host=/run/pg&channel_binding=require", "channel_binding"),
        ("sslcert=ca.crt", "call it sslrootcert"),
        ("options=statement_timeout", "options"),
        ("options=-c%20statement_timeout", "options"),
        ("options=-c%20search_path%3Dshop", "search_path"),
        ("options=-c%20statement_timeout%3D5s&pgbouncer=true", "statement_timeout"),
        ("application_name=%ff", "value of application_name"),
    ],
)
def test_a_bad_parameter_is_refused_by_name_with_what_is_allowed(query: str, said: str) -> None:
    assert said in refusal(f"postgresql://u:SECRET@h/shop?{query}")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_parameter_that_is_not_supported_says_what_to_do(name: str) -> None:
    assert REFUSED[name] in refusal(f"postgresql://h/shop?{name}=1")


def test_a_parameter_without_text_is_one_that_is_not_given() -> None:
    assert DatabaseUrl.parse("postgresql://h/shop?sslmode=&").parameters == ()


@pytest.mark.parametrize(
    ("options", "settings", "routing"),
    [
        ("-c statement_timeout=5s", {"statement_timeout": "5s"}, ""),
        ("-cstatement_timeout=5s --lock-timeout=1s", {"statement_timeout": "5s", "lock_timeout": "1s"}, ""),
        (r"-c  DateStyle=ISO,\ DMY", {"datestyle": "ISO, DMY"}, ""),
        ("-c search_path=public", {"search_path": "public"}, ""),
        ("endpoint=ep-1", {}, "endpoint=ep-1"),
        ("project=ep-1 -c jit=on", {"jit": "on"}, "project=ep-1"),
    ],
)
def test_options_are_settings_and_words_for_the_proxy(options: str, settings: dict[str, str], routing: str) -> None:
    url = DatabaseUrl.parse(f"postgresql://h/shop?options={quote(options)}")
    assert (url.settings, url.routing) == (settings, routing)


def test_no_secret_is_shown() -> None:
    url = DatabaseUrl.parse(
        "postgresql://anna:SECRET@h/shop?sslcert=c&sslkey=k&sslpassword=SECRET&options=-c%20app.key%3DSECRET"
    )
    assert url.password == "SECRET"
    for shown in (str(url), repr(url), f"{url}", repr([url]), str(url.with_database("x"))):
        assert "SECRET" not in shown
        assert "anna" in shown
        assert "sslcert=c" in shown


def test_another_database_of_the_same_server_is_named() -> None:
    url = DatabaseUrl.parse(NEON)
    other = url.with_database("other")
    assert other.database == "other"
    assert (other.hosts, other.password, other.parameters) == (url.hosts, url.password, url.parameters)


def documented(heading: str) -> dict[str, str]:
    """The first two columns of the tables under a heading."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))


def test_the_document_lists_every_parameter_with_its_values() -> None:
    assert documented("Understood") == {name: known.allowed for name, known in UNDERSTOOD.items()}


def test_the_document_lists_every_refused_parameter_with_what_to_do() -> None:
    assert documented("Refused") == REFUSED
