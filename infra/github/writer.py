"""One repository written to through the publisher's token. Each method is one request and is sent once."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final, Literal, cast
from urllib.parse import quote

from githubkit import GitHub
from githubkit_schemas.v2026_03_10.types import (
    ReposOwnerRepoGitTreesPostBodyPropTreeItemsType,
    ReposOwnerRepoPullsPullNumberPatchBodyType,
)

from app.nouns import Comment, Commit, PullRequest, TreeChange
from infra.github import shapes
from infra.github.auth import InstallationToken
from infra.github.calls import Calls, json_of, parsed
from infra.github.reader import API_VERSION, Home

MARK_READY: Final = """
mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } } }
""".strip()
"""REST has no such route: https://docs.github.com/graphql/reference/mutations#markpullrequestreadyforreview"""


Reaction = Literal["+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"]


class GitHubWriter:
    """Implements app.ports.RepositoryWriter."""

    def __init__(self, github: GitHub[InstallationToken], calls: Calls, repository_id: int) -> None:
        self._github = github
        self._rest = github.rest(API_VERSION)
        self._calls = calls
        self._home = Home(self._rest, calls, repository_id)

    async def create_blob(self, content: bytes) -> str:
        owner, name = await self._home()
        encoded = base64.b64encode(content).decode("ascii")
        made = await self._calls.write(
            "git.async_create_blob",
            lambda: self._rest.git.async_create_blob(owner, name, content=encoded, encoding="base64"),
        )
        return made.sha

    async def create_tree(self, base_tree: str, changes: Sequence[TreeChange]) -> str:
        owner, name = await self._home()
        items = [
            cast(
                "ReposOwnerRepoGitTreesPostBodyPropTreeItemsType",
                {"path": one.path, "mode": one.mode, "type": "blob", "sha": one.blob_sha},
            )
            for one in changes
        ]
        made = await self._calls.write(
            "git.async_create_tree",
            lambda: self._rest.git.async_create_tree(owner, name, base_tree=base_tree, tree=items),
        )
        return made.sha

    async def create_commit(self, message: str, tree: str, parents: Sequence[str]) -> Commit:
        """Without author, committer and signature: GitHub signs what an App commits so.

        https://docs.github.com/en/authentication/managing-commit-signature-verification/about-commit-signature-verification#signature-verification-for-bots
        """
        owner, name = await self._home()
        made = await self._calls.write(
            "git.async_create_commit",
            lambda: self._rest.git.async_create_commit(
                owner, name, message=message, tree=tree, parents=list(parents)
            ),
        )
        return shapes.git_commit(made)

    async def create_ref(self, branch: str, sha: str) -> None:
        owner, name = await self._home()
        await self._calls.write(
            "git.async_create_ref",
            lambda: self._rest.git.async_create_ref(owner, name, ref=f"refs/heads/{branch}", sha=sha),
        )

    async def update_ref(self, branch: str, sha: str) -> None:
        owner, name = await self._home()
        ref = quote(f"heads/{branch}", safe="/")
        await self._calls.write(
            "git.async_update_ref",
            lambda: self._rest.git.async_update_ref(owner, name, ref, sha=sha, force=False),
        )

    async def delete_ref(self, branch: str) -> None:
        """https://docs.github.com/rest/git/refs#delete-a-reference: 422 says that there is none, too."""
        owner, name = await self._home()
        ref = quote(f"heads/{branch}", safe="/")
        await self._calls.write_response(
            "git.async_delete_ref", lambda: self._rest.git.async_delete_ref(owner, name, ref)
        )

    async def create_pull_request(
        self, *, title: str, body: str, head: str, base: str, draft: bool
    ) -> PullRequest:
        owner, name = await self._home()
        made = await self._calls.write_response(
            "pulls.async_create",
            lambda: self._rest.pulls.async_create(
                owner, name, title=title, body=body, head=head, base=base, draft=draft
            ),
        )
        return shapes.pull_request(json_of(made))

    async def update_pull_request(
        self, number: int, *, title: str | None = None, body: str | None = None
    ) -> PullRequest:
        owner, name = await self._home()
        data: ReposOwnerRepoPullsPullNumberPatchBodyType = {}
        if title is not None:
            data["title"] = title
        if body is not None:
            data["body"] = body
        made = await self._calls.write_response(
            "pulls.async_update", lambda: self._rest.pulls.async_update(owner, name, number, data=data)
        )
        return shapes.pull_request(json_of(made))

    async def mark_ready(self, pull_request: PullRequest) -> None:
        if pull_request.draft:
            await self._calls.mutate(
                self._github, "markPullRequestReadyForReview", MARK_READY, {"id": pull_request.node_id}
            )

    async def merge(self, branch: str, head_sha: str, message: str) -> Commit | None:
        """GitHub makes and signs the merge commit, and answers 204 where the branch has the commit already.

        https://docs.github.com/rest/branches/branches#merge-a-branch
        """
        owner, name = await self._home()
        answer = await self._calls.write_response(
            "repos.async_merge",
            lambda: self._rest.repos.async_merge(
                owner, name, base=branch, head=head_sha, commit_message=message
            ),
        )
        return None if answer.status_code == 204 else shapes.commit(parsed(answer))

    async def reply_in_thread(self, number: int, comment_id: int, body: str) -> Comment:
        owner, name = await self._home()
        made = await self._calls.write_response(
            "pulls.async_create_reply_for_review_comment",
            lambda: self._rest.pulls.async_create_reply_for_review_comment(
                owner, name, number, comment_id, body=body
            ),
        )
        return shapes.comment_on_code(json_of(made))

    async def create_comment(self, number: int, body: str) -> Comment:
        owner, name = await self._home()
        made = await self._calls.write(
            "issues.async_create_comment",
            lambda: self._rest.issues.async_create_comment(owner, name, number, body=body),
        )
        return shapes.comment(made)

    async def update_comment(self, comment_id: int, body: str) -> Comment:
        owner, name = await self._home()
        made = await self._calls.write(
            "issues.async_update_comment",
            lambda: self._rest.issues.async_update_comment(owner, name, comment_id, body=body),
        )
        return shapes.comment(made)

    async def react(self, content: str, *, comment_id: int | None, number: int) -> None:
        """GitHub answers 200 for a reaction that is there already, 201 for a new one."""
        owner, name = await self._home()
        kind = cast("Reaction", content)
        if comment_id is None:
            await self._calls.write(
                "reactions.async_create_for_issue",
                lambda: self._rest.reactions.async_create_for_issue(owner, name, number, content=kind),
            )
        else:
            await self._calls.write(
                "reactions.async_create_for_issue_comment",
                lambda: self._rest.reactions.async_create_for_issue_comment(
                    owner, name, comment_id, content=kind
                ),
            )

    async def react_review_comment(self, content: str, comment_id: int) -> None:
        owner, name = await self._home()
        kind = cast("Reaction", content)
        await self._calls.write(
            "reactions.async_create_for_pull_request_review_comment",
            lambda: self._rest.reactions.async_create_for_pull_request_review_comment(
                owner, name, comment_id, content=kind
            ),
        )
