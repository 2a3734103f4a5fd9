"""The keys that tokens are signed with: one shared secret, or the public keys of an identity provider."""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import jwt
import structlog
from jwt.exceptions import PyJWTError

from db.errors import StockshiftError

_PUBLIC_ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}

log = structlog.get_logger(__name__)


class TokenKeysUnavailable(StockshiftError):
    """The keys that tokens are signed with cannot be fetched: try again soon."""


@dataclass(frozen=True)
class Key:
    """What a signature is checked with, and the algorithms it may have been made with."""

    material: Any  # bytes, or a public key of one of several unrelated classes
    algorithms: Collection[str]


class Keys(Protocol):
    @property
    def algorithms(self) -> Collection[str]:
        """Every algorithm that some key may allow."""

    async def find(self, kid: str | None) -> Key | None:
        """The key of this id, None: there is none. TokenKeysUnavailable: that cannot be told now."""


class SharedSecret:
    algorithms = ("HS256", "HS384", "HS512")

    def __init__(self, secret: str) -> None:
        self._key = Key(secret.encode(), self.algorithms)

    async def find(self, kid: str | None) -> Key:
        return self._key


class KeySet:
    """The public keys that an identity provider publishes (JWKS), fetched when first needed.

    All times are in seconds. Keys older than `fresh` are fetched again while they serve on, up to `kept`: a provider
    that is briefly away locks nobody out. Two fetches are `cooldown` apart, or `retry` after one that failed,
    whatever key ids tokens make up.
    """

    algorithms = tuple(name for family in _PUBLIC_ALGORITHMS.values() for name in family)

    def __init__(
        self,
        url: str,
        *,
        fresh: float = 300,
        kept: float = 3600,
        cooldown: float = 30,
        retry: float = 5,
        timeout: float = 5,
    ) -> None:
        # The client's own cache would wait for the network under a lock, and does not space out failed fetches.
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=timeout, headers={"User-Agent": "stockshift"})
        self._where = urlsplit(url)._replace(query="", fragment="").geturl()
        self._fresh, self._kept, self._cooldown, self._retry = fresh, kept, cooldown, retry
        self._keys: Mapping[str, Key] = {}
        self._fetched = self._next_fetch = -float("inf")
        self._failure: str | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> Key | None:
        if kid is None:
            return None
        if key := self._held(kid, self._fresh):
            return key
        if self._fetching is None and time.monotonic() >= self._next_fetch:
            self._fetching = asyncio.create_task(self._fetch())
        if key := self._held(kid, self._kept):
            return key
        if self._fetching is not None:
            await asyncio.shield(self._fetching)  # a caller who hangs up must not make room for another fetch
        key = self._held(kid, self._kept)
        if key is None and self._failure is not None:
            raise TokenKeysUnavailable(self._failure)
        return key

    def _held(self, kid: str, seconds: float) -> Key | None:
        return self._keys.get(kid) if time.monotonic() - self._fetched < seconds else None

    async def _fetch(self) -> None:
        pause = self._retry
        try:
            self._keys = await asyncio.to_thread(self._read)
        except (PyJWTError, OSError, ValueError) as error:
            self._failure = f"cannot get the keys of tokens from {self._where}: {error.__cause__ or error}"
            log.warning(self._failure)
        else:
            pause = self._cooldown
            self._failure = None
            self._fetched = time.monotonic()
        finally:
            self._next_fetch = time.monotonic() + pause
            self._fetching = None

    def _read(self) -> Mapping[str, Key]:
        entries = self._client.fetch_data().get("keys")
        if not isinstance(entries, list):
            raise ValueError('the answer has no list "keys"')  # noqa: TRY004 - an answer, not an argument
        keys = {str(entry["kid"]): key for entry in entries if (key := _public_key(entry))}
        if not keys:
            raise ValueError("no key there has an id and can check a signature")
        return keys


def _public_key(entry: Any) -> Key | None:
    """The key of one member of a JWKS; None if it has no id, is not for signatures or of a kind not supported."""
    if not isinstance(entry, dict) or not entry.get("kid") or entry.get("use", "sig") != "sig":
        return None
    family = _PUBLIC_ALGORITHMS.get(str(entry.get("kty")), ())
    algorithms = [name for name in family if entry.get("alg", name) == name]
    if not algorithms:
        return None
    try:
        return Key(jwt.PyJWK(entry).key, algorithms)
    except PyJWTError:
        return None
