"""Tokens checked with the public keys of an identity provider: a real HTTP server on this machine."""

import asyncio
import hashlib
import hmac
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from resolvers.viewer import Role, Viewer
from service.keys import KeySet, TokenKeysUnavailable
from service.settings import load_settings
from service.tokens import InvalidToken, TokenVerifier
from tests.service.test_tokens import base64url

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ANN = Viewer("ann", Role.STAFF)


def public(kid: str, key: Any, **members: Any) -> dict[str, Any]:
    """The member of a key set for a private key."""
    family = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm: Any = next((a for kind, a in family.items() if isinstance(key, kind)), OKPAlgorithm)
    return {"kid": kid, **algorithm.to_jwk(key.public_key(), as_dict=True), **members}


def signed(kid: str | None, key: Any = RSA, algorithm: str = "RS256") -> str:
    """A good token, and another one each time: the same one would be believed without a look at its key."""
    claims = {"sub": "ann", "role": "STAFF", "exp": int(time.time()) + 3600, "jti": str(uuid.uuid4())}
    return jwt.encode(claims, key, algorithm=algorithm, headers=None if kid is None else {"kid": kid})


@dataclass
class Provider:
    """An identity provider's server: what it answers can be changed, and `gate` closed to make it hang."""

    keys: list[dict[str, Any]] = field(default_factory=lambda: [public("rsa", RSA)])
    body: bytes | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    url: str = ""
    asked: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.requests += 1
                provider.asked.set()
                provider.gate.wait(timeout=30)
                body = json.dumps({"keys": provider.keys}).encode() if provider.body is None else provider.body
                self.send_response(provider.status)
                for name, value in provider.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Quiet: the output of tests is for failures."""

        return Handler


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    provider.gate.set()
    with ThreadingHTTPServer(("127.0.0.1", 0), provider.handler()) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}/keys"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield provider
        provider.gate.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (RSA, "RS512"), (RSA, "PS384"), (P256, "ES256"), (P384, "ES384"), (ED25519, "EdDSA")],
)
async def test_a_token_of_each_family_is_accepted(provider: Provider, key: Any, algorithm: str) -> None:
    provider.keys = [public("other", OTHER_RSA), public("this", key)]
    verifier = TokenVerifier.from_settings(load_settings(jwks_url=provider.url))
    assert await verifier.verify(signed("this", key, algorithm)) == ANN


async def test_a_secret_made_of_the_public_key_is_refused(provider: Provider) -> None:
    """The classic confusion: everybody knows the public key, so it must never serve as a secret."""
    for secret in (
        RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(public("rsa", RSA)).encode(),
    ):
        header = base64url(json.dumps({"alg": "HS256", "kid": "rsa"}).encode())
        unsigned = f"{header}.{signed('rsa').split('.')[1]}"
        token = f"{unsigned}.{base64url(hmac.digest(secret, unsigned.encode(), hashlib.sha256))}"
        with pytest.raises(InvalidToken, match="algorithm is 'HS256'; allowed are RS256"):
            await TokenVerifier(KeySet(provider.url)).verify(token)
    assert provider.requests == 0


async def test_an_unsigned_token_is_refused_and_nobody_is_asked(provider: Provider) -> None:
    header = base64url(json.dumps({"alg": "none", "kid": "rsa"}).encode())
    with pytest.raises(InvalidToken, match="algorithm is 'none'"):
        await TokenVerifier(KeySet(provider.url)).verify(f"{header}.{signed('rsa').split('.')[1]}.")
    assert provider.requests == 0


async def test_a_shared_secret_in_the_key_set_is_not_used(provider: Provider) -> None:
    secret = "s" * 64
    provider.keys.append({"kid": "oct", "kty": "oct", "alg": "HS256", "k": base64url(secret.encode())})
    verifier = TokenVerifier(KeySet(provider.url))
    with pytest.raises(InvalidToken, match="algorithm is 'HS256'"):
        await verifier.verify(signed("oct", secret, "HS256"))
    with pytest.raises(InvalidToken, match="does not list"):
        await verifier.verify(signed("oct"))


@pytest.mark.parametrize(
    ("members", "kid"), [({"use": "enc"}, "k"), ({"alg": "RSA-OAEP"}, "k"), ({"n": "AQAB!"}, "k"), ({"kid": ""}, "")]
)
async def test_a_key_that_is_not_for_signatures_is_not_used(
    provider: Provider, members: dict[str, Any], kid: str
) -> None:
    provider.keys.append({**public("k", OTHER_RSA), **members})
    with pytest.raises(InvalidToken, match="does not list"):
        await TokenVerifier(KeySet(provider.url)).verify(signed(kid, OTHER_RSA))


async def test_a_key_that_names_its_algorithm_is_held_to_it(provider: Provider) -> None:
    provider.keys = [public("rsa", RSA, alg="RS256")]
    verifier = TokenVerifier(KeySet(provider.url))
    assert await verifier.verify(signed("rsa", RSA, "RS256")) == ANN
    with pytest.raises(InvalidToken, match="alg value is not allowed"):
        await verifier.verify(signed("rsa", RSA, "PS256"))


@pytest.mark.parametrize(
    ("kid", "key", "algorithm"), [("rsa", OTHER_RSA, "RS256"), ("rsa", P256, "ES256"), ("p256", P384, "ES384")]
)
async def test_a_token_that_names_a_key_it_is_not_signed_with_is_refused(
    provider: Provider, kid: str, key: Any, algorithm: str
) -> None:
    provider.keys = [public("rsa", RSA), public("p256", P256)]
    with pytest.raises(InvalidToken):
        await TokenVerifier(KeySet(provider.url)).verify(signed(kid, key, algorithm))


async def test_a_key_too_short_to_be_trusted_is_refused(provider: Provider) -> None:
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - too short is the point
    provider.keys = [public("short", short)]
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = signed("short", short)
    with pytest.raises(InvalidToken, match="1024 bits"):
        await TokenVerifier(KeySet(provider.url)).verify(token)


async def test_a_token_that_names_no_key_is_refused(provider: Provider) -> None:
    with pytest.raises(InvalidToken, match="key \\(kid\\) is absent"):
        await TokenVerifier(KeySet(provider.url)).verify(signed(None))
    assert provider.requests == 0


async def test_nothing_is_fetched_before_the_first_token(provider: Provider) -> None:
    verifier = TokenVerifier(KeySet(provider.url, cooldown=0))
    assert provider.requests == 0
    for _ in range(20):
        await verifier.verify(signed("rsa"))
    assert asyncio.all_tasks() == {asyncio.current_task()}  # no fetch is under way
    assert provider.requests == 1


async def test_tokens_with_made_up_keys_cause_no_storm(provider: Provider) -> None:
    verifier = TokenVerifier(KeySet(provider.url))
    for number in range(50):
        with pytest.raises(InvalidToken, match=f"key \\(kid\\) is 'made-up-{number}'"):
            await verifier.verify(signed(f"made-up-{number}"))
    assert provider.requests == 1


async def test_many_first_tokens_at_once_cause_one_fetch(provider: Provider) -> None:
    verifier = TokenVerifier(KeySet(provider.url, cooldown=0))
    assert await asyncio.gather(*(verifier.verify(signed("rsa")) for _ in range(20))) == [ANN] * 20
    assert provider.requests == 1


async def test_the_loop_runs_on_while_keys_are_fetched_and_a_caller_who_leaves_does_not_end_it(
    provider: Provider,
) -> None:
    provider.gate.clear()
    verifier = TokenVerifier(KeySet(provider.url, cooldown=0))
    leaver = asyncio.create_task(verifier.verify(signed("rsa")))
    assert await asyncio.to_thread(provider.asked.wait, 10)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    stayer = asyncio.create_task(verifier.verify(signed("rsa")))
    provider.gate.set()
    assert await stayer == ANN
    assert provider.requests == 1


async def test_a_known_key_serves_while_its_successors_are_fetched(provider: Provider) -> None:
    verifier = TokenVerifier(KeySet(provider.url, fresh=0, cooldown=0, timeout=30))
    assert await verifier.verify(signed("rsa")) == ANN
    provider.asked.clear()
    provider.gate.clear()
    async with asyncio.timeout(10):
        assert await verifier.verify(signed("rsa")) == ANN
    assert await asyncio.to_thread(provider.asked.wait, 10)
    provider.gate.set()


async def test_a_new_key_of_the_provider_is_found(provider: Provider) -> None:
    verifier = TokenVerifier(KeySet(provider.url, cooldown=0))
    assert await verifier.verify(signed("rsa")) == ANN
    provider.keys = [public("new", OTHER_RSA)]
    assert await verifier.verify(signed("new", OTHER_RSA)) == ANN
    with pytest.raises(InvalidToken, match="'rsa', which its issuer does not list"):
        await verifier.verify(signed("rsa"))


def not_there(provider: Provider) -> None:
    provider.url = "http://127.0.0.1:1/keys"


def failing(provider: Provider) -> None:
    provider.status = 500


def moved(provider: Provider) -> None:
    provider.status, provider.headers = 302, {"Location": provider.url + "/elsewhere"}


def not_json(provider: Provider) -> None:
    provider.body = b"<html>"


def not_text(provider: Provider) -> None:
    provider.body = b"\xff\xfe\xff"


def not_an_object(provider: Provider) -> None:
    provider.body = b"[]"


def without_keys(provider: Provider) -> None:
    provider.body = b'{"keys": {}}'


def with_odd_keys(provider: Provider) -> None:
    provider.body = b'{"keys": [1, {}, {"kid": "rsa"}, {"kid": "rsa", "kty": []}]}'


def cut_short(provider: Provider) -> None:
    provider.headers, provider.body = {"Content-Length": "1000"}, b"{"


@pytest.mark.parametrize(
    "fault",
    [
        not_there, failing, moved, not_json, not_text, not_an_object, without_keys, with_odd_keys, cut_short
    ],
)  # fmt: skip
async def test_keys_that_cannot_be_had_are_a_fault_and_not_the_tokens(
    provider: Provider, fault: Callable[[Provider], None]
) -> None:
    fault(provider)
    verifier = TokenVerifier(KeySet(provider.url + "?key=hunter2"))
    for _ in range(20):
        with pytest.raises(TokenKeysUnavailable) as caught:
            await verifier.verify(signed("rsa"))
        assert f"cannot get the keys of tokens from {provider.url}: " in caught.value.message
        assert "hunter2" not in caught.value.message
        assert caught.value.message.isprintable()
    assert provider.requests == (0 if fault is not_there else 1)


async def test_a_provider_that_does_not_answer_is_given_up(provider: Provider) -> None:
    provider.gate.clear()
    with pytest.raises(TokenKeysUnavailable, match="timed out"):
        await TokenVerifier(KeySet(provider.url, timeout=0.05)).verify(signed("rsa"))


async def test_a_provider_that_comes_back_is_asked_again(provider: Provider) -> None:
    failing(provider)
    verifier = TokenVerifier(KeySet(provider.url, retry=0))
    with pytest.raises(TokenKeysUnavailable):
        await verifier.verify(signed("rsa"))
    provider.status = 200
    assert await verifier.verify(signed("rsa")) == ANN
    with pytest.raises(InvalidToken, match="does not list"):
        await verifier.verify(signed("made-up"))


async def test_keys_serve_on_while_their_provider_is_away(provider: Provider) -> None:
    verifier = TokenVerifier(KeySet(provider.url, fresh=0, cooldown=0, retry=0))
    assert await verifier.verify(signed("rsa")) == ANN
    failing(provider)
    assert await verifier.verify(signed("rsa")) == ANN
    with pytest.raises(TokenKeysUnavailable):
        await verifier.verify(signed("made-up"))
    assert await verifier.verify(signed("rsa")) == ANN


async def test_keys_do_not_serve_for_ever_while_their_provider_is_away(provider: Provider) -> None:
    verifier = TokenVerifier(KeySet(provider.url, fresh=0, kept=1, cooldown=0))
    assert await verifier.verify(signed("rsa")) == ANN
    failing(provider)

    async def use_until_refused() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            await verifier.verify(signed("rsa"))

    with pytest.raises(TokenKeysUnavailable):
        await use_until_refused()
