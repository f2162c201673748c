"""Failing CI on our head: which of it the change may have caused, what its logs say, and whether it was seen before.

It guesses on the side of leaving alone: what fails without the change too, or for the machine's or the network's reasons,
is not the change's. It writes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Final

from app.errors import DeniedError, GoneError, InvalidError, MissingError
from app.nouns import FailedCheck
from app.ports import RepositoryReader
from app.pulls.joblog import GAP, Reading, masked, read, says_nothing
from app.pulls.lookup import Sleep, found

LOG_BYTES: Final = 200_000
JOB_LIMIT: Final = 6_000
ALL_LIMIT: Final = 20_000
"""Characters of excerpts: of one check, and of all."""

MOST_LOGS: Final = 10
"""Checks whose logs are read; further ones are only named."""


class Cause(StrEnum):
    OURS = "ours"
    ON_BASE = "on_base"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True)
class Found:
    """One failed check. `why` is a sentence part for people where it is not ours; `excerpt` is data, for the model."""

    check: FailedCheck
    cause: Cause
    why: str = ""
    excerpt: str = ""
    errors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What failed. `fingerprint` is a keyed hash of what is ours, the same when the same failure returns on another commit."""

    found: tuple[Found, ...]
    fingerprint: str

    @property
    def ours(self) -> tuple[Found, ...]:
        return self._of(Cause.OURS)

    @property
    def on_base(self) -> tuple[Found, ...]:
        return self._of(Cause.ON_BASE)

    @property
    def infrastructure(self) -> tuple[Found, ...]:
        return self._of(Cause.INFRASTRUCTURE)

    @property
    def excerpts(self) -> tuple[str, ...]:
        """One text for each check that is ours, for `Request.failures`: at most 20,000 characters in all."""
        told: list[str] = []
        room = ALL_LIMIT
        for one in self.ours:
            text = _told(one)
            if len(text) > room:
                text = f"{text[: room - len(GAP)]}{GAP}" if room > 300 else ""
            if text:
                told.append(text)
                room -= len(text)
        return tuple(told)

    def _of(self, cause: Cause) -> tuple[Found, ...]:
        return tuple(one for one in self.found if one.cause is cause)


async def diagnose(
    reader: RepositoryReader, head_sha: str, base_sha: str, key: bytes, *, sleep: Sleep
) -> Diagnosis:
    """Reads what failed on the head, and on the base where the same checks failed there too.

    `key` is the installation's. Raises what the reader raises but for logs that are gone, too long or not shown to us.
    """
    failed = sorted(await reader.failed_checks(head_sha), key=lambda one: one.name)
    before = {one.name: one for one in await reader.failed_checks(base_sha)} if failed else {}
    judged = [
        await _judged(reader, check, before.get(check.name), sleep)
        if place < MOST_LOGS
        else Found(check, Cause.INFRASTRUCTURE, "too much failed at once to read it all")
        for place, check in enumerate(failed)
    ]
    told = tuple(_not_cancelled_with_others(judged))
    return Diagnosis(told, fingerprint((one for one in told if one.cause is Cause.OURS), key))


_NOT_RUN: Final = {
    "cancelled": "it was cancelled",
    "startup_failure": "it could not be started",
    "stale": "GitHub gave up waiting for it",
    "action_required": "it waits for somebody's approval",
}
"""Conclusions of what did not run to its end, whatever the change is.
https://docs.github.com/en/rest/checks/runs#get-a-check-run"""


def judge(check: FailedCheck, reading: Reading) -> tuple[Cause, str]:
    """Ours or the machine's, from the check's own conclusion and from what its log says."""
    if check.conclusion in _NOT_RUN:
        return Cause.INFRASTRUCTURE, reading.trouble or _NOT_RUN[check.conclusion]
    if check.conclusion == "timed_out" and not reading.of_the_code:
        return Cause.INFRASTRUCTURE, "it took longer than it is given"
    if reading.trouble is not None:
        return Cause.INFRASTRUCTURE, reading.trouble
    if not reading.excerpt or (check.job_id is None and not reading.errors):
        return Cause.INFRASTRUCTURE, "nothing that says why can be read from here"
    return Cause.OURS, ""


def fingerprint(found: Iterable[Found], key: bytes) -> str:
    """HMAC-SHA256 in hex of (check, failing steps, error lines), in no order; empty where nothing failed."""
    parts = sorted([one.check.name, sorted(one.check.steps), sorted(one.errors)] for one in found)
    if not parts:
        return ""
    text = json.dumps(["ci", parts], ensure_ascii=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


async def _judged(
    reader: RepositoryReader, check: FailedCheck, before: FailedCheck | None, sleep: Sleep
) -> Found:
    reading = await _read(reader, check, sleep)
    cause, why = judge(check, reading)
    if cause is Cause.OURS and before is not None:
        reading_before = await _read(reader, before, sleep)
        new = reading.errors - reading_before.errors
        if not new or not reading_before.errors:
            cause, why = Cause.ON_BASE, "it fails without this change too"
    excerpt = reading.excerpt if cause is Cause.OURS else ""
    return Found(check, cause, why, excerpt, reading.errors)


async def _read(reader: RepositoryReader, check: FailedCheck, sleep: Sleep) -> Reading:
    """The job's log; what the check says of itself where there is none, or where that tells of the machine's end."""
    said = read("" if says_nothing(check.said) else check.said, limit=JOB_LIMIT)
    if check.job_id is None:
        return said
    try:
        log = await found(partial(_log, reader, check.job_id), sleep)
    except (MissingError, GoneError, DeniedError, InvalidError):
        return said
    reading = await asyncio.to_thread(read, log, limit=JOB_LIMIT)  # a long log takes a good part of a second
    if not reading.excerpt:
        return said
    return reading if reading.of_the_code else replace(reading, trouble=reading.trouble or said.trouble)


async def _log(reader: RepositoryReader, job_id: int) -> str:
    """Raises GoneError for one that is kept no longer, which need not be looked for again."""
    try:
        return await reader.job_log(job_id, last_bytes=LOG_BYTES)
    except MissingError as error:
        if error.reason == "log_expired":
            raise GoneError(reason=error.reason) from None
        raise


def _not_cancelled_with_others(found: Sequence[Found]) -> Iterable[Found]:
    """A matrix cancels its other jobs when one fails: that says nothing by itself."""
    failed = any(one.cause is Cause.OURS for one in found)
    for one in found:
        if failed and one.check.conclusion == "cancelled":
            yield replace(one, why="it was cancelled when another failed")
        else:
            yield one


def _told(one: Found) -> str:
    steps = f" (step: {', '.join(one.check.steps)})" if one.check.steps else ""
    name = masked(f"{one.check.name}{steps}")
    return f"{name}: {one.check.conclusion}\n\n{one.excerpt}".strip()[: JOB_LIMIT + 500]
