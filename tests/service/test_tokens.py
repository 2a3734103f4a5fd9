import base64
import hashlib
import hmac
import json
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from resolvers.viewer import Role, Viewer
from service.keys import Key, SharedSecret
from service.settings import load_settings
from service.tokens import (
    LEEWAY,
    MAX_TOKEN_BYTES,
    MOST_TRUSTED,
    TRUSTED_SECONDS,
    InvalidToken,
    InvalidTtl,
    NoTokenKeys,
    TokenVerifier,
    issue_token,
    parse_ttl,
)

SECRET = "a-secret-of-tests-that-is-long-enough-for-every-hmac-we-know-of-here"
HOUR = timedelta(hours=1)


def now() -> int:
    return int(time.time())


def signed(changes: Mapping[str, Any] | None = None, *, secret: str = SECRET, algorithm: str = "HS256") -> str:
    """A good token, save for `changes` of its claims; `...` leaves a claim out."""
    claims = {"sub": "ann", "role": "STAFF", "exp": now() + 3600, **(changes or {})}
    return jwt.encode({k: v for k, v in claims.items() if v is not ...}, secret, algorithm=algorithm)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def verifier(**expected: Any) -> TokenVerifier:
    return TokenVerifier.from_settings(load_settings(jwt_secret=SECRET, **expected))


async def refusal(token: str, **expected: Any) -> str:
    """Why the token is refused, in one line that does not repeat it."""
    with pytest.raises(InvalidToken) as caught:
        await verifier(**expected).verify(token)
    message = caught.value.message
    assert message.isprintable()
    assert len(message) < 300
    assert len(token) < 20 or token not in message
    return message


async def test_a_good_token_says_who_bears_it() -> None:
    token = signed({"sub": "ann", "role": "MANAGER", "companyId": "acme"})
    assert await verifier().verify(token) == Viewer("ann", Role.MANAGER, "acme")


@pytest.mark.parametrize("role", Role)
async def test_each_role_is_known_by_its_name(role: Role) -> None:
    assert (await verifier().verify(signed({"role": role.name}))).role is role


@pytest.mark.parametrize("company", [..., None])
async def test_no_company_means_all_companies(company: object) -> None:
    assert (await verifier().verify(signed({"companyId": company}))).company is None


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_each_hmac_is_accepted_with_a_secret_as_long_as_its_hash(algorithm: str) -> None:
    assert await verifier().verify(signed(algorithm=algorithm)) == Viewer("ann", Role.STAFF)


async def test_an_hmac_that_is_too_wide_for_the_secret_is_refused() -> None:
    secret = "s" * 32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        token = signed(secret=secret, algorithm="HS512")
    with pytest.raises(InvalidToken, match="32 bytes"):
        await TokenVerifier.from_settings(load_settings(jwt_secret=secret)).verify(token)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": ...}, 'missing the "exp" claim'),
        ({"exp": "soon"}, "exp"),
        ({"sub": ...}, 'missing the "sub" claim'),
        ({"sub": ""}, "sub is ''"),
        ({"sub": " "}, "sub is ' '"),
        ({"sub": "a\nb"}, r"sub is 'a\nb'"),
        ({"sub": "\ud800"}, r"sub is '\ud800'"),
        ({"role": ...}, "role is absent; allowed are STAFF, MANAGER, ADMIN"),
        ({"role": None}, "role is absent"),
        ({"role": "admin"}, "role is 'admin'"),
        ({"role": "OWNER"}, "role is 'OWNER'"),
        ({"role": "x" * 500}, "role is 'xxx"),
        ({"role": 3}, "role is of type int"),
        ({"role": ["ADMIN"]}, "role is of type list"),
        ({"companyId": ""}, "companyId is ''"),
        ({"companyId": "  "}, "companyId is '  '"),
        ({"companyId": "a\0"}, r"companyId is 'a\x00'"),
        ({"companyId": 0}, "companyId is of type int"),
        ({"companyId": False}, "companyId is of type bool"),
        ({"companyId": []}, "companyId is of type list"),
    ],
)
async def test_a_wrong_claim_is_refused_by_name_and_value(changes: Mapping[str, Any], reason: str) -> None:
    assert reason in await refusal(signed(changes))


async def test_an_expired_token_is_refused_with_when_it_expired() -> None:
    expired = now() - 3600
    assert datetime.fromtimestamp(expired, UTC).isoformat() in await refusal(signed({"exp": expired}))


async def test_a_token_that_expired_in_another_age_is_refused_too() -> None:
    assert "out of any calendar" in await refusal(signed({"exp": -(10**30)}))


async def test_a_token_just_expired_is_accepted_as_clocks_differ() -> None:
    token = signed({"exp": now() - int(LEEWAY.total_seconds()) // 2})
    assert await verifier().verify(token) == Viewer("ann", Role.STAFF)


class CountedSecret(SharedSecret):
    """How often a signature was checked with it."""

    asked = 0

    async def find(self, kid: str | None) -> Key:
        self.asked += 1
        return await super().find(kid)


@pytest.mark.parametrize(("lifetime", "believed"), [(3600, TRUSTED_SECONDS), (10, 10 + LEEWAY.seconds)])
async def test_a_good_token_is_believed_for_a_minute_or_until_it_expires(lifetime: int, believed: int) -> None:
    keys, start = CountedSecret(SECRET), now()
    clock = [start]
    checked = TokenVerifier(keys, clock=lambda: clock[0])
    token = signed({"exp": start + lifetime})
    for later, asked in ((0, 1), (believed - 1, 1), (believed, 2)):
        clock[0] = start + later
        assert await checked.verify(token) == Viewer("ann", Role.STAFF)
        assert keys.asked == asked


async def test_a_refused_token_is_never_believed() -> None:
    keys = CountedSecret(SECRET)
    checked = TokenVerifier(keys)
    for asked in (1, 2):
        with pytest.raises(InvalidToken):
            await checked.verify(signed({"role": "KING"}))
        assert keys.asked == asked


async def test_no_more_tokens_are_remembered_than_a_thousand() -> None:
    keys = CountedSecret(SECRET)
    checked = TokenVerifier(keys)
    tokens = [signed({"sub": f"ann {number}"}) for number in range(MOST_TRUSTED + 1)]
    for token in (*tokens, tokens[-1], tokens[0]):
        await checked.verify(token)
    assert keys.asked == len(tokens) + 1


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_a_token_from_the_future_is_refused_with_when_it_begins(claim: str) -> None:
    begins = now() + 1800
    reason = await refusal(signed({claim: begins}))
    assert datetime.fromtimestamp(begins, UTC).isoformat() in reason
    assert claim in reason


async def test_an_issuer_that_is_set_is_required() -> None:
    expected = {"jwt_issuer": "https://us.example"}
    token = signed({"iss": "https://us.example"})
    assert await verifier(**expected).verify(token) == Viewer("ann", Role.STAFF)
    assert "issuer" in await refusal(signed({"iss": "https://them.example"}), **expected)
    assert "iss" in await refusal(signed(), **expected)


async def test_an_audience_that_is_set_is_required() -> None:
    expected = {"jwt_audience": "stock"}
    assert await verifier(**expected).verify(signed({"aud": ["stock", "x"]})) == Viewer("ann", Role.STAFF)
    assert "udience" in await refusal(signed({"aud": "cash"}), **expected)
    assert "aud" in await refusal(signed(), **expected)


async def test_a_token_for_somebody_is_refused_when_no_audience_is_set() -> None:
    assert "STOCKSHIFT_JWT_AUDIENCE is not set" in await refusal(signed({"aud": "cash"}))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 256, ["HS256"]])
async def test_an_unsigned_token_is_refused(algorithm: object) -> None:
    header = base64url(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    claims = signed().split(".")[1]
    signature = base64url(hmac.digest(SECRET.encode(), f"{header}.{claims}".encode(), hashlib.sha256))
    assert "algorithm is" in await refusal(f"{header}.{claims}.")
    assert "algorithm is" in await refusal(f"{header}.{claims}.{signature}")


async def test_a_token_signed_with_a_private_key_is_refused_where_a_secret_is_set() -> None:
    claims = {"sub": "ann", "role": "ADMIN", "exp": now() + 3600}
    token = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    assert "algorithm is 'ES256'; allowed are HS256" in await refusal(token)


async def test_a_token_signed_with_another_secret_is_refused() -> None:
    assert "signature is wrong" in await refusal(signed(secret="another-secret-" * 5))


async def test_altered_claims_are_refused() -> None:
    header, _, signature = signed().split(".")
    claims = signed({"role": "ADMIN"}).split(".")[1]
    assert "signature is wrong" in await refusal(f"{header}.{claims}.{signature}")


async def test_a_missing_signature_is_refused() -> None:
    assert "signature is wrong" in await refusal(signed().rpartition(".")[0] + ".")


async def test_a_huge_token_is_refused_unread() -> None:
    token = signed({"more": "x" * MAX_TOKEN_BYTES})
    assert f"more than {MAX_TOKEN_BYTES} is not read" in await refusal(token)


async def test_a_header_nested_without_end_is_refused() -> None:
    token = base64url(b"[" * 6000) + "." + signed().partition(".")[2]
    assert len(token) < MAX_TOKEN_BYTES
    assert "not valid" in await refusal(token)


async def test_an_extension_that_must_be_understood_is_refused() -> None:
    token = jwt.encode(
        {"sub": "ann", "role": "STAFF", "exp": now() + 3600},
        SECRET,
        algorithm="HS256",
        headers={"crit": ["x\n" * 300], "x\n" * 300: 1},
    )
    assert "Unsupported critical extension" in await refusal(token)


@settings(deadline=None)  # the machine that tests run on may be busy
@given(st.text(max_size=40) | st.from_regex(r"[\w-]{0,20}\.[\w-]{0,20}\.[\w-]{0,20}") | st.just("\ud800.\ud800.a"))
async def test_whatever_is_no_token_is_refused(text: str) -> None:
    await refusal(text)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", " Bearer "])
async def test_the_header_names_the_bearer_scheme_in_any_case(scheme: str) -> None:
    assert await verifier().viewer(f"{scheme} {signed()}") == Viewer("ann", Role.STAFF)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer{}", "Token {}", "Bearer {} {}"])
async def test_a_header_of_another_form_is_refused_and_not_repeated(header: str) -> None:
    token = signed()
    with pytest.raises(InvalidToken) as caught:
        await verifier().viewer(header.format(token, token))
    assert token not in caught.value.message


async def test_no_header_is_refused_with_what_to_send() -> None:
    with pytest.raises(InvalidToken, match="send 'Authorization: Bearer TOKEN'"):
        await verifier().viewer(None)


def test_there_is_no_verifier_without_keys() -> None:
    with pytest.raises(NoTokenKeys, match="STOCKSHIFT_JWT_SECRET or STOCKSHIFT_JWKS_URL"):
        TokenVerifier.from_settings(load_settings())


async def test_an_issued_token_is_accepted_for_as_long_as_it_was_issued() -> None:
    token = issue_token(SECRET, role=Role.MANAGER, company="acme", ttl=HOUR, subject="bo")
    assert await verifier().verify(token) == Viewer("bo", Role.MANAGER, "acme")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 3600


async def test_a_token_is_issued_for_all_companies_and_for_an_audience() -> None:
    token = issue_token(SECRET, role=Role.ADMIN, company=None, ttl=HOUR, subject="cy", issuer="us", audience="stock")
    assert await verifier(jwt_issuer="us", jwt_audience="stock").verify(token) == Viewer("cy", Role.ADMIN)


@pytest.mark.parametrize(("company", "subject"), [("", "ann"), (None, ""), (None, " ")])
def test_a_token_that_would_be_refused_is_not_issued(company: str | None, subject: str) -> None:
    with pytest.raises(InvalidToken, match="a name is needed"):
        issue_token(SECRET, role=Role.STAFF, company=company, ttl=HOUR, subject=subject)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("1h", HOUR),
        ("7d", timedelta(days=7)),
        ("999999d", timedelta(days=999_999)),
    ],
)
def test_a_time_to_live_is_read(text: str, length: timedelta) -> None:
    assert parse_ttl(text) == length


@pytest.mark.parametrize(
    "text", ["", "1", "h", "0s", "-1h", "1.5h", "1 h", "1w", "1h30m", "1H", "1000000d", "\u0661h", "1h\n"]
)
def test_a_time_to_live_of_another_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(InvalidTtl) as caught:
        parse_ttl(text)
    assert repr(text) in caught.value.message
    assert "90s, 30m, 1h, 7d" in caught.value.message
    assert caught.value.message.isprintable()


async def test_a_token_lives_longer_than_any_calendar() -> None:
    token = issue_token(SECRET, role=Role.STAFF, company=None, ttl=parse_ttl("999999d"), subject="ann")
    assert await verifier().verify(token) == Viewer("ann", Role.STAFF)
