"""Looks at a pull request of ours again once its checks ended or somebody changed it: ready, mended, left alone, or over.

It writes no code; where failing checks are ours to mend, it puts a run on the queue that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from app.ending import AS_DRAFT, ready, say, status_of
from app.errors import DeniedError, InvalidError, MissingError, RefusedError, TransientError, UserError
from app.house import House
from app.jobs import states
from app.jobs.events import announce
from app.jobs.freeze import keyed_hash
from app.jobs.fresh import fresh
from app.jobs.tasks import Task, lock_of, settle_lock
from app.nouns import MEND, Action, Outcome, PullRequest, Run, RunEvent, RunState
from app.pulls import wording
from app.pulls.publish import PERMISSIONS, require_ours
from app.reading import rules_of
from app.repofile import RepoFile
from app.scene import Scene, open_scene

OVER = frozenset({"merged", "closed_unmerged"})
"""The reasons of a run whose pull request is no longer open; one with commits of other people has `human_commits`."""


NOT_FOUND_YET = "not_found_yet"
"""The reason of a look that is tried again a few times and then left: what is gone stays away, and would be looked for for ever."""

LATER_SECONDS = 600.0
"""Until the next look where GitHub was away, or where nobody tells us that something ended."""

LOOKED_AFTER = timedelta(days=1)
"""How long after the last request such looks go on while checks are pending: some that were asked for never report."""


async def settle(house: House, run: Run) -> None:
    """Does nothing where no run of ours opened the branch's pull request, or where it was seen closed already.

    Raises TransientError (`not_found_yet`) for what GitHub does not find: it tells of things sooner than they can be read
    everywhere.
    """
    try:
        await _look(house, run)
    except MissingError as error:
        if error.reason != "missing":
            raise
        raise TransientError(error.message, reason=NOT_FOUND_YET) from None


async def _look(house: House, run: Run) -> None:
    opener = await opener_of(house, run) or await _opened_all_the_same(house, run)
    if opener is None or opener.pull_request is None or opener.reason in OVER:
        return
    async with open_scene(house, opener, fence=after_the_end) as scene:
        pull = await scene.reader.pull_request(opener.pull_request)
        if pull.state != "open":
            await _over(scene, pull)
        elif not await _is_ours(scene, pull):
            await _hands_off(scene, pull)
        elif await _checked(scene, pull) and house.clock() - (run.ended_at or run.created_at) < LOOKED_AFTER:
            # A commit status that ends is told to nobody, unlike a suite of checks.
            await settle_later(house, run)


async def settle_later(house: House, run: Run) -> None:
    """One more look after a while, where none waits already."""
    async with house.store.transaction(run.installation_id) as transaction:
        lock = settle_lock(run)
        if not await transaction.waits(lock):
            await transaction.defer(
                Task.SETTLE,
                lock=lock,
                delay_seconds=LATER_SECONDS,
                behind=True,
                installation_id=run.installation_id,
                run_id=run.id,
            )


async def after_the_end() -> None:
    """The run has ended, and one look more at what it opened disturbs nobody."""


async def opener_of(house: House, run: Run) -> Run | None:
    """The run that opened the pull request that this one is about: others may have revised it since.

    For a request on the issue that came to no branch, the newest pull request of that issue.
    """
    async with house.store.transaction(run.installation_id) as transaction:
        about = run.about
        if run.is_pull_request and run.subject is None:
            # Asked on a pull request whose opener had not yet written down that it was its.
            about = await transaction.opened_for(run.repository_id, run.number) or about
        runs = await transaction.runs(repository_id=run.repository_id, about=about, state=RunState.OPENED)
    openers = [one for one in runs if one.pull_request is not None]
    if not run.is_pull_request and run.branch is None:
        return next(iter(openers), None)
    number = run.number if run.is_pull_request else None
    return next((one for one in openers if one.pull_request == number or one.branch == run.branch), None)


async def _opened_all_the_same(house: House, run: Run) -> Run | None:
    """A run that failed behind its pull request's opening: what is open on GitHub is not left to itself."""
    if run.state is not RunState.FAILED or run.branch is None or run.is_pull_request:
        return None
    async with open_scene(house, run, fence=after_the_end) as scene:
        pulls = await scene.reader.pull_requests(head_branch=run.branch, state="open")
        mark = wording.opened_marker(run.id)
        pull = next((one for one in pulls if mark in one.body), None)
        if pull is None:
            return None
        waits = pull.draft and await _marks_ready(scene)
        if (await scene.current()).state is not RunState.FAILED:  # put on the queue again meanwhile
            return None
        # Said first: who is killed between the two says it once more, and nobody would say it behind the row.
        await say(
            scene,
            ready(pull.number, pull.head_sha, wording.opened_behind_a_failure(draft=pull.draft, waits=waits)),
        )
        async with house.store.transaction(run.installation_id) as transaction:
            now = await transaction.run(run.id, lock=True)
            if now is None or now.state is not RunState.FAILED:
                return None
            return await transaction.update_run(
                run.id,
                state=RunState.OPENED,
                reason=AS_DRAFT if waits else RunState.OPENED.value,
                pull_request=pull.number,
                head_sha=pull.head_sha,
            )


# --- what became of it -----------------------------------------------------------------------------------------------


async def _over(scene: Scene, pull: PullRequest) -> None:
    """Merged or closed: whatever is at work on it stops, and nothing begins there again."""
    reason = "merged" if pull.merged else "closed_unmerged"
    await _stop(scene, pull)
    await say(scene, Outcome(RunState.OPENED, reason, wording.over(pull), pull_request=pull.number))
    await _note(scene, pull, reason)


async def _is_ours(scene: Scene, pull: PullRequest) -> bool:
    try:
        await require_ours(pull.head_ref, scene.reader)
    except RefusedError:
        return False
    return True


async def _hands_off(scene: Scene, pull: PullRequest) -> None:
    """A person's commit makes the branch theirs: said once."""
    if scene.run.reason == "human_commits":
        return
    await _stop(scene, pull)
    said = wording.hands_off(pull)
    await say(scene, Outcome(RunState.OPENED, "human_commits", said, pull_request=pull.number))
    await _note(scene, pull, "human_commits")


async def _checked(scene: Scene, pull: PullRequest) -> bool:
    """True where checks are still pending."""
    checks = await scene.reader.checks(pull.head_sha)
    if checks.pending or not checks.total:
        return bool(checks.pending)
    if checks.failed and await _is_being_mended(scene, pull):
        return False
    if scene.run.reason != AS_DRAFT:
        return False
    # One that is ready already was marked so by a person, or by us before a look that broke off: told it is either way.
    told = wording.checks_ended(checks, draft=pull.draft and not await _marked_ready(scene, pull))
    scene.remarks += wording.conflict_in(await status_of(scene))
    await say(scene, ready(pull.number, pull.head_sha, told))
    await _note(scene, pull, RunState.OPENED.value)
    return False


async def _marked_ready(scene: Scene, pull: PullRequest) -> bool:
    """False where GitHub does not let us."""
    async with scene.writer("ready", PERMISSIONS) as writer:
        try:
            await writer.mark_ready(pull)
        except (DeniedError, InvalidError):
            return False
    await scene.record(Action.PULL_REQUEST_UPDATED, number=pull.number, ready=True)
    return True


async def _wants_mending(scene: Scene) -> bool:
    rules = await _rules(scene)
    return rules is not None and rules.mend


async def _marks_ready(scene: Scene) -> bool:
    rules = await _rules(scene)
    return rules is not None and not rules.draft


async def _rules(scene: Scene) -> RepoFile | None:
    """None for a file that cannot be read: it allows nothing. Raises MissingError for what GitHub does not find, since that says
    nothing of the file."""
    try:
        return await rules_of(scene.reader, scene.house.sleep)
    except MissingError:
        raise
    except UserError:
        return None


async def _note(scene: Scene, pull: PullRequest, reason: str) -> None:
    """What another look has seen to be over since this one began is said again, and then written down again: what this one said
    stands there now. Until then it is not over, so that whoever goes on where this one broke off looks as well."""
    async with scene.house.store.transaction(scene.run.installation_id) as transaction:
        now = await transaction.run(scene.run.id, lock=True)
        over = reason not in OVER and now is not None and now.reason in OVER
        await transaction.update_run(scene.run.id, reason=reason)
    if over:
        await _over(scene, await scene.reader.pull_request(pull.number))


async def _stop(scene: Scene, pull: PullRequest) -> None:
    """Only what was asked on the pull request itself: a request on the issue may be about the next one."""
    opener = scene.run
    async with scene.house.store.transaction(opener.installation_id) as transaction:
        active = await transaction.active_run(opener.repository_id, opener.about)
    if active is not None and active.number == pull.number:
        await states.request_cancel(
            scene.house.store, opener.installation_id, opener.repository_id, pull.number, only=active.id
        )


# --- a run that mends ------------------------------------------------------------------------------------------------


class _BusyError(Exception):
    """A request came in between: the run that mends is not added, so that the head can be looked at again behind it."""


async def _is_being_mended(scene: Scene, pull: PullRequest) -> bool:
    """Whether a run is at work on this head, or one was put on the queue for it now. One head is tried once."""
    house, opener = scene.house, scene.run
    async with house.store.transaction(opener.installation_id) as transaction:
        if await transaction.active_run(opener.repository_id, opener.about) is not None:
            return True
        mends = await transaction.runs(repository_id=opener.repository_id, about=opener.about, verb=MEND)
    if any(one.occasion == _occasion(pull) for one in mends):
        return False
    if not await _wants_mending(scene):
        return False
    wanted = _run(scene, pull, _left(opener, mends))
    try:
        async with house.store.transaction(opener.installation_id) as transaction:
            run = await transaction.add_run(wanted)
            if run.id != wanted.id:  # another look was quicker
                return not run.state.ended
            if run.blocked_by is not None:
                raise _BusyError
            await announce(transaction, RunEvent.ACCEPTED, run)
            await transaction.defer(
                Task.WORK, lock=lock_of(run), installation_id=run.installation_id, run_id=run.id
            )
    except _BusyError:
        return True
    return True


def _occasion(pull: PullRequest) -> str:
    return f"checks:{pull.head_sha}"


def _left(opener: Run, mends: Sequence[Run]) -> Decimal | None:
    """What is left of the `up to $…` that the pull request was asked for with: it holds for its mending too."""
    if opener.cost_limit_usd is None:
        return None
    mended = (run for run in mends if run.branch == opener.branch)
    return max(opener.cost_limit_usd - opener.cost_usd - sum(run.cost_usd for run in mended), Decimal(0))


def _run(scene: Scene, pull: PullRequest, cost_limit_usd: Decimal | None) -> Run:
    """In the name of the person who asked for the pull request, whose permission is looked up anew."""
    opener, key, occasion = scene.run, scene.key, _occasion(pull)
    parts = (str(opener.repository_id), str(pull.number), occasion, MEND)
    begun = fresh(
        opener,
        key,
        new_id=scene.house.new_id(),
        verb=MEND,
        occasion=occasion,
        input_hash=keyed_hash(key, b"input", parts),
        number=pull.number,
        created_at=scene.house.clock(),
    )
    return replace(
        begun,
        is_pull_request=True,
        subject=opener.about,
        branch=pull.head_ref,
        pull_request=pull.number,
        cost_limit_usd=cost_limit_usd,
    )
