"""The webhook's secrets, rotated under a running process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from app.custody.webhook_secrets import LiveSecrets
from app.errors import TransientError
from webhooks.errors import BadSignatureError
from webhooks.signature import Secrets

BODY = b'{"action": "created"}'


class Place:
    """Where the secrets are, and how often somebody looked."""

    def __init__(self, *secrets: str) -> None:
        self.secrets = secrets
        self.looks = 0
        self.error: Exception | None = None

    def read(self) -> Secrets:
        self.looks += 1
        if self.error:
            raise self.error
        return Secrets(*self.secrets)


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def live(place: Place, clock: Seconds) -> LiveSecrets:
    return LiveSecrets(Secrets(*place.secrets), place.read, monotonic=clock)


def fits(secrets: LiveSecrets, secret: str) -> bool:
    try:
        secrets.verify(BODY, Secrets(secret).sign(BODY))
    except BadSignatureError as error:
        return error.reason != "signature_wrong"
    return True


def test_a_new_secret_is_taken_up_with_its_first_delivery_and_the_previous_one_still_fits() -> None:
    place, clock = Place("old"), Seconds()
    secrets = live(place, clock)
    assert fits(secrets, "old")
    assert place.looks == 0
    place.secrets = ("new", "old")
    clock.now = 11
    assert fits(secrets, "new")
    assert fits(secrets, "old")
    assert place.looks == 1
    assert secrets.sign(BODY) == Secrets("new").sign(BODY)


def test_a_secret_that_was_taken_away_fits_for_a_minute_at_most() -> None:
    place, clock = Place("new", "old"), Seconds()
    secrets = live(place, clock)
    place.secrets = ("new",)
    clock.now = 59.9
    assert fits(secrets, "old")
    clock.now = 60
    assert not fits(secrets, "old")
    assert place.looks == 1


def test_strangers_do_not_make_us_look_more_than_once_in_ten_seconds() -> None:
    place, clock = Place("right"), Seconds()
    secrets = live(place, clock)
    for tenth in range(600):
        clock.now = tenth / 10
        assert not fits(secrets, "wrong")
    assert place.looks == 5
    for malformed in (None, "", "sha256=", "sha1=" + "0" * 40):
        clock.now += 100
        with pytest.raises(BadSignatureError):
            secrets.verify(BODY, malformed)
    assert place.looks == 5 + 4  # they were a minute old each time


def test_many_at_once_make_one_look_and_all_take_what_it_finds() -> None:
    place, clock = Place("old"), Seconds()
    secrets = live(place, clock)
    place.secrets = ("new", "old")
    clock.now = 30
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: fits(secrets, "new"), range(64)))
    assert place.looks == 1


def test_nobody_waits_for_the_look_that_only_the_minute_asked_for() -> None:
    clock = Seconds()
    started, go_on = Event(), Event()

    def slow() -> Secrets:
        started.set()
        assert go_on.wait(10)
        return Secrets("right")

    secrets = LiveSecrets(Secrets("right"), slow, monotonic=clock)
    clock.now = 60
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fits, secrets, "right")
        assert started.wait(10)
        assert fits(secrets, "right")
        assert not waiting.done()
        go_on.set()
        assert waiting.result()


@pytest.mark.parametrize("error", [TransientError("away"), ValueError("no such name")])
def test_what_is_known_stays_in_use_while_the_place_is_away(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    place, clock = Place("hunter2"), Seconds()
    secrets = live(place, clock)
    place.error = error
    clock.now = 60
    assert fits(secrets, "hunter2")
    assert not fits(secrets, "wrong")
    assert place.looks == 1
    assert "could not be read" in caplog.text
    assert "hunter2" not in caplog.text + repr(secrets)
