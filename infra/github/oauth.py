"""Signing in with GitHub: who the person is that stands before the browser, and nothing more.

The person's token lives for the two requests that need it and is revoked; none is stored, and none acts for anybody.
https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httpx
import httpx2
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # type: ignore[import-untyped]
from githubkit import TokenAuthStrategy
from githubkit.auth import OAuthAppAuthStrategy

from app.errors import DefectError, InvalidError, MagicodeError, TransientError, UserError
from app.nouns import Account
from app.ports import UNWATCHED, Watch
from infra.github import shapes
from infra.github.calls import Calls, json_of
from infra.github.client import Pooled, client
from infra.github.pace import Spaced
from infra.github.reader import API_VERSION

SECONDS: Final = 15.0
"""For each request: somebody is waiting before a browser."""

_OURS: Final = {
    "incorrect_client_credentials": "GitHub does not know the App by this client id and secret.",
    "redirect_uri_mismatch": "GitHub does not have our address among the App's callback URLs.",
    "application_suspended": "GitHub has suspended the App.",
}
"""https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors"""


class SignInError(UserError):
    """GitHub did not confirm who you are. Sign in once more; a sign-in is good for ten minutes and for one use."""


class GitHubSignIn:
    """Implements app.ports.SignIn. Close it with `aclose` when the process ends.

    `web_url` is where people sign in (`https://github.com`, an Enterprise Server's host, or the simulator), `api_url` where
    the API is.
    """

    def __init__(
        self,
        web_url: str,
        api_url: str,
        client_id: str,
        client_secret: str,
        *,
        watch: Watch = UNWATCHED,
    ) -> None:
        self._web_url = web_url.rstrip("/")
        self._api_url = api_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._watch = watch
        self._trust = httpx2.create_ssl_context()
        self._transport = Pooled(httpx.AsyncHTTPTransport())

    def authorize_url(self, state: str, challenge: str, redirect_uri: str) -> str:
        """Where the person's browser goes. `challenge` is the S256 challenge of a verifier that stays here."""
        uri: str = prepare_grant_uri(
            f"{self._web_url}/login/oauth/authorize",
            client_id=self._client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            state=state,
            code_challenge=challenge,
            code_challenge_method="S256",
        )
        return uri

    async def person(self, code: str, verifier: str, redirect_uri: str) -> Account:
        """Who came back with this code. Raises SignInError, TransientError, and DefectError where the App is not set up."""
        token = await self._exchange(code, verifier, redirect_uri)
        try:
            return await self._whose(token)
        finally:
            await asyncio.shield(asyncio.ensure_future(self._revoke(token)))

    async def aclose(self) -> None:
        await self._transport.close()

    async def _exchange(self, code: str, verifier: str, redirect_uri: str) -> str:
        """Once: a code that was spent by an answer that got lost is spent."""
        try:
            async with AsyncOAuth2Client(
                self._client_id,
                self._client_secret,
                token_endpoint_auth_method="client_secret_post",  # noqa: S106
                verify=self._trust,
                timeout=SECONDS,
                trust_env=False,
            ) as exchange:
                exchange.register_compliance_hook("access_token_response", _with_success)
                answer = await exchange.fetch_token(
                    f"{self._web_url}/login/oauth/access_token",
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                    redirect_uri=redirect_uri,
                )
        except OAuthError as error:
            raise _refused(str(error.error)) from None
        except httpx2.HTTPStatusError as error:
            raise _by_status(error.response.status_code) from None
        except httpx2.HTTPError:
            raise TransientError("GitHub could not be reached.", reason="github_unreachable") from None
        except ValueError:
            raise _unreadable() from None
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise _unreadable()
        return token

    async def _whose(self, token: str) -> Account:
        github = client(TokenAuthStrategy(token), api_url=self._api_url, transport=self._transport)
        answer = await self._calls().read_response(github.rest(API_VERSION).users.async_get_authenticated)
        return shapes.person(json_of(answer))

    async def _revoke(self, token: str) -> None:
        """https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token

        One that cannot be revoked was kept nowhere and ends within eight hours; the person is not turned away for it.
        """
        auth = OAuthAppAuthStrategy(self._client_id, self._client_secret)
        github = client(auth, api_url=self._api_url, transport=self._transport)
        body: Any = {"access_token": token}
        try:
            async with asyncio.timeout(SECONDS):
                await self._calls().read_response(
                    github.rest(API_VERSION).apps.async_delete_token, self._client_id, data=body
                )
        except (MagicodeError, TimeoutError):
            pass

    def _calls(self) -> Calls:
        return Calls(pace=Spaced(0), watch=self._watch, read_attempts=2)


def _with_success(response: httpx2.Response) -> httpx2.Response:
    """GitHub's refusals of a code have the status of success; another status is no answer to it."""
    return response.raise_for_status()


def _refused(code: str) -> MagicodeError:
    if code in _OURS:
        return DefectError(_OURS[code], reason=code)
    if code == "unverified_user_email":
        return SignInError(
            "GitHub tells nobody who you are before your primary e-mail address is verified there.",
            reason=code,
        )
    return SignInError(reason="sign_in_refused")


def _by_status(status: int) -> MagicodeError:
    if status == 429 or status >= 500:
        return TransientError("GitHub could not answer.", reason="github_unavailable")
    if status == 404:
        return DefectError("There is no sign-in at GitHub's web address.", reason="sign_in_missing")
    return InvalidError(f"GitHub answered {status} to a sign-in.", reason=f"status_{status}")


def _unreadable() -> DefectError:
    return DefectError("GitHub's answer did not have the documented form.", reason="github_answer_unreadable")
