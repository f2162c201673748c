"""Who calls: a user's token, the App's own JWT, its client id and secret, an installation's token, or nobody.

https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra.simulator.answers import ApiError, bad_credentials
from infra.simulator.state import Installation, Repo, Token, User, World

LIFETIME = timedelta(hours=1)
SIGN_IN_LIFETIME = timedelta(hours=8)
REFRESH_LIFETIME = timedelta(seconds=15_897_600)
_LONGEST_JWT = 600  # seconds
_SKEW = 60  # seconds that GitHub's servers may differ among themselves


@dataclass(frozen=True)
class Caller:
    """`user` is who acts: the person, or the App's bot for an installation; None for the App itself and nobody."""

    world: World
    kind: str  # "anonymous", "user", "app", "installation", "client"
    user: User | None = None
    installation: Installation | None = None
    token: Token | None = None
    permissions: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What rate limits are counted by."""
        if self.installation is not None:
            return f"installation:{self.installation.id}"
        return f"user:{self.user.id}" if self.user else self.kind

    def covers(self, repo: Repo) -> bool:
        """Whether an installation's token reaches this repository."""
        if self.installation is None or repo.id not in self.installation.repository_ids:
            return False
        narrowed = self.token.repository_ids if self.token else None
        return narrowed is None or repo.id in narrowed

    def sees(self, repo: Repo) -> bool:
        if not repo.private:
            return True
        if self.kind == "user" and self.user is not None:
            return repo.role(self.user) != "none"
        return self.covers(repo)


def authenticate(world: World, authorization: str | None) -> Caller:
    """Raises 401 for a credential that is none, 403 for an installation that is suspended."""
    if not authorization:
        return Caller(world, "anonymous")
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        name, value = _basic(value)
        if name == world.app.client_id:
            if not secrets.compare_digest(value.encode(), world.app.client_secret.encode()):
                raise bad_credentials()
            return Caller(world, "client")
    elif scheme.lower() not in ("bearer", "token"):
        raise bad_credentials()
    if value.startswith("ey") and value.count(".") == 2:
        _verify(world, value)
        return Caller(world, "app")
    return _by_token(world, value)


def _basic(value: str) -> tuple[str, str]:
    """A name and a password. A token may stand as the password of anybody."""
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        return name, password
    except (binascii.Error, UnicodeDecodeError) as error:
        raise bad_credentials() from error


def _by_token(world: World, value: str) -> Caller:
    token = world.tokens.get(value)
    if token is None or (token.expires_at is not None and token.expires_at <= world.now()):
        raise bad_credentials()
    if token.user_id is not None:
        return Caller(world, "user", user=world.user(token.user_id), token=token)
    installation = world.installations.get(token.installation_id or 0)
    if installation is None:
        raise bad_credentials()
    if installation.suspended_at is not None:
        raise ApiError(403, "This installation has been suspended")
    held = {name: level for name, level in token.permissions.items() if name in installation.permissions}
    return Caller(world, "installation", world.bot, installation, token, held)


def _verify(world: World, value: str) -> None:
    try:
        claims = jwt.decode(
            value,
            public_key(world.app.private_key_pem),
            algorithms=["RS256"],
            options={
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_iss": False,
                "verify_aud": False,
            },
        )
    except jwt.PyJWTError as error:
        raise ApiError(401, "A JSON web token could not be decoded") from error
    now = world.now().timestamp()
    issuer, issued, expires = claims.get("iss"), claims.get("iat"), claims.get("exp")
    if issuer is None:
        raise ApiError(401, "Missing 'issuer' claim ('iss') in assertion")
    if str(issuer) not in (str(world.app.id), world.app.client_id):
        raise ApiError(404, "Integration not found")
    if not isinstance(issued, int | float) or isinstance(issued, bool) or issued > now + _SKEW:
        raise ApiError(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        )
    if not isinstance(expires, int | float) or isinstance(expires, bool) or expires <= now:
        raise ApiError(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        )
    if expires > now + _LONGEST_JWT:
        raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future")


@lru_cache(maxsize=8)
def public_key(private_key_pem: str) -> rsa.RSAPublicKey:
    key = serialization.load_pem_private_key(private_key_pem.encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.public_key()


def new_private_key() -> str:
    """A PEM in the PKCS#1 form in which GitHub hands App keys out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def new_user_token(world: World, user: User) -> Token:
    token = Token("ghp_" + secrets.token_hex(18), user_id=user.id)
    world.tokens[token.value] = token
    return token


def new_sign_in_token(world: World, user: User) -> Token:
    """What a user gives the App: eight hours, and a refresh token for half a year.

    https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
    """
    token = Token(
        "ghu_" + secrets.token_hex(18),
        user_id=user.id,
        refresh="ghr_" + secrets.token_hex(38),
        expires_at=world.now() + SIGN_IN_LIFETIME,
    )
    world.tokens[token.value] = token
    return token


def new_installation_token(
    world: World,
    installation: Installation,
    permissions: dict[str, str],
    repository_ids: frozenset[int] | None,
) -> Token:
    """About 520 characters long, as GitHub's have been since spring 2026: `ghs_`, the App's id, and a JWT."""
    claims = {"iss": "simulated", "jti": secrets.token_urlsafe(210), "iid": installation.id}
    signed = jwt.encode(claims, secrets.token_bytes(32), algorithm="HS256")
    value = f"ghs_{world.app.id}_{signed}"
    token = Token(
        value,
        installation_id=installation.id,
        repository_ids=repository_ids,
        permissions=permissions,
        expires_at=world.now() + LIFETIME,
    )
    world.tokens[value] = token
    return token
