"""May this person ask for this? Decided on GitHub's own answer, never on `author_association`, and on the role that they were given
here, which takes rights away or gives the installation's administration, and never a right to the code."""

from __future__ import annotations

from typing import Final

from app.errors import RefusedError
from app.nouns import Given, Role

_MAY_WRITE = frozenset({"admin", "maintain", "write"})
_MAY_ADMINISTER = frozenset({"admin"})
ADMIN_VERBS = frozenset({"settings", "export", "delete"})

NOT_THEIRS: Final = frozenset(
    {"no_write_permission", "not_an_administrator", "role_viewer", "role_requester"}
)
"""The reasons of requests by people who may not make them: nobody who may has asked for that."""


class NotAllowedError(RefusedError):
    """The asker's permission on the repository, or their role in the installation, does not allow this request."""


def may_ask(permission: str, verb: str, given: Given | None = None) -> bool:
    """`permission` as https://docs.github.com/en/rest/collaborators/collaborators#get-repository-permissions-for-a-user
    names it. GitHub says `write` for the maintain role and `read` for triage.

    `given` is the asker's own role, None where GitHub's permission alone counts.
    """
    administration = verb in ADMIN_VERBS
    match given.role if given else None:
        case Role.VIEWER:
            return False
        case Role.REQUESTER if administration:
            return False
        case Role.ADMINISTRATOR if administration:
            return may_read(permission)
    return permission in (_MAY_ADMINISTER if administration else _MAY_WRITE)


def may_read(permission: str) -> bool:
    """Whether somebody sees the repository at all. GitHub says `read` of everybody where it is public."""
    return permission in _MAY_WRITE | {"read", "triage"}


def require(permission: str, verb: str, login: str, given: Given | None = None) -> None:
    """Raises NotAllowedError, whose message can stand in a comment as it is."""
    if may_ask(permission, verb, given):
        return
    require_role(verb, login, given)
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


def require_role(verb: str, login: str, given: Given | None) -> None:
    """Raises NotAllowedError where the role alone is in the way, whatever GitHub says."""
    if given is None or given.role is Role.ADMINISTRATOR:
        return
    role = given.role
    if role is Role.REQUESTER and verb not in ADMIN_VERBS:
        return
    means = (
        "sees runs and asks for nothing" if role is Role.VIEWER else "asks for work and administers nothing"
    )
    raise NotAllowedError(
        f"{given.by} gave {login} the role `{role}` in this installation, who {means}, so `{verb}` was not done. "
        f"`settings member {login} default`, written by an administrator of the installation, takes the role away.",
        reason=f"role_{role}",
    )
