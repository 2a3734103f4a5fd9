"""What the service is told by its environment; docs/settings.md is the same list for people."""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Le
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from db.errors import StockshiftError

PREFIX = "STOCKSHIFT_"
TEST_PREFIX = "STOCKSHIFT_TEST_"
LEAST_SECRET_BYTES = 32
_HOST_PATTERN = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_HIDDEN = {"jwt_secret", "jwks_url"}
_SHOWN_LENGTH = 60


class SettingsError(StockshiftError):
    """A setting is wrong: see docs/settings.md."""


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class Settings(BaseSettings):
    """One reading of the environment. The addresses of databases and keys stay out of its repr."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,  # compose files pass VARIABLE= for what is not set
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: str | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        repr=False,
        description="The shop's database, `postgres://` or `postgresql://`. "
        "Unset: an embedded server under `STOCKSHIFT_DATA`",
    )
    direct_url: str | None = Field(
        default=None,
        validation_alias="DIRECT_URL",
        repr=False,
        description="The unpooled connection, for migrations and notifications. Unset: `DATABASE_URL`",
    )
    replica_url: str | None = Field(
        default=None,
        validation_alias="DATABASE_REPLICA_URL",
        repr=False,
        description="A streaming replica of `DATABASE_URL`, which answers queries while it is near enough. Unset: none",
    )
    jwt_secret: SecretStr | None = Field(
        default=None,
        description="The secret that tokens are signed with (HS256, HS384, HS512), at least 32 bytes. "
        "Give this or `STOCKSHIFT_JWKS_URL`",
    )
    jwks_url: str | None = Field(
        default=None,
        repr=False,
        description="Where the identity provider publishes its public keys (RS, PS, ES, EdDSA). "
        "Use `https://` beyond one machine",
    )
    jwt_issuer: str | None = Field(default=None, description="The `iss` a token must have. Unset: any")
    jwt_audience: str | None = Field(
        default=None, description="The `aud` a token must have. Unset: a token made for somebody (`aud`) is refused"
    )
    data: Path = Field(default=Path(".stockshift"), description="Where the embedded server keeps its files")
    host: str = Field(default="127.0.0.1", description="The address to listen on; `0.0.0.0` for every one")
    port: int = Field(default=8000, ge=0, le=65_535, description="The port to listen on; 0 for any free one")
    workers: int = Field(default=1, ge=1, description="How many processes serve")
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)] = Field(
        default="info", description="The least that is logged: `debug`, `info`, `warning`, `error`, `critical`"
    )
    log_format: Annotated[Literal["auto", "console", "json"], BeforeValidator(_lower)] = Field(
        default="auto", description="`json` (a line each), `console` (for eyes), `auto`: console on a terminal"
    )
    max_page: int = Field(default=1000, ge=1, description="The most rows a page of a list may ask for")
    max_depth: int = Field(default=12, ge=1, description="How deep a GraphQL document may nest")
    max_aliases: int = Field(default=30, ge=0, description="How many aliases a GraphQL document may have")
    max_tokens: int = Field(default=2000, ge=1, description="How many lexical tokens a GraphQL document may have")
    max_cost: int = Field(
        default=500_000,
        ge=1,
        description="What a GraphQL operation may cost, in objects of its answer; see below",
    )
    trusted_documents: Path | None = Field(
        default=None, description="A JSON file of the only GraphQL documents to execute, see below. Unset: any"
    )
    max_body_bytes: int = Field(
        default=262_144, ge=1, description="The largest request body, or message of a WebSocket, in bytes"
    )
    statement_timeout_ms: int = Field(
        default=10_000, ge=1, le=2**31 - 1, description="After how many ms the database gives up on a statement"
    )
    lock_timeout_ms: int = Field(
        default=2000, ge=1, le=2**31 - 1, description="After how many ms the database gives up waiting for a lock"
    )
    pool_size: int = Field(
        default=10, ge=1, description="The most database connections of one process that read, and the most that write"
    )
    replica_max_lag_ms: int = Field(
        default=1000, ge=1, description="How many ms the replica may be behind; if it is more, the primary answers"
    )
    compare_reads: float = Field(
        default=0,
        ge=0,
        le=1,
        description="What share of item reads also computes the other system's answer and compares: 0 none, 1 all",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)] = Field(
        default=("*",),
        description="Host names the service answers to, separated by commas; "
        "`*` for any, `*.example.com` for all below",
    )

    @field_validator("jwt_secret")
    @classmethod
    def _is_strong(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is None:
            return None
        if secret.get_secret_value().lstrip().startswith("-----BEGIN"):
            raise ValueError("is a PEM key, but a shared secret is meant; for public keys set STOCKSHIFT_JWKS_URL")
        size = len(secret.get_secret_value().encode())
        if size < LEAST_SECRET_BYTES:
            raise ValueError(
                f"has {size} bytes and can be guessed; it needs at least {LEAST_SECRET_BYTES}: "
                "make one with `openssl rand -hex 32` or "
                "`python3 -c 'import secrets; print(secrets.token_hex(32))'`"
            )
        return secret

    @field_validator("jwks_url")
    @classmethod
    def _is_fetchable(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError("should be like https://identity.example.com/jwks.json, without user or password")
        return url

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if not hosts or not all(map(_HOST_PATTERN.fullmatch, hosts)):
            raise ValueError("should be *, or names and *.example.com between commas, without scheme or port")
        return hosts

    @model_validator(mode="after")
    def _has_one_kind_of_key(self) -> "Settings":
        if self.jwt_secret is not None and self.jwks_url is not None:
            raise ValueError(
                "STOCKSHIFT_JWT_SECRET and STOCKSHIFT_JWKS_URL are both set, which leaves open who may sign: "
                "unset one of them"
            )
        return self


def variable(field: str) -> str:
    """The environment variable of a field of Settings."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def load_settings(**overrides: Any) -> Settings:
    """The settings of the environment, with `overrides` by field name on top; one that is None is not given.

    SettingsError: a variable is unknown, or a value is not allowed.
    """
    _refuse_unknown({name.upper() for name in os.environ})
    aliases = {name: field.validation_alias for name, field in Settings.model_fields.items()}
    given = {str(aliases[name] or name): value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(map(_explain, error.errors()))) from None


def _refuse_unknown(names: set[str]) -> None:
    if "STOCKSHIFT_SERVICE_HOST" in names:
        raise SettingsError(
            "STOCKSHIFT_SERVICE_HOST is set: Kubernetes does so for a Service named stockshift, and its "
            "variables collide with the settings; put enableServiceLinks: false in the pod's spec"
        )
    known = [variable(field) for field in Settings.model_fields]
    for name in sorted(names):
        if not name.startswith(PREFIX) or name.startswith(TEST_PREFIX) or name in known:
            continue
        bare = name.removeprefix(PREFIX)
        close = [bare] if bare in known else get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "docs/settings.md has all there are"
        raise SettingsError(f"{name} is set, but there is no such setting: {hint}")


def _explain(error: ErrorDetails) -> str:
    """One wrong value, as a line: the variable, the value unless it could be a secret, what is allowed."""
    cause = error.get("ctx", {}).get("error")
    problem = str(cause) if cause else error["msg"].removeprefix("Input ")
    if not error["loc"]:
        return problem
    location = str(error["loc"][0])
    if location not in Settings.model_fields:
        return f"{location} {problem}"  # an address of a database, named by its alias
    kind = Settings.model_fields[location].annotation
    if kind is int:
        problem = _whole_number(location)
    elif kind is float:
        problem = "should be a number, 0 to 1"
    if location in _HIDDEN:
        return f"{variable(location)} {problem}"
    value = str(error["input"])
    shown = value if len(value) <= _SHOWN_LENGTH else value[:_SHOWN_LENGTH] + "…"
    return f"{variable(location)}={shown!r} {problem}"


def _whole_number(field: str) -> str:
    limits = Settings.model_fields[field].metadata
    least = next(limit.ge for limit in limits if isinstance(limit, Ge))
    most = next((limit.le for limit in limits if isinstance(limit, Le)), None)
    return f"should be a whole number, {least} {'or more' if most is None else f'to {most}'}"
