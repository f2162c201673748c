"""Each call that we make to GitHub and the permission it needs: the whole of what the App asks its owner for.

`tests/test_manifest.py` holds the code to this table and this table to `app-manifest.yml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_DOCS: Final = "https://docs.github.com/rest/"


@dataclass(frozen=True, slots=True)
class Route:
    """One call: GitHub's method and route template, and the repository permission that it needs.

    `permission` is None where GitHub asks for none: the App's own JWT, or any installation token.
    """

    method: str
    template: str
    permission: str | None
    access: str
    doc: str

    @property
    def changes(self) -> bool:
        """Something that is an installation's own: a token, or an event that is told once more, is not."""
        return self.access == "write" and self.permission is not None


def _route(call: str, permission: str | None, access: str, doc: str) -> Route:
    method, template = call.split(" ")
    return Route(method, template, permission, access, doc if doc.startswith("https://") else _DOCS + doc)


_REPO = "/repos/{owner}/{repo}"

ROUTES: Final[Mapping[str, Route]] = MappingProxyType(
    {
        # The App itself, by its JWT.
        "apps.async_get_authenticated": _route(
            "GET /app", None, "read", "apps/apps#get-the-authenticated-app"
        ),
        "apps.async_get_webhook_config_for_app": _route(
            "GET /app/hook/config", None, "read", "apps/webhooks#get-a-webhook-configuration-for-an-app"
        ),
        "apps.async_create_from_manifest": _route(
            "POST /app-manifests/{code}/conversions",
            None,
            "write",
            "apps/apps#create-a-github-app-from-a-manifest",
        ),
        "apps.async_list_installations": _route(
            "GET /app/installations", None, "read", "apps/apps#list-installations-for-the-authenticated-app"
        ),
        "apps.async_list_webhook_deliveries": _route(
            "GET /app/hook/deliveries", None, "read", "apps/webhooks#list-deliveries-for-an-app-webhook"
        ),
        "apps.async_redeliver_webhook_delivery": _route(
            "POST /app/hook/deliveries/{delivery_id}/attempts",
            None,
            "write",
            "apps/webhooks#redeliver-a-delivery-for-an-app-webhook",
        ),
        "apps.async_suspend_installation": _route(
            "PUT /app/installations/{installation_id}/suspended",
            None,
            "write",
            "apps/apps#suspend-an-app-installation",
        ),
        "apps.async_unsuspend_installation": _route(
            "DELETE /app/installations/{installation_id}/suspended",
            None,
            "write",
            "apps/apps#unsuspend-an-app-installation",
        ),
        "apps.async_create_installation_access_token": _route(
            "POST /app/installations/{installation_id}/access_tokens",
            None,
            "write",
            "apps/apps#create-an-installation-access-token-for-an-app",
        ),
        "apps.async_revoke_installation_access_token": _route(
            "DELETE /installation/token",
            None,
            "write",
            "apps/installations#revoke-an-installation-access-token",
        ),
        "apps.async_get_installation": _route(
            "GET /app/installations/{installation_id}",
            None,
            "read",
            "apps/apps#get-an-installation-for-the-authenticated-app",
        ),
        "users.async_get_by_id": _route(
            "GET /user/{account_id}", None, "read", "users/users#get-a-user-using-their-id"
        ),
        # A person who signs in, by that person's own token and the App's client secret.
        "users.async_get_authenticated": _route(
            "GET /user", None, "read", "users/users#get-the-authenticated-user"
        ),
        "apps.async_delete_token": _route(
            "DELETE /applications/{client_id}/token",
            None,
            "write",
            "apps/oauth-applications#delete-an-app-token",
        ),
        # What is read.
        "apps.async_list_repos_accessible_to_installation": _route(
            "GET /installation/repositories",
            "metadata",
            "read",
            "apps/installations#list-repositories-accessible-to-the-app-installation",
        ),
        "repos.async_get_collaborator_permission_level": _route(
            f"GET {_REPO}/collaborators/{{username}}/permission",
            "metadata",
            "read",
            "collaborators/collaborators#get-repository-permissions-for-a-user",
        ),
        "repos.async_get_branch_rules": _route(
            f"GET {_REPO}/rules/branches/{{branch}}", "metadata", "read", "repos/rules#get-rules-for-a-branch"
        ),
        "repos.async_get_branch": _route(
            f"GET {_REPO}/branches/{{branch}}", "contents", "read", "branches/branches#get-a-branch"
        ),
        "repos.async_get_commit": _route(
            f"GET {_REPO}/commits/{{ref}}", "contents", "read", "commits/commits#get-a-commit"
        ),
        "repos.async_download_tarball_archive": _route(
            f"GET {_REPO}/tarball/{{ref}}",
            "contents",
            "read",
            "repos/contents#download-a-repository-archive-tar",
        ),
        "git.async_get_commit": _route(
            f"GET {_REPO}/git/commits/{{commit_sha}}", "contents", "read", "git/commits#get-a-commit-object"
        ),
        "git.async_get_tree": _route(
            f"GET {_REPO}/git/trees/{{tree_sha}}", "contents", "read", "git/trees#get-a-tree"
        ),
        "git.async_get_blob": _route(
            f"GET {_REPO}/git/blobs/{{file_sha}}", "contents", "read", "git/blobs#get-a-blob"
        ),
        "issues.async_get": _route(
            f"GET {_REPO}/issues/{{issue_number}}", "issues", "read", "issues/issues#get-an-issue"
        ),
        "issues.async_list_comments": _route(
            f"GET {_REPO}/issues/{{issue_number}}/comments",
            "issues",
            "read",
            "issues/comments#list-issue-comments",
        ),
        "issues.async_get_comment": _route(
            f"GET {_REPO}/issues/comments/{{comment_id}}",
            "issues",
            "read",
            "issues/comments#get-an-issue-comment",
        ),
        "pulls.async_get": _route(
            f"GET {_REPO}/pulls/{{pull_number}}", "pull_requests", "read", "pulls/pulls#get-a-pull-request"
        ),
        "pulls.async_list": _route(
            f"GET {_REPO}/pulls", "pull_requests", "read", "pulls/pulls#list-pull-requests"
        ),
        "pulls.async_get_review": _route(
            f"GET {_REPO}/pulls/{{pull_number}}/reviews/{{review_id}}",
            "pull_requests",
            "read",
            "pulls/reviews#get-a-review-for-a-pull-request",
        ),
        "pulls.async_get_review_comment": _route(
            f"GET {_REPO}/pulls/comments/{{comment_id}}",
            "pull_requests",
            "read",
            "pulls/comments#get-a-review-comment-for-a-pull-request",
        ),
        "pulls.async_list_review_comments": _route(
            f"GET {_REPO}/pulls/{{pull_number}}/comments",
            "pull_requests",
            "read",
            "pulls/comments#list-review-comments-on-a-pull-request",
        ),
        "graphql.ReviewThreads": _route(
            "POST /graphql",
            "pull_requests",
            "read",
            "https://docs.github.com/graphql/reference/objects#pullrequestreviewthread",
        ),
        "graphql.ClosingPullRequests": _route(
            "POST /graphql", "issues", "read", "https://docs.github.com/graphql/reference/objects#issue"
        ),
        "repos.async_compare_commits": _route(
            f"GET {_REPO}/compare/{{basehead}}",
            "contents",
            "read",
            "commits/commits#compare-two-commits",
        ),
        "checks.async_list_for_ref": _route(
            f"GET {_REPO}/commits/{{ref}}/check-runs",
            "checks",
            "read",
            "checks/runs#list-check-runs-for-a-git-reference",
        ),
        "repos.async_get_combined_status_for_ref": _route(
            f"GET {_REPO}/commits/{{ref}}/status",
            "statuses",
            "read",
            "commits/statuses#get-the-combined-status-for-a-specific-reference",
        ),
        "checks.async_list_annotations": _route(
            f"GET {_REPO}/check-runs/{{check_run_id}}/annotations",
            "checks",
            "read",
            "checks/runs#list-check-run-annotations",
        ),
        "actions.async_list_workflow_runs_for_repo": _route(
            f"GET {_REPO}/actions/runs",
            "actions",
            "read",
            "actions/workflow-runs#list-workflow-runs-for-a-repository",
        ),
        "actions.async_list_jobs_for_workflow_run": _route(
            f"GET {_REPO}/actions/runs/{{run_id}}/jobs",
            "actions",
            "read",
            "actions/workflow-jobs#list-jobs-for-a-workflow-run",
        ),
        "actions.async_download_job_logs_for_workflow_run": _route(
            f"GET {_REPO}/actions/jobs/{{job_id}}/logs",
            "actions",
            "read",
            "actions/workflow-jobs#download-job-logs-for-a-workflow-run",
        ),
        # What is written.
        "git.async_create_blob": _route(
            f"POST {_REPO}/git/blobs", "contents", "write", "git/blobs#create-a-blob"
        ),
        "git.async_create_tree": _route(
            f"POST {_REPO}/git/trees", "contents", "write", "git/trees#create-a-tree"
        ),
        "git.async_create_commit": _route(
            f"POST {_REPO}/git/commits", "contents", "write", "git/commits#create-a-commit"
        ),
        "git.async_create_ref": _route(
            f"POST {_REPO}/git/refs", "contents", "write", "git/refs#create-a-reference"
        ),
        "git.async_update_ref": _route(
            f"PATCH {_REPO}/git/refs/{{ref}}", "contents", "write", "git/refs#update-a-reference"
        ),
        "git.async_delete_ref": _route(
            f"DELETE {_REPO}/git/refs/{{ref}}", "contents", "write", "git/refs#delete-a-reference"
        ),
        "repos.async_merge": _route(
            f"POST {_REPO}/merges", "contents", "write", "branches/branches#merge-a-branch"
        ),
        "pulls.async_create": _route(
            f"POST {_REPO}/pulls", "pull_requests", "write", "pulls/pulls#create-a-pull-request"
        ),
        "pulls.async_update": _route(
            f"PATCH {_REPO}/pulls/{{pull_number}}",
            "pull_requests",
            "write",
            "pulls/pulls#update-a-pull-request",
        ),
        "graphql.markPullRequestReadyForReview": _route(
            "POST /graphql",
            "pull_requests",
            "write",
            "https://docs.github.com/graphql/reference/mutations#markpullrequestreadyforreview",
        ),
        "issues.async_create_comment": _route(
            f"POST {_REPO}/issues/{{issue_number}}/comments",
            "issues",
            "write",
            "issues/comments#create-an-issue-comment",
        ),
        "pulls.async_create_reply_for_review_comment": _route(
            f"POST {_REPO}/pulls/{{pull_number}}/comments/{{comment_id}}/replies",
            "pull_requests",
            "write",
            "pulls/comments#create-a-reply-for-a-review-comment",
        ),
        "issues.async_update_comment": _route(
            f"PATCH {_REPO}/issues/comments/{{comment_id}}",
            "issues",
            "write",
            "issues/comments#update-an-issue-comment",
        ),
        "reactions.async_create_for_issue": _route(
            f"POST {_REPO}/issues/{{issue_number}}/reactions",
            "issues",
            "write",
            "reactions/reactions#create-reaction-for-an-issue",
        ),
        "reactions.async_create_for_issue_comment": _route(
            f"POST {_REPO}/issues/comments/{{comment_id}}/reactions",
            "issues",
            "write",
            "reactions/reactions#create-reaction-for-an-issue-comment",
        ),
        "reactions.async_create_for_pull_request_review_comment": _route(
            f"POST {_REPO}/pulls/comments/{{comment_id}}/reactions",
            "pull_requests",
            "write",
            "reactions/reactions#create-reaction-for-a-pull-request-review-comment",
        ),
    }
)

READER_PERMISSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        route.permission: "read"
        for route in ROUTES.values()
        if route.access == "read" and route.permission is not None
    }
)
"""What the read token is narrowed to."""
