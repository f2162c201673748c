"""The four ways in which work ends early: the user's error, a transient one, a refusal, a defect of ours.

An error's docstring is its message: what happened, and what the reader can do about it. `reason` is a short,
stable, content-free code that may be stored and counted; the message may not.
"""

from __future__ import annotations

import errno
import inspect
from datetime import timedelta


class MagicodeError(Exception):
    """Something went wrong."""

    # Answers of models (app.nouns.ModelAnswer) that were paid for before this was raised and that nobody was given.
    paid_for: tuple[object, ...] = ()

    def __init__(self, message: str | None = None, *, reason: str | None = None) -> None:
        self.message: str = message or inspect.cleandoc(type(self).__doc__ or "")
        self.reason: str = reason or _snake(type(self).__name__)
        super().__init__(self.message)


class UserError(MagicodeError):
    """The request cannot be worked on as it stands; the comment that answers it says what would help."""


class TransientError(MagicodeError):
    """The outside world is briefly away; the step is tried again."""

    def __init__(
        self, message: str | None = None, *, reason: str | None = None, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class LimitedError(TransientError):
    """The outside world asks to be left alone for a while, and names the time (`retry_after`). Waiting for that is no failure:
    the work is put back until then and goes on by itself."""


class PausedError(LimitedError):
    """Whoever runs this service has paused it, for this installation or for all. Nothing is lost: it goes on when they let it."""


class RefusedError(MagicodeError):
    """A guard said no. This is final and visible; asking again in the same way will not change it."""


class DefectError(MagicodeError):
    """A mistake of ours. It is logged and alerts the operator; nothing was published because of it."""


class WrongMasterKeyError(DefectError):
    """A data key was wrapped by a master key that is not at hand, or its bytes were changed. Name the master key that
    wrapped it in MAGICODE_MASTER_KEY, behind the new one, or bring its file back."""


class ShortError(TransientError):
    """This machine has no room, no memory or no file descriptor left for the moment; the step is tried again."""


SHORT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""The operating system's numbers for what passes once others have ended: https://man7.org/linux/man-pages/man3/errno.3.html"""


# What GitHub says no with. The adapter in `infra/github` raises these and nothing of its client library's.


class MissingError(UserError):
    """GitHub does not have this, or does not show it to the App (404)."""


class GoneError(UserError):
    """GitHub says that this is gone or switched off (410), such as the issues of a repository without issues."""


class DeniedError(RefusedError):
    """GitHub refused the App this action (403): a permission, an archived repository or a lock."""


SUSPENDED = "installation_suspended"
"""The reason of a DeniedError: somebody there, or whoever runs this service, has suspended the App's installation."""


class AlreadyExistsError(MagicodeError):
    """GitHub already has this (422). The caller looks for it and adopts it."""


class InvalidError(RefusedError):
    """GitHub would not accept this (409 or 422): a rule, a protection, or a state that does not allow it."""


class SupersededError(MagicodeError):
    """Another worker took this run over; this one stops without writing anything more."""


class ErasedError(SupersededError):
    """The installation's data is being destroyed, or was; nothing is read or written for it any more."""


class StoppedError(MagicodeError):
    """Somebody who may cancel this run did."""


def _snake(name: str) -> str:
    out = "".join(f"_{c.lower()}" if c.isupper() else c for c in name.removesuffix("Error"))
    return out.lstrip("_")
