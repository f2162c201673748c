"""Who is heard: what people wrote becomes instructions where they may write here, and quoted data where they may not or were made
viewers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from app.errors import DefectError, GoneError, MissingError, RefusedError, TransientError, UserError
from app.jobs import permission
from app.nouns import Account, Comment, Given, Issue, Outcome, Run, RunState
from app.scene import Scene
from app.threads import read_threads, review_of
from webhooks.command import Verb

AUTHORS_ASKED_ABOUT = 20
"""People whose permission is looked up for their comments to count; what others wrote is left out."""

PATH_TOLD = 300
"""Characters of a path."""


@dataclass(frozen=True, slots=True)
class Words:
    """Who may write here instructs. The issue of somebody who may not is quoted as untrusted, its title too."""

    title: str
    body: str
    instructions: tuple[str, ...]
    untrusted: tuple[str, ...]


async def read_words(scene: Scene, issue: Issue) -> Words:
    """As they stood when it was asked: a comment that was written or edited since then is left out.

    A request on a pull request of ours is read with the issue that it solves; its review threads go to the scene.
    """
    writers = _Writers(scene, await scene.roles())
    asking = await scene.comment()
    asked_at = _asked_at(scene.run, asking)
    about = await _solved(scene) or issue
    numbers = dict.fromkeys((about.number, issue.number))
    instructions = [
        one.body
        for number in numbers
        for one in await scene.reader.issue_comments(number)
        if one.author.type != "Bot"
        and (asking is None or one.id != asking.id)
        and one.updated_at <= asked_at
        and await writers.include(one.author)
    ]
    reviews = [
        one for one in (await _retried(scene, asked_at), await _came_with(scene, asking)) if one is not None
    ]
    instructions += [one.body for one in reviews if one.body and await writers.include(one.author)]
    if said := await _said(scene, asking):
        instructions.append(_place(asking) + said)
    await read_threads(scene, writers.include)
    if await writers.include(about.author):
        return Words(about.title, about.body, tuple(instructions), ())
    return Words("", "", tuple(instructions), (f"{about.title}\n\n{about.body}".strip(),))


async def _solved(scene: Scene) -> Issue | None:
    """The issue that the pull request was opened for; None where it was moved, deleted or switched off."""
    if scene.run.subject is not None:
        with suppress(MissingError, GoneError):
            return await scene.reader.issue(scene.run.subject)
    return None


async def _said(scene: Scene, asking: Comment | None) -> str:
    """What the asker's own comment says beside the command; a review that requests changes need not hold one."""
    ask = await scene.ask()
    whole = scene.run.verb == Verb.REVISE and scene.run.occasion.startswith("review:")
    if ask is not None and not (
        whole and ask.verb == Verb.HELP
    ):  # a mention in passing asks for nothing itself
        return ask.words
    return asking.body if whole and asking is not None else ""


async def _came_with(scene: Scene, asking: Comment | None) -> Comment | None:
    """The review whose comment on a line asked: which of its parts reaches us first is chance."""
    if asking is None or asking.review_id is None:
        return None
    with suppress(MissingError):
        return await scene.reader.review(scene.run.number, asking.review_id)
    return None


async def _retried(scene: Scene, asked_at: datetime) -> Comment | None:
    """The review that a retry is about: it stands in no list of comments."""
    if scene.origin.id == scene.run.id:
        return None
    with suppress(MissingError):
        review = await review_of(scene)
        if review is not None:
            found = await scene.reader.review(scene.origin.number, review)
            return found if found.updated_at <= asked_at else None
    return None


async def hear_review(scene: Scene, outcome: Outcome) -> None:
    """The threads of a review that was turned away before they were read, so that each of them is told why."""
    if scene.threads or outcome.state not in (RunState.REFUSED, RunState.FAILED):
        return
    if not scene.origin.occasion.startswith("review"):
        return
    # Settings that cannot be read have ended the run, and that is to be told.
    with suppress(TransientError, UserError, RefusedError, DefectError):
        await read_threads(scene, _Writers(scene, await scene.roles()).include)


def _place(asking: Comment | None) -> str:
    """Which code `this` means, in a comment that stands on a line."""
    if asking is None or asking.path is None:
        return ""
    line = f", line {asking.line}" if asking.line is not None else ""
    # A file's name is whoever made it's, and stands here among a writer's words.
    return f"(Written on the file named {json.dumps(asking.path[:PATH_TOLD])}{line}.)\n"


def _asked_at(run: Run, asking: Comment | None) -> datetime:
    """By GitHub's own clock: the comment's time, or the one that a label's or an assignment's occasion names."""
    if asking is not None:
        return asking.updated_at
    try:
        stated = datetime.fromisoformat(run.occasion.partition(":")[2])
    except ValueError:
        return run.created_at
    return stated if stated.tzinfo else run.created_at


class _Writers:
    """Who may write here, asked once per person. A viewer's words instruct nobody, whatever GitHub lets them write."""

    def __init__(self, scene: Scene, roles: Callable[[int], Given | None]) -> None:
        self._reader = scene.reader
        self._roles = roles
        self._known: dict[Account, bool] = {}

    async def include(self, person: Account) -> bool:
        if person not in self._known:
            if len(self._known) >= AUTHORS_ASKED_ABOUT:
                return False
            try:
                granted = await self._reader.permission(person.login)
            except MissingError:
                granted = "none"
            self._known[person] = permission.may_ask(granted, "fix", self._roles(person.id))
        return self._known[person]
