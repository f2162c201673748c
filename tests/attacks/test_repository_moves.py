"""What becomes of a repository while the work on it is going on: renamed, emptied, rewritten, locked away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.nouns import ModelAnswer, ModelRequest
from infra.models.scripted import ScriptedModel
from infra.simulator.state import Repo
from tests.attacks import hostile
from tests.claims import case
from tests.faults.promises import kept, quiet
from tests.line.conftest import Stages
from tests.line.conversations import ask, logged, notes, repo_of, repository_file
from tests.line.stage import Stage

GROUP = "What the repository holds"
pytestmark = pytest.mark.timeout(600)

Meddling = Callable[[Stage, Repo], Awaitable[None]]


class Meddled:
    """A scripted model during whose first answer somebody does something."""

    def __init__(self) -> None:
        self._model = ScriptedModel(notes())
        self.does: Callable[[], Awaitable[None]] | None = None

    @property
    def provider(self) -> str:
        return self._model.provider

    @property
    def name(self) -> str:
        return self._model.name

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        does, self.does = self.does, None
        if does is not None:
            await does()
        return await self._model.answer(request)


async def act(stage: Stage, method: str, route: str, **body: Any) -> None:
    answer = await stage.client("ada").request(
        method, f"/repos/{repo_of_id(stage).full_name}{route}", json=body
    )
    assert answer.is_success, answer.text


def repo_of_id(stage: Stage) -> Repo:
    (repo,) = stage.github.world.repositories.values()
    return repo


async def renamed(stage: Stage, _repo: Repo) -> None:
    await act(stage, "PATCH", "", name="otherwise")


async def made_private(stage: Stage, _repo: Repo) -> None:
    await act(stage, "PATCH", "", private=True)


async def archived(stage: Stage, _repo: Repo) -> None:
    await act(stage, "PATCH", "", archived=True)


async def rewritten(_stage: Stage, repo: Repo) -> None:
    """Another root commit in the place of all history."""
    sha = await repo.git.branch("main")
    assert sha is not None
    await hostile.move(repo, await hostile.commit(repo, await repo.git.tree_of(sha), []))


async def emptied(_stage: Stage, repo: Repo) -> None:
    await repo.git.run("update-ref", "-d", "refs/heads/main")


async def branch_renamed(stage: Stage, _repo: Repo) -> None:
    await act(stage, "POST", "/branches/main/rename", new_name="trunk")


async def issues_off(stage: Stage, _repo: Repo) -> None:
    await act(stage, "PATCH", "", has_issues=False)


MOVES: dict[str, tuple[str, Meddling, bool | None]] = {
    "The repository is renamed": ("Opened, under its new name", renamed, True),
    "The repository is made private": ("Opened", made_private, True),
    "Its history is replaced by another": (
        "One visible end, and no branch without a pull request",
        rewritten,
        None,
    ),
    "Its default branch is deleted": (
        "One visible end, and no branch without a pull request",
        emptied,
        False,
    ),
    "Its default branch is renamed": (
        "One visible end, and no branch without a pull request",
        branch_renamed,
        None,
    ),
    "It is archived": (
        "It ends in the log, since nobody can comment there, and nothing was published",
        archived,
        False,
    ),
    "Its issues are switched off": ("One end, and no branch without a pull request", issues_off, None),
}


@pytest.fixture
async def meddled(raise_stage: Stages, sample: Path) -> tuple[Stage, Meddled]:
    repository_file(sample, checks=[], second_look=False)
    model = Meddled()
    return await raise_stage({"octo/fairshare": sample}, notes(), model=lambda _name: model), model


@pytest.mark.parametrize(
    ("does", "opened"),
    [case(GROUP, f"While the model is working: {what}", *given) for what, given in MOVES.items()],
)
async def test_what_moves_while_the_work_goes_on(
    meddled: tuple[Stage, Meddled], does: Meddling, opened: bool | None
) -> None:
    stage, model = meddled
    repo = repo_of(stage)

    async def meddle() -> None:
        await does(stage, repo)

    model.does = meddle
    await ask(stage)
    (run,) = await stage.ended(within=300)
    assert model.does is None
    await quiet(stage)
    if opened is not None:
        assert (run.state.value == "opened") is opened, (run.state, run.reason)
    if opened:
        return
    if run.state.value != "opened":
        assert [name for name, _, _ in await repo.git.refs("refs/heads/magicode/")] == [], (
            run.state,
            run.reason,
        )
    if repo.archived or not repo.has_issues:
        (end,) = await logged(stage, "run.ended")
        assert end["reason"] == run.reason  # GitHub takes no word there any more: the log has it
    else:
        await kept(stage, complete=False)
