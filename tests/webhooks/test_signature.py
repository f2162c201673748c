"""Who may speak to us."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from webhooks.errors import BadSignatureError, MissingSecretError
from webhooks.signature import Secrets


def test_githubs_published_example_is_genuine() -> None:
    # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
    Secrets("It's a Secret to Everybody").verify(
        b"Hello, World!", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    )


def test_the_previous_secret_is_good_while_it_is_being_rotated() -> None:
    old = Secrets("old").sign(b"body")
    Secrets("new", previous="old").verify(b"body", old)
    with pytest.raises(BadSignatureError):
        Secrets("new").verify(b"body", old)


@pytest.mark.parametrize(("current", "previous"), [("", None), (" \n", None), ("good", ""), ("good", " ")])
def test_no_secret_is_refused_before_anything_is_received(current: str, previous: str | None) -> None:
    with pytest.raises(MissingSecretError, match="MAGICODE_WEBHOOK_SECRET"):
        Secrets(current, previous)


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(Secrets("hush", "hush-hush"))


RIGHT = Secrets("s").sign(b"body")
FORGED = [
    None,
    "",
    "sha256=",
    RIGHT[:-1],
    RIGHT + "0",
    RIGHT.upper(),
    RIGHT.removeprefix("sha256="),
    "sha256=" + "0" * 64,
    "sha256=" + "é" * 64,
    "sha256=" + "\ud800" * 64,
    RIGHT.replace("sha256", "sha1"),
    "sha1=" + hmac.new(b"s", b"body", hashlib.sha1).hexdigest(),
    Secrets("t").sign(b"body"),
    Secrets("s").sign(b"body "),
    " " + RIGHT,
]


@pytest.mark.parametrize("signature", FORGED, ids=range(len(FORGED)))
def test_a_forged_signature_is_refused(signature: str | None) -> None:
    with pytest.raises(BadSignatureError) as refused:
        Secrets("s").verify(b"body", signature)
    assert refused.value.status == 401


def test_any_changed_digit_is_refused() -> None:
    for place in range(len("sha256="), len(RIGHT)):
        other = "0" if RIGHT[place] != "0" else "1"
        with pytest.raises(BadSignatureError):
            Secrets("s").verify(b"body", RIGHT[:place] + other + RIGHT[place + 1 :])
