"""Who a bearer token says is calling; docs/decisions/0004-tokens.md says why it is strict."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidSignatureError,
    PyJWTError,
)

from db.errors import StockshiftError
from db.keep import keep
from resolvers.viewer import Role, Viewer
from service.keys import Keys, KeySet, SharedSecret, TokenKeysUnavailable
from service.settings import Settings

__all__ = [
    "InvalidToken",
    "InvalidTtl",
    "NoTokenKeys",
    "TokenKeysUnavailable",
    "TokenVerifier",
    "issue_token",
    "parse_ttl",
]

MAX_TOKEN_BYTES = 8 * 1024
LEEWAY = timedelta(seconds=30)  # clocks of two machines differ
TRUSTED_SECONDS = 60
MOST_TRUSTED = 1_000
LEAST_WAIT_SECONDS = 0.05

_TTL = re.compile(r"([0-9]{1,6})([smhd])")
_TTL_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SHOWN_LENGTH = 100


class InvalidToken(StockshiftError):
    """The token is not valid: ask for a new one."""


class NoTokenKeys(StockshiftError):
    """No token could be checked, so nobody could be let in: set STOCKSHIFT_JWT_SECRET or STOCKSHIFT_JWKS_URL."""


class InvalidTtl(StockshiftError):
    """A time to live is a whole number and s, m, h or d, such as 90s, 30m, 1h or 7d."""


class TokenVerifier:
    """A token that was found good is believed for TRUSTED_SECONDS: to check it costs more than many a query.

    So long may a key that its issuer withdrew still be good here.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._good: dict[str, tuple[Viewer, float]] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> "TokenVerifier":
        """NoTokenKeys: there is neither a secret nor a key set."""
        keys: Keys
        if settings.jwt_secret is not None:
            keys = SharedSecret(settings.jwt_secret.get_secret_value())
        elif settings.jwks_url is not None:
            keys = KeySet(settings.jwks_url)
        else:
            raise NoTokenKeys
        return cls(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience)

    async def viewer(self, authorization: str | None) -> Viewer:
        """Who sent this Authorization header. InvalidToken, TokenKeysUnavailable."""
        return await self.verify(_bearer(authorization))

    async def lapsed(self, authorization: str | None) -> InvalidToken:
        """Waits until the bearer of this Authorization header would be turned away, and answers why."""
        while True:
            wait = float(TRUSTED_SECONDS)
            try:
                _, until = await self._verify(_bearer(authorization))
                wait = until - self._clock()
            except InvalidToken as why:
                return why
            except TokenKeysUnavailable:
                pass  # who was let in stays until it is known that the token is no longer good
            await asyncio.sleep(max(wait, LEAST_WAIT_SECONDS))

    async def verify(self, token: str) -> Viewer:
        """Who bears this token. InvalidToken, TokenKeysUnavailable."""
        viewer, _ = await self._verify(token)
        return viewer

    async def _verify(self, token: str) -> tuple[Viewer, float]:
        """Who bears this token, and until when that is believed."""
        viewer, until = self._good.get(token, (None, 0.0))
        if viewer is not None and self._clock() < until:
            return viewer, until
        claims = await self._verified(token)
        viewer = _viewer(claims)
        expires = int(claims["exp"]) + LEEWAY.seconds
        until = min(self._clock() + TRUSTED_SECONDS, expires)
        keep(self._good, token, (viewer, until), most=MOST_TRUSTED)
        return viewer, until

    async def _verified(self, token: str) -> Mapping[str, Any]:
        """The claims of a token. InvalidToken, TokenKeysUnavailable."""
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken(f"the token has {len(token)} characters, and more than {MAX_TOKEN_BYTES} is not read")
        if not token.isascii():
            raise InvalidToken("the token has characters that no token has: send it as it was issued")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._keys.algorithms:
                raise InvalidToken(
                    f"the token's algorithm is {_shown(header.get('alg'))}; "
                    f"allowed are {', '.join(self._keys.algorithms)}"
                )
            key = await self._keys.find(header.get("kid"))
            if key is None:
                raise InvalidToken(
                    f"the token's key (kid) is {_shown(header.get('kid'))}, which its issuer does not list"
                )
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.material,
                algorithms=list(key.algorithms),
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["exp", "sub"], "enforce_minimum_key_length": True},
            )
        except PyJWTError as error:
            raise InvalidToken(self._reason(error, token)) from None
        return claims

    def _reason(self, error: PyJWTError, token: str) -> str:
        match error:
            case ExpiredSignatureError():
                return f"the token expired at {_time(token, 'exp')}: ask for a new one"
            case ImmatureSignatureError():
                claim = "nbf" if "nbf" in str(error) else "iat"
                return f"the token is not valid before {_time(token, claim)} ({claim}): are the clocks right?"
            case InvalidSignatureError():
                return "the token's signature is wrong: it was altered, or signed with another key"
            case InvalidAudienceError() if self._audience is None:
                return "the token is for somebody else (aud), as STOCKSHIFT_JWT_AUDIENCE is not set"
            case _:
                return f"the token is not valid: {_shown(str(error))}"


def _bearer(authorization: str | None) -> str:
    """The token of an Authorization header. InvalidToken."""
    if authorization is None:
        raise InvalidToken("there is no Authorization header: send 'Authorization: Bearer TOKEN'")
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise InvalidToken("the Authorization header is not of the form 'Bearer TOKEN'")
    return token.lstrip()


def _time(token: str, claim: str) -> str:
    """When a claim of a token, whose signature was found right, says."""
    seconds = jwt.decode(token, options={"verify_signature": False})[claim]
    try:
        return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=int(seconds))).isoformat()
    except OverflowError:
        return "a time out of any calendar"


def _viewer(claims: Mapping[str, Any]) -> Viewer:
    role, company = claims.get("role"), claims.get("companyId")
    if not isinstance(role, str) or role not in Role.__members__:
        raise InvalidToken(f"the token's role is {_shown(role)}; allowed are {', '.join(Role.__members__)}")
    return Viewer(
        subject=_name(claims, "sub"),
        role=Role[role],
        company=None if company is None else _name(claims, "companyId"),
    )


def _name(claims: Mapping[str, Any], claim: str) -> str:
    """A claim that names something: what a database cannot store or a log cannot print is none."""
    value = claims[claim]
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InvalidToken(f"the token's {claim} is {_shown(value)}; a name is needed")
    return value


def _shown(value: object) -> str:
    """A value that a stranger chose, made fit for one line."""
    if value is None:
        return "absent"
    if not isinstance(value, str):
        return f"of type {type(value).__name__}"
    return repr(value if len(value) <= _SHOWN_LENGTH else value[:_SHOWN_LENGTH] + "…")


def issue_token(
    secret: str,
    *,
    role: Role,
    company: str | None,
    ttl: timedelta,
    subject: str,
    issuer: str | None = None,
    audience: str | None = None,
) -> str:
    """A token that a verifier with the same secret, issuer and audience accepts. InvalidToken: it would not be."""
    now = int(time.time())
    claims = {
        "sub": subject,
        "role": role.name,
        "companyId": company,
        "iat": now,
        "exp": now + int(ttl.total_seconds()),
        "iss": issuer,
        "aud": audience,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    _viewer(claims)
    return jwt.encode(claims, secret, algorithm="HS256")


def parse_ttl(text: str) -> timedelta:
    """How long "90s", "30m", "1h" or "7d" is. InvalidTtl."""
    match = _TTL.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise InvalidTtl(
            f"the time to live {_shown(text)} should be a whole number, 1 to 999999, and s, m, h or d: 90s, 30m, 1h, 7d"
        )
    return timedelta(**{_TTL_UNITS[match[2]]: int(match[1])})
