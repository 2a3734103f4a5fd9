import os
from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, load_settings, variable

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"
PASSWORD = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("STOCKSHIFT_") or name in {"DATABASE_URL", "DIRECT_URL"}:
            monkeypatch.delenv(name)


def default(field: str) -> str:
    value = Settings.model_fields[field].default
    if value is None:
        return "unset"
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


def table_of_settings() -> str:
    rows = [
        f"| `{variable(name)}` | {field.description} | {default(name)} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | meaning | default |", "|---|---|---|", *rows])


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """The one line that `environment` is refused with."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_document_lists_every_setting_with_its_meaning_and_default() -> None:
    lines = DOCUMENT.read_text().splitlines()
    assert "\n".join(line for line in lines if line.startswith("|")) == table_of_settings()


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = load_settings()
    assert (settings.database_url, settings.jwt_secret, settings.data) == (None, None, Path(".stockshift"))
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.allowed_hosts == ("*",)


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = {
        "jwt_secret": "s" * 32,
        "log_level": "DEBUG",
        "log_format": "json",
        "allowed_hosts": "a.example, *.b.example",
        "compare_reads": "0.25",
    }
    for name, field in Settings.model_fields.items():
        if name != "jwks_url":
            monkeypatch.setenv(variable(name), "7" if field.annotation is int else text.get(name, f"the-{name}"))
    settings = load_settings()
    assert settings.jwt_secret is not None
    assert settings.jwt_secret.get_secret_value() == "s" * 32
    assert settings.model_dump(exclude={"jwt_secret"}) == {
        "database_url": "the-database_url",
        "direct_url": "the-direct_url",
        "replica_url": "the-replica_url",
        "jwks_url": None,
        "jwt_issuer": "the-jwt_issuer",
        "jwt_audience": "the-jwt_audience",
        "data": Path("the-data"),
        "trusted_documents": Path("the-trusted_documents"),
        "host": "the-host",
        "log_level": "debug",
        "log_format": "json",
        "allowed_hosts": ("a.example", "*.b.example"),
        "compare_reads": 0.25,
        **{name: 7 for name, field in Settings.model_fields.items() if field.annotation is int},
    }


def test_a_jwks_address_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKSHIFT_JWKS_URL", "https://identity.example/keys")
    assert load_settings().jwks_url == "https://identity.example/keys"


def test_an_override_wins_over_the_environment_and_none_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKSHIFT_PORT", "1")
    monkeypatch.setenv("STOCKSHIFT_HOST", "environment")
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment")
    settings = load_settings(port=2, host=None, database_url="postgresql://override")
    assert (settings.port, settings.host, settings.database_url) == (2, "environment", "postgresql://override")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STOCKSHIFT_PORT", "STOCKSHIFT_JWT_SECRET", "DATABASE_URL"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.port, settings.jwt_secret, settings.database_url) == (8000, None, None)


@pytest.mark.parametrize("value", ["abc", "-1", "65536", "80.5"])
def test_a_wrong_number_is_refused_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    message = refusal(monkeypatch, STOCKSHIFT_PORT=value)
    assert message == f"STOCKSHIFT_PORT='{value}' should be a whole number, 0 to 65535"


def test_a_number_without_an_upper_limit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, STOCKSHIFT_WORKERS="0")
    assert message == "STOCKSHIFT_WORKERS='0' should be a whole number, 1 or more"


def test_a_wrong_choice_is_refused_with_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, STOCKSHIFT_LOG_FORMAT="xml")
    assert message == "STOCKSHIFT_LOG_FORMAT='xml' should be 'auto', 'console' or 'json'"


@pytest.mark.parametrize("value", ["-0.1", "1.01", "nan", "half"])
def test_a_wrong_share_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    message = refusal(monkeypatch, STOCKSHIFT_COMPARE_READS=value)
    assert message == f"STOCKSHIFT_COMPARE_READS={value!r} should be a number, 0 to 1"


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, STOCKSHIFT_PORT="abc", STOCKSHIFT_LOG_LEVEL="loud")
    assert "STOCKSHIFT_PORT='abc'" in message
    assert "STOCKSHIFT_LOG_LEVEL='loud'" in message


@pytest.mark.parametrize("hosts", [",", "https://a.example", "a.example:80", "a.*", "a b"])
def test_what_is_no_host_name_is_refused(monkeypatch: pytest.MonkeyPatch, hosts: str) -> None:
    assert refusal(monkeypatch, STOCKSHIFT_ALLOWED_HOSTS=hosts).startswith(f"STOCKSHIFT_ALLOWED_HOSTS={hosts!r} ")


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("STOCKSHIFT_PROT", "STOCKSHIFT_PORT"),
        ("STOCKSHIFT_JWT_SECRETS", "STOCKSHIFT_JWT_SECRET"),
        ("STOCKSHIFT_DATABASE_URL", "DATABASE_URL"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(
    monkeypatch: pytest.MonkeyPatch, typo: str, meant: str
) -> None:
    message = refusal(monkeypatch, **{typo: PASSWORD})
    assert message == f"{typo} is set, but there is no such setting: did you mean {meant}?"


def test_an_unknown_variable_like_no_other_is_refused_with_where_to_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = refusal(monkeypatch, STOCKSHIFT_XYZZY_QUUX_0123456789="1")
    assert message.endswith("docs/settings.md has all there are")


def test_a_variable_for_tests_is_let_by(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_settings()
    monkeypatch.setenv("STOCKSHIFT_TEST_ANYTHING", "1")
    assert load_settings() == plain


def test_variables_that_kubernetes_makes_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(
        monkeypatch,
        STOCKSHIFT_SERVICE_HOST="10.0.0.7",
        STOCKSHIFT_PORT="tcp://10.0.0.7:80",
        STOCKSHIFT_PORT_80_TCP="tcp://10.0.0.7:80",
    )
    assert "enableServiceLinks: false" in message


def test_a_short_secret_is_refused_with_how_to_make_one_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = refusal(monkeypatch, STOCKSHIFT_JWT_SECRET=PASSWORD)
    assert message.startswith("STOCKSHIFT_JWT_SECRET has 15 bytes")
    assert "openssl rand -hex 32" in message
    assert PASSWORD not in message


def test_a_secret_is_measured_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKSHIFT_JWT_SECRET", "é" * 16)
    assert load_settings().jwt_secret is not None


def test_a_pem_key_as_the_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----"
    message = refusal(monkeypatch, STOCKSHIFT_JWT_SECRET=pem)
    assert "STOCKSHIFT_JWKS_URL" in message
    assert "MCow" not in message


def test_two_kinds_of_keys_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, STOCKSHIFT_JWT_SECRET="s" * 32, STOCKSHIFT_JWKS_URL="https://identity.example/keys")
    assert message.startswith("STOCKSHIFT_JWT_SECRET and STOCKSHIFT_JWKS_URL are both set")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://identity.example/keys",
        "identity.example/keys",
        f"https://user:{PASSWORD}@identity.example/keys",
    ],
)
def test_an_address_of_keys_that_cannot_be_fetched_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    message = refusal(monkeypatch, STOCKSHIFT_JWKS_URL=url)
    assert message.startswith("STOCKSHIFT_JWKS_URL should be like https://")
    assert PASSWORD not in message


def test_no_secret_is_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKSHIFT_JWT_SECRET", PASSWORD * 3)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{PASSWORD}@h/d")
    monkeypatch.setenv("DIRECT_URL", f"postgresql://u:{PASSWORD}@h/d")
    monkeypatch.setenv("DATABASE_REPLICA_URL", f"postgresql://u:{PASSWORD}@h/d")
    settings = load_settings()
    assert PASSWORD not in f"{settings!r} {settings}"
