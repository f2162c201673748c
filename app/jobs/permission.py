"""May this person ask for this? Decided on GitHub's own answer, never on `author_association`."""

from __future__ import annotations

from app.errors import RefusedError

_MAY_WRITE = frozenset({"admin", "maintain", "write"})
_MAY_ADMINISTER = frozenset({"admin"})
ADMIN_VERBS = frozenset({"settings", "export", "delete"})


class NotAllowedError(RefusedError):
    """The asker's permission on the repository does not allow this request."""


def may_ask(permission: str, verb: str) -> bool:
    """`permission` as https://docs.github.com/en/rest/collaborators/collaborators#get-repository-permissions-for-a-user
    names it. GitHub says `write` for the maintain role and `read` for triage."""
    return permission in (_MAY_ADMINISTER if verb in ADMIN_VERBS else _MAY_WRITE)


def may_read(permission: str) -> bool:
    """Whether somebody sees the repository at all. GitHub says `read` of everybody where it is public."""
    return permission in _MAY_WRITE | {"read", "triage"}


def require(permission: str, verb: str, login: str) -> None:
    """Raises NotAllowedError, whose message can stand in a comment as it is."""
    if may_ask(permission, verb):
        return
    if verb in ADMIN_VERBS:
        raise NotAllowedError(
            f"`{verb}` concerns everybody's data here, so only people who administer this repository may ask for it, "
            f"and GitHub says that {login}'s permission is `{permission}`. Ask an administrator to write the same comment.",
            reason="not_an_administrator",
        )
    raise NotAllowedError(
        f"Only people who may write to this repository can ask me for `{verb}`, and GitHub says that {login}'s "
        f"permission is `{permission}`. Someone with write access can repeat the request.",
        reason="no_write_permission",
    )
