"""Brings a repository's index up to its default branch after a push: only what changed is embedded; and forgets that of a
repository which the App may no longer see.

It makes no index where there is none: nobody has asked for anything there yet.
"""

from __future__ import annotations

from app.agent.asking import unless_stopped
from app.errors import MissingError
from app.house import House
from app.nouns import Action
from app.scene import written_down
from app.workspace.open import open_workspace


async def follow(house: House, installation_id: int, repository_id: int) -> None:
    """The index as the default branch is now, whatever the push was that asked for it. A branch or repository that is
    gone is left alone.

    Raises what GitHub's answers, the workspace and the index raise.
    """
    async with house.store.transaction(installation_id) as transaction:
        if await transaction.installation() is None:
            return
        key = await house.keys.data_key(transaction)

    async def installed() -> None:
        """Raises ErasedError once the installation is destroyed, which a long indexing must not hold up."""
        async with house.store.transaction(installation_id):
            pass

    index = house.index(key, installation_id, repository_id)
    if not await index.exists():
        return
    record = house.ledger.recorder(installation_id, None)
    reading = house.github.reader(installation_id, repository_id)
    async with written_down(reading, record, "read", "read") as reader:
        try:
            branch = await reader.branch((await reader.repository()).default_branch)
        except MissingError:
            return
        async with open_workspace(
            reader, branch.sha, root=house.workspace_root, run_id=f"push-{house.new_id()}"
        ) as workspace:
            await record(
                Action.CODE_FETCHED,
                repository=repository_id,
                sha=branch.sha,
                files=workspace.files,
                bytes=workspace.bytes,
                left_out=len(workspace.left_out),
            )
            report = await unless_stopped(index.update(workspace, prune=True), installed)
    await record(
        Action.INDEX_UPDATED,
        repository=repository_id,
        files=report.files,
        chunks=report.chunks,
        embedded=report.embedded,
        reused_chunks=report.reused_chunks,
        reused=report.reused,
        removed=report.removed,
        pending=report.pending,
        left_out=sum(report.left_out.values()),
    )


async def forget(house: House, installation_id: int, repository_id: int) -> None:
    """Remove the index of a repository that was taken out of the installation, and write down how much that was. One that is put
    back is indexed anew at its next request.

    Raises embeddings.forget.NotForgottenError, and what the store raises.
    """
    async with house.store.transaction(installation_id) as transaction:
        if await transaction.installation() is None:
            return
        key = await house.keys.data_key(transaction)
    index = house.index(key, installation_id, repository_id)
    if not await index.exists():
        return
    forgotten = await index.forget()
    record = house.ledger.recorder(installation_id, None)
    await record(
        Action.INDEX_FORGOTTEN,
        repository=repository_id,
        chunks=forgotten.removed,
        remaining=forgotten.remaining,
    )
