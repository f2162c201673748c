"""What an earlier attempt of a run left on GitHub, told again as the change that it was, so that no model is asked twice.

The commit is the truth: its message holds the words, its tree and its parent's the files. A second proposal might say
other things than the commit that is already there does.
"""

from __future__ import annotations

from functools import partial

from app.errors import MissingError
from app.lines import changed
from app.nouns import Change, Commit, FileEdit, Run, Spending, TreeEntry
from app.ports import RepositoryReader
from app.pulls import wording
from app.pulls.branch import Choice, is_ours
from app.pulls.lookup import Sleep, found
from app.pulls.ours import by_us


async def left_by_this_run(run: Run, choice: Choice, reader: RepositoryReader) -> Change | None:
    """The change of the commit at the head of the chosen branch when it carries this run's trailer, else None."""
    commit = await _head(run, choice.branch, reader)
    if commit is None or len(commit.parents) != 1:
        return None
    edits = await _edits(reader, commit)
    title, summary = _words(commit.message)
    counts = [_lines(edit) for edit in edits]
    return Change(
        edits=tuple(edits),
        title=title,
        summary=summary,
        checked_how="",
        looked_at=(),
        added_lines=sum(added for added, _ in counts),
        removed_lines=sum(removed for _, removed in counts),
        spending=Spending(run.input_tokens, run.cached_tokens, run.output_tokens, run.cost_usd),
    )


async def was_published(run: Run, reader: RepositoryReader) -> bool:
    """Whether an earlier attempt put this run's change or pull request on GitHub: an update from the base branch is neither.

    What was asked is done then, whatever was edited, closed or merged since.
    """
    if run.branch is None:
        return False
    head = await _head(run, run.branch, reader)
    if head is not None and len(head.parents) == 1:
        return True
    opened = wording.opened_marker(run.id)
    return any(opened in pull.body for pull in await reader.pull_requests(head_branch=run.branch))


async def left_alone(run: Run, reader: RepositoryReader, sleep: Sleep | None = None) -> str | None:
    """The branch that this run made and pushed its commit to, where it is no pull request's, open or closed; None where there is
    none, or more than this run's commit on it. With `sleep` one that is not found is looked for again before that is believed.

    Raises MissingError where GitHub finds the branch and not what belongs to it.
    """
    if run.branch is None or run.is_pull_request or not is_ours(run.branch):
        return None
    head = await _head(run, run.branch, reader, sleep)
    if head is None or len(head.parents) != 1 or not by_us(head):
        return None
    return None if await reader.pull_requests(head_branch=run.branch) else run.branch


async def _head(run: Run, branch: str, reader: RepositoryReader, sleep: Sleep | None = None) -> Commit | None:
    """The commit at the head of the branch when it is this run's."""
    try:
        look = partial(reader.branch, branch)
        head = await (look() if sleep is None else found(look, sleep))
    except MissingError as error:
        if error.reason == "repository_empty":
            raise
        return None
    commit = await reader.commit(head.sha)
    return commit if wording.has_trailer(commit.message, run.id) else None


async def _edits(reader: RepositoryReader, commit: Commit) -> list[FileEdit]:
    before = {entry.path: entry for entry in (await reader.tree(commit.parents[0])).entries}
    after = {entry.path: entry for entry in (await reader.tree(commit.sha)).entries}
    edits = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old != new:
            kept = new or old
            assert kept is not None
            edits.append(FileEdit(path, await _bytes(reader, old), await _bytes(reader, new), kept.mode))
    return edits


async def _bytes(reader: RepositoryReader, entry: TreeEntry | None) -> bytes | None:
    return None if entry is None else await reader.blob(entry.sha)


def _words(message: str) -> tuple[str, str]:
    """The title and the summary, without the closing line and the trailer that `body.commit_message` adds."""
    title, _, rest = message.partition("\n\n")
    body = [part for part in rest.split("\n\n") if part]
    return title.strip(), "\n\n".join(body[:-1])


def _lines(edit: FileEdit) -> tuple[int, int]:
    return changed((edit.before or b"").splitlines(), (edit.after or b"").splitlines())
