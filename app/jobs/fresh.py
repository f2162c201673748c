"""A request that comes of another one and not of a comment: what it keeps of that one, and where it begins anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from app.jobs.freeze import keyed_hash
from app.nouns import Run, RunState


def meaning_of(data_key: bytes, repository_id: int, number: int, occasion: str, verb: str) -> str:
    """What two requests have in common that ask for the same thing: the second one is not added."""
    return keyed_hash(data_key, b"meaning", (str(repository_id), str(number), occasion, verb))


def fresh(
    run: Run,
    data_key: bytes,
    *,
    new_id: UUID,
    verb: str,
    occasion: str,
    input_hash: str,
    number: int,
    created_at: datetime,
) -> Run:
    """A new run in the same repository, for the same person and about the same subject, that nobody has worked on yet."""
    return replace(
        run,
        id=new_id,
        number=number,
        verb=verb,
        occasion=occasion,
        comment_id=None,
        meaning=meaning_of(data_key, run.repository_id, number, occasion, verb),
        input_hash=input_hash,
        cost_limit_usd=None,
        state=RunState.QUEUED,
        attempt=0,
        blocked_by=None,
        cancel_requested=False,
        reason=None,
        status_comment_id=None,
        branch=None,
        base_sha=None,
        head_sha=None,
        pull_request=None,
        input_tokens=0,
        cached_tokens=0,
        output_tokens=0,
        cost_usd=Decimal(0),
        created_at=created_at,
        started_at=None,
        ended_at=None,
        fingerprint=None,
    )
