"""One repository read through a token that can only read. There is no method here that changes anything."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import httpx
from githubkit import GitHub
from githubkit.exception import RequestError
from githubkit_schemas.v2026_03_10 import models
from githubkit_schemas.v2026_03_10.rest import RestNamespace

from app.errors import InvalidError, MissingError, TransientError
from app.nouns import (
    Branch,
    Checks,
    Comment,
    Commit,
    Comparison,
    FailedCheck,
    Issue,
    PullRequest,
    Repository,
    ReviewThread,
    Rule,
    Tree,
    TreeEntry,
)
from infra.github import shapes
from infra.github.auth import InstallationToken
from infra.github.calls import Calls, json_of, objects, parsed
from infra.github.checks import FailedChecks, JobLog
from infra.github.translate import unreadable

API_VERSION: Final = "2026-03-10"
"""Sent as X-GitHub-Api-Version: https://docs.github.com/en/rest/about-the-rest-api/api-versions"""

REVIEW_THREADS: Final = """
query ReviewThreads($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) {
    pullRequest(number: $number) {
      reviewThreads(first: 100, after: $after) {
        pageInfo { hasNextPage endCursor }
        nodes {
          id isResolved isOutdated path line
          comments(first: 1) { nodes { fullDatabaseId replyTo { fullDatabaseId } } }
        }
      }
    }
  }
}
""".strip()
"""REST has no threads. A comment's id is read as text, since it has outgrown GraphQL's `Int`:
https://docs.github.com/graphql/reference/objects#pullrequestreviewcomment"""

CLOSING_PULL_REQUESTS: Final = """
query ClosingPullRequests($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) {
    issue(number: $number) {
      closedByPullRequestsReferences(first: 100, after: $after, includeClosedPrs: false) {
        pageInfo { hasNextPage endCursor }
        nodes { number state repository { databaseId } }
      }
    }
  }
}
""".strip()
"""REST does not tell which pull requests an issue is linked to."""

MOST_ENTRIES: Final = 150_000
"""Files of one commit; beyond that it is not even listed to its end."""

MOST_LISTINGS: Final = 500
"""Requests for one commit's tree."""

_PASSED: Final = frozenset({"success", "neutral", "skipped"})


class Home:
    """Where the repository is now. Asked of GitHub by the token, which sees this one alone: names change, ids stay."""

    def __init__(self, rest: RestNamespace, calls: Calls, repository_id: int) -> None:
        self._rest = rest
        self._calls = calls
        self._id = repository_id
        self._known: Repository | None = None

    async def look(self) -> Repository:
        async for page in self._calls.pages(self._rest.apps.async_list_repos_accessible_to_installation):
            for found in parsed(page).repositories:
                if found.id == self._id:
                    self._known = shapes.repository(found)
                    return self._known
        raise MissingError("GitHub does not show this repository to the App.", reason="repository_missing")

    async def __call__(self) -> tuple[str, str]:
        known = self._known or await self.look()
        return known.owner, known.name


class GitHubReader:
    """Implements app.ports.RepositoryReader."""

    def __init__(self, github: GitHub[InstallationToken], calls: Calls, repository_id: int) -> None:
        self._github = github
        self._rest = github.rest(API_VERSION)
        self._calls = calls
        self._repository_id = repository_id
        self._home = Home(self._rest, calls, repository_id)

    async def repository(self) -> Repository:
        return await self._home.look()

    async def issue(self, number: int) -> Issue:
        return shapes.issue(await self._calls.read(self._rest.issues.async_get, *await self._home(), number))

    async def issue_comments(self, number: int) -> Sequence[Comment]:
        owner, name = await self._home()
        found: list[models.IssueComment] = await self._calls.items(
            self._rest.issues.async_list_comments, owner, name, number
        )
        return [shapes.comment(one) for one in found]

    async def issue_comment(self, comment_id: int) -> Comment:
        owner, name = await self._home()
        found = await self._calls.read(self._rest.issues.async_get_comment, owner, name, comment_id)
        return shapes.comment(found)

    async def review_comment(self, comment_id: int) -> Comment:
        owner, name = await self._home()
        found = await self._calls.read_response(
            self._rest.pulls.async_get_review_comment, owner, name, comment_id
        )
        return shapes.comment_on_code(json_of(found))

    async def review_comments(self, number: int, review_id: int) -> Sequence[Comment]:
        """Picked from all comments of the pull request: the list of one review's own names no lines.

        https://docs.github.com/rest/pulls/reviews#list-comments-for-a-pull-request-review
        """
        return [one for one in await self._comments_on_code(number) if one.review_id == review_id]

    async def _comments_on_code(self, number: int) -> Sequence[Comment]:
        owner, name = await self._home()
        return [
            shapes.comment_on_code(one)
            async for page in self._calls.pages(
                self._rest.pulls.async_list_review_comments, owner, name, number
            )
            for one in objects(page)
        ]

    async def review_threads(self, number: int) -> Sequence[ReviewThread]:
        """GraphQL says which threads there are, and REST what was said in them, with the ids that REST speaks in.

        https://docs.github.com/graphql/reference/objects#pullrequestreviewthread
        """
        rows = await self._nodes("ReviewThreads", REVIEW_THREADS, number, "pullRequest", "reviewThreads")
        if not rows:
            return []
        said: dict[int, list[Comment]] = {}
        for one in await self._comments_on_code(number):
            said.setdefault(one.reply_to or one.id, []).append(one)
        return [found for row in rows if (found := _thread(row, said)) is not None]

    async def closing_pull_requests(self, number: int) -> Sequence[PullRequest]:
        """Those of this repository: one of another is not this token's to read.

        https://docs.github.com/graphql/reference/objects#issue
        """
        rows = await self._nodes(
            "ClosingPullRequests", CLOSING_PULL_REQUESTS, number, "issue", "closedByPullRequestsReferences"
        )
        numbers = [
            int(row["number"])
            for row in rows
            if row["state"] == "OPEN" and row["repository"]["databaseId"] == self._repository_id
        ]
        return [await self.pull_request(one) for one in numbers]

    async def _nodes(
        self, operation: str, query: str, number: int, subject: str, connection: str
    ) -> list[dict[str, Any]]:
        """All nodes of one connection below an issue or a pull request, page after page; null ones left out."""
        owner, name = await self._home()
        rows: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            sent = {"owner": owner, "name": name, "number": number, "after": after}
            data = await self._calls.query(self._github, operation, query, sent)
            try:
                page = data["repository"][subject][connection]
                rows += [row for row in page["nodes"] if row is not None]
                if not page["pageInfo"]["hasNextPage"]:
                    return rows
                after = page["pageInfo"]["endCursor"]
            except (KeyError, TypeError):
                raise unreadable() from None

    async def compare(self, base: str, head: str) -> Comparison:
        """One commit is asked for, since GitHub sends no fewer; the counts are of all."""
        owner, name = await self._home()
        found = await self._calls.read(
            self._rest.repos.async_compare_commits, owner, name, f"{_ref(base)}...{_ref(head)}", per_page=1
        )
        return shapes.comparison(found)

    async def review(self, number: int, review_id: int) -> Comment:
        owner, name = await self._home()
        return shapes.review(
            await self._calls.read(self._rest.pulls.async_get_review, owner, name, number, review_id)
        )

    async def permission(self, login: str, account_id: int | None = None) -> str:
        """GitHub's answer; `none` for a login that it does not know (any more), or that is another account's now."""
        owner, name = await self._home()
        ask = self._rest.repos.async_get_collaborator_permission_level
        try:
            found = await self._calls.read(ask, owner, name, quote(login, safe=""))
        except MissingError:
            return "none"
        if account_id is not None and (found.user is None or found.user.id != account_id):
            return "none"
        return found.permission

    async def branch(self, name: str) -> Branch:
        owner, repository = await self._home()
        found = await self._calls.read(self._rest.repos.async_get_branch, owner, repository, _ref(name))
        if found.name != name:
            # GitHub answers for a renamed branch by redirecting to its new name.
            raise MissingError("The branch was renamed.", reason="branch_renamed")
        return Branch(found.name, found.commit.sha, found.protected)

    async def rules(self, branch: str) -> Sequence[Rule]:
        """Read without validation: GitHub adds rule types, and an unknown one must be seen, not rejected."""
        owner, name = await self._home()
        rules: list[Rule] = []
        async for page in self._calls.pages(
            self._rest.repos.async_get_branch_rules, owner, name, _ref(branch)
        ):
            rules += [Rule(str(one.get("type")), one.get("parameters") or {}) for one in objects(page)]
        return rules

    async def commit(self, sha: str) -> Commit:
        """One file of the diff is asked for, since GitHub sends no fewer."""
        owner, name = await self._home()
        found = await self._calls.read(self._rest.repos.async_get_commit, owner, name, sha, per_page=1)
        return shapes.commit(found)

    async def tree_sha(self, sha: str) -> str:
        owner, name = await self._home()
        return (await self._calls.read(self._rest.git.async_get_commit, owner, name, sha)).tree.sha

    async def tree(self, sha: str) -> Tree:
        tree_sha = await self.tree_sha(sha)
        entries: list[TreeEntry] = []
        async for entry in self._walk(tree_sha, "", _Patience()):
            entries.append(entry)
            if len(entries) > MOST_ENTRIES:
                raise _too_large()
        return Tree(tree_sha, tuple(entries))

    async def _walk(self, tree_sha: str, prefix: str, patience: _Patience) -> AsyncIterator[TreeEntry]:
        """Folder by folder where the recursive answer is cut off (100,000 entries or 7 MB).

        https://docs.github.com/rest/git/trees#get-a-tree
        """
        owner, name = await self._home()
        get = self._rest.git.async_get_tree
        patience.asks()
        found = await self._calls.read(get, owner, name, tree_sha, recursive="1")
        whole = not found.truncated
        if not whole:
            patience.asks()
            found = await self._calls.read(get, owner, name, tree_sha)
            if found.truncated:
                raise InvalidError("A folder has more files than GitHub lists.", reason="tree_too_large")
        for entry in found.tree:
            if entry.type != "tree":
                size = entry.size if isinstance(entry.size, int) else None
                yield TreeEntry(prefix + entry.path, entry.mode, entry.sha, size)
            elif not whole:
                async for below in self._walk(entry.sha, f"{prefix}{entry.path}/", patience):
                    yield below

    async def blob(self, sha: str) -> bytes:
        owner, name = await self._home()
        found = await self._calls.read(self._rest.git.async_get_blob, owner, name, sha)
        return base64.b64decode(found.content) if found.encoding == "base64" else found.content.encode()

    async def archive(self, sha: str) -> AsyncIterator[bytes]:
        """Streamed from where GitHub redirects to; the token stays behind. A broken stream is a TransientError."""
        owner, name = await self._home()
        response = await self._calls.read_response(
            self._rest.repos.async_download_tarball_archive, owner, name, sha, stream=True
        )
        try:
            async for chunk in response.raw_response.aiter_bytes():
                yield chunk
        except (httpx.HTTPError, RequestError):
            raise TransientError("The download of the archive broke off.", reason="network") from None
        finally:
            await response.raw_response.aclose()

    async def pull_request(self, number: int) -> PullRequest:
        owner, name = await self._home()
        found = await self._calls.read_response(self._rest.pulls.async_get, owner, name, number)
        return shapes.pull_request(json_of(found))

    async def pull_requests(self, *, head_branch: str, state: str = "all") -> Sequence[PullRequest]:
        """GitHub's `head` filter takes forks of the same owner too, and a filter it cannot read is no filter."""
        owner, name = await self._home()
        head = f"{owner}:{head_branch}"
        wanted = cast("Literal['open', 'closed', 'all']", state)
        pages = self._calls.pages(self._rest.pulls.async_list, owner, name, state=wanted, head=head)
        pulls = [shapes.pull_request(one) async for page in pages for one in objects(page)]
        ours = [
            one
            for one in pulls
            if one.head_ref == head_branch and one.head_repository_id == self._repository_id
        ]
        return sorted(ours, key=lambda one: one.number, reverse=True)

    async def failed_checks(self, sha: str) -> Sequence[FailedCheck]:
        return await FailedChecks(self._rest, self._calls, await self._home(), sha)()

    async def job_log(self, job_id: int, *, last_bytes: int) -> str:
        """Whole lines, without the times that GitHub writes before them; ANSI colours and `##[…]` marks are left in."""
        return await JobLog(self._rest, self._calls, await self._home(), job_id)(last_bytes)

    async def checks(self, sha: str) -> Checks:
        """Check runs and commit statuses together; read without validation, since GitHub's conclusions grow."""
        owner, name = await self._home()
        counts = {"pending": 0, "failed": 0, "passed": 0}
        async for page in self._calls.pages(self._rest.checks.async_list_for_ref, owner, name, sha):
            for run in objects(page, "check_runs"):
                done = run.get("status") == "completed"
                passed = run.get("conclusion") in _PASSED
                counts["pending" if not done else "passed" if passed else "failed"] += 1
        states = {"pending": "pending", "success": "passed"}
        async for status in self._calls.pages(
            self._rest.repos.async_get_combined_status_for_ref, owner, name, sha
        ):
            for one in objects(status, "statuses"):
                counts[states.get(str(one.get("state")), "failed")] += 1
        return Checks(**counts)


@dataclass(slots=True)
class _Patience:
    """How much is asked for one tree. A few folders that hold each other's hashes unfold into billions of files."""

    left: int = MOST_LISTINGS

    def asks(self) -> None:
        """Raises InvalidError (`tree_too_large`)."""
        self.left -= 1
        if self.left < 0:
            raise _too_large()


def _too_large() -> InvalidError:
    return InvalidError("This commit has more files than can be worked on.", reason="tree_too_large")


def _thread(row: Mapping[str, Any], said: Mapping[int, Sequence[Comment]]) -> ReviewThread | None:
    """None for a thread whose comments were deleted between the two questions."""
    try:
        first = row["comments"]["nodes"][0]
        begun = int((first["replyTo"] or first)["fullDatabaseId"])
        node_id, path, line = str(row["id"]), str(row["path"]), row["line"]
        resolved, outdated = bool(row["isResolved"]), bool(row["isOutdated"])
    except (KeyError, TypeError, ValueError):
        raise unreadable() from None
    except IndexError:
        return None
    comments = sorted(said.get(begun, ()), key=lambda one: one.id)
    return ReviewThread(node_id, path, line, resolved, outdated, tuple(comments)) if comments else None


def _ref(name: str) -> str:
    """A branch's name in a path: its slashes stay, what would end the path does not."""
    return quote(name, safe="/")
