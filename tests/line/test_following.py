"""After a push the index follows the default branch: what changed is embedded, and nothing else."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.actionlog.verify import ExportedEntry
from app.demo import COMMENT, ISSUE_BODY, ISSUE_TITLE
from infra.models.playbook import Playbook
from tests.line.conftest import Stages, Words
from tests.line.stage import Stage

CHANGED = "fairshare/split.py"


class Counted(Words):
    """A bag of words that keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.given.extend(texts)
        return super().encode(texts)


async def commit(stage: Stage, path: str, content: str) -> None:
    api = f"/repos/{stage.repository}/contents/{path}"
    sha = (await stage.client().get(api)).json()["sha"]
    answer = await stage.client().put(
        api, json={"message": "Say it", "content": base64.b64encode(content.encode()).decode(), "sha": sha}
    )
    answer.raise_for_status()
    await stage.settled()


async def updates(stage: Stage, count: int, *, within: float = 30) -> list[ExportedEntry]:
    deadline = asyncio.get_running_loop().time() + within
    while True:
        found = [entry for entry in await stage.log() if entry.action == "index.updated"]
        if len(found) >= count:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"{len(found)} updates of {count}"
        await asyncio.sleep(0.1)


async def test_a_changed_line_costs_the_one_chunk_that_it_stands_in(
    raise_stage: Stages, sample: Path, sample_playbook: Playbook
) -> None:
    encoder = Counted()
    stage = await raise_stage({"octo/fairshare": sample}, sample_playbook, encoder=encoder)
    await stage.comment(await stage.open_issue(ISSUE_TITLE, ISSUE_BODY), COMMENT)
    await stage.ended()
    before = len(encoder.given)
    text = (sample / CHANGED).read_text()
    line = next(line for line in text.splitlines() if line.startswith("    return "))
    await commit(stage, CHANGED, text.replace(line, f"{line}  # in cents", 1))
    (_, followed) = await updates(stage, 2)
    assert [one for one in encoder.given[before:] if "# in cents" not in one] == []
    assert len(encoder.given) - before == 1
    assert (followed.details["embedded"], followed.details["chunks"], followed.details["pending"]) == (
        1,
        1,
        0,
    )
    assert followed.run_id is None


async def test_nothing_is_fetched_for_a_repository_where_nobody_has_asked(
    raise_stage: Stages, sample: Path, sample_playbook: Playbook
) -> None:
    encoder = Counted()
    stage = await raise_stage({"octo/fairshare": sample}, sample_playbook, encoder=encoder)
    await commit(stage, CHANGED, (sample / CHANGED).read_text() + "\n")
    await asyncio.sleep(7)
    assert encoder.given == []
    assert {entry.action for entry in await stage.log()} <= {"installation.changed"}


async def test_a_repository_taken_out_of_the_installation_is_forgotten_and_the_others_are_not(
    raise_stage: Stages, sample: Path, sample_playbook: Playbook
) -> None:
    other = "octo/other"
    stage = await raise_stage({"octo/fairshare": sample, other: sample}, sample_playbook)
    await stage.comment(await stage.open_issue(ISSUE_TITLE, ISSUE_BODY), COMMENT)
    asked = await stage.open_issue(ISSUE_TITLE, ISSUE_BODY, repository=other)
    await stage.comment(asked, COMMENT, repository=other)
    await stage.ended(2)
    repositories = {name: stage.github.world.repository(name) for name in (stage.repository, other)}
    async with stage.house.store.transaction(stage.installation) as transaction:
        key = await stage.house.keys.data_key(transaction)
    indexes = {
        name: stage.house.index(key, stage.installation, found.id)
        for name, found in repositories.items()
        if found is not None
    }
    assert [await index.exists() for index in indexes.values()] == [True, True]
    gone = repositories[stage.repository]
    assert gone is not None
    owner = stage.client("ada")
    answer = await owner.delete(f"/user/installations/{stage.installation}/repositories/{gone.id}")
    assert answer.status_code == 204, answer.text
    deadline = asyncio.get_running_loop().time() + 60
    while not (told := [one for one in await stage.log() if one.action == "index.forgotten"]):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.1)
    assert {name: await index.exists() for name, index in indexes.items()} == {
        stage.repository: False,
        other: True,
    }
    (entry,) = told
    assert entry.details is not None
    assert (entry.details["repository"], entry.details["remaining"]) == (gone.id, 0)
    assert int(str(entry.details["chunks"])) > 0
