"""Signing in on the simulator: the person is known, and nothing of the sign-in remains."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app.errors import DefectError, TransientError, UserError
from infra.github.oauth import GitHubSignIn, SignInError
from tests.watching import Heard

BACK = "http://127.0.0.1:9/auth/callback"
VERIFIER = "a-Verifier.of~this_test" * 3
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
async def sign_in(desk: Any) -> AsyncIterator[GitHubSignIn]:
    app = desk.sim.world.app
    made = GitHubSignIn(
        desk.sim.base_url,
        desk.sim.base_url,
        app.client_id,
        app.client_secret,
        watch=Heard(desk.requests),
    )
    yield made
    await made.aclose()


async def agreed(desk: Any, sign_in: GitHubSignIn, login: str = "wim") -> str:
    back = await desk.sim.sign_in(login, sign_in.authorize_url("a state", CHALLENGE, BACK))
    assert back.startswith(BACK)
    told = parse_qs(urlsplit(back).query)
    assert told["state"] == ["a state"]
    return told["code"][0]


def given_away(desk: Any) -> list[str]:
    """The tokens that people gave the App and that still live."""
    return [one.value for one in desk.sim.world.tokens.values() if one.refresh]


async def test_the_person_who_agreed_is_the_person_who_is_told(desk: Any, sign_in: GitHubSignIn) -> None:
    for login in ("ada", "wim", "rita"):
        person = await sign_in.person(await agreed(desk, sign_in, login), VERIFIER, BACK)
        assert (person.login, person.type) == (login, "User")
        assert person.id == desk.sim.account(login).id


async def test_the_token_is_revoked_and_kept_nowhere(desk: Any, sign_in: GitHubSignIn) -> None:
    await sign_in.person(await agreed(desk, sign_in), VERIFIER, BACK)
    assert given_away(desk) == []
    assert desk.requests == [("GET", "/user", 200), ("DELETE", "/applications/{client_id}/token", 204)]
    assert "gh" + "u_" not in repr(vars(sign_in))


async def test_the_token_is_revoked_when_github_does_not_tell_the_person(
    desk: Any, sign_in: GitHubSignIn
) -> None:
    code = await agreed(desk, sign_in)
    desk.fault(method="GET", route="^/user$", kind="status", status=502, times=9)
    with pytest.raises(TransientError):
        await sign_in.person(code, VERIFIER, BACK)
    assert given_away(desk) == []


async def test_a_revocation_that_fails_turns_nobody_away(desk: Any, sign_in: GitHubSignIn) -> None:
    code = await agreed(desk, sign_in)
    desk.fault(method="DELETE", route="/applications/", kind="status", status=502, times=9)
    assert (await sign_in.person(code, VERIFIER, BACK)).login == "wim"


async def test_the_address_is_githubs_with_an_s256_challenge(desk: Any, sign_in: GitHubSignIn) -> None:
    parts = urlsplit(sign_in.authorize_url("s/t&x", CHALLENGE, BACK))
    told = parse_qs(parts.query)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{desk.sim.base_url}/login/oauth/authorize"
    assert told == {
        "client_id": [desk.sim.world.app.client_id],
        "response_type": ["code"],
        "redirect_uri": [BACK],
        "state": ["s/t&x"],
        "code_challenge": [CHALLENGE],
        "code_challenge_method": ["S256"],
    }


async def test_a_code_is_good_once(desk: Any, sign_in: GitHubSignIn) -> None:
    code = await agreed(desk, sign_in)
    await sign_in.person(code, VERIFIER, BACK)
    with pytest.raises(SignInError) as refused:
        await sign_in.person(code, VERIFIER, BACK)
    assert refused.value.reason == "sign_in_refused"
    assert isinstance(refused.value, UserError)


async def test_a_code_without_its_verifier_signs_nobody_in(desk: Any, sign_in: GitHubSignIn) -> None:
    for verifier in ("", "another" * 7, CHALLENGE):
        code = await agreed(desk, sign_in)
        with pytest.raises(SignInError):
            await sign_in.person(code, verifier, BACK)
    assert given_away(desk) == []


async def test_what_is_not_set_up_is_the_operators_to_mend(desk: Any, sign_in: GitHubSignIn) -> None:
    app = desk.sim.world.app
    code = await agreed(desk, sign_in)
    with pytest.raises(DefectError) as refused:
        await sign_in.person(code, VERIFIER, BACK + "/elsewhere")
    assert refused.value.reason == "redirect_uri_mismatch"
    stranger = GitHubSignIn(desk.sim.base_url, desk.sim.base_url, app.client_id, "wrong")
    with pytest.raises(DefectError) as refused:
        await stranger.person(code, VERIFIER, BACK)
    assert refused.value.reason == "incorrect_client_credentials"
    assert "wrong" not in str(refused.value)
    await stranger.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_before"},
        {"kind": "drop_after"},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 429},
    ],
)
async def test_a_github_that_is_away_is_transient_and_the_code_is_not_sent_again(
    desk: Any, sign_in: GitHubSignIn, fault: dict[str, Any]
) -> None:
    code = await agreed(desk, sign_in)
    desk.sim.world.requests.clear()
    desk.fault(method="POST", route="/login/oauth/access_token", times=9, **fault)
    with pytest.raises(TransientError):
        await sign_in.person(code, VERIFIER, BACK)
    assert len(desk.sim.world.requests) == 1


async def test_an_address_without_a_sign_in_is_said(desk: Any) -> None:
    app = desk.sim.world.app
    lost = GitHubSignIn(desk.sim.base_url + "/nowhere", desk.sim.base_url, app.client_id, app.client_secret)
    with pytest.raises(DefectError) as refused:
        await lost.person("code", VERIFIER, BACK)
    assert refused.value.reason == "sign_in_missing"
    await lost.aclose()


async def test_nothing_of_a_sign_in_is_logged(
    desk: Any, sign_in: GitHubSignIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    code = await agreed(desk, sign_in)
    caplog.clear()
    await sign_in.person(code, VERIFIER, BACK)
    with pytest.raises(SignInError) as refused:
        await sign_in.person(code, VERIFIER, BACK)
    said = caplog.text + str(refused.value) + repr(sign_in)
    assert "DELETE" in caplog.text
    for secret in ("gh" + "u_", "gh" + "r_", code, VERIFIER, desk.sim.world.app.client_secret):
        assert secret not in said
