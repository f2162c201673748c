"""Who has a role of their own in an installation: `member LOGIN ROLE`, read and made.

A role stands by GitHub's id of the account. Nobody changes their own, and whoever changes another's is looked at again in the
transaction that does it: so of two administrators who take each other's role at once the second one is refused, and
one who administers is always left.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.custody import settings
from app.custody.settings import MEMBER, MOST_MEMBERS, InstallationSettings, Member, SettingError
from app.errors import RefusedError, UserError
from app.nouns import Account, Action, Facts, Given, Installation, Role, StoredSettings
from app.ports import Appends, Clock, Store, Transaction

DEFAULT: Final = "default"
"""What people write and read for no role of somebody's own: GitHub decides."""

ROLES: Final[dict[str, Role | None]] = {**{str(one): one for one in Role}, DEFAULT: None}

_ALSO: Final[dict[str, Role | None]] = {
    "admin": Role.ADMINISTRATOR,
    "view": Role.VIEWER,
    "request": Role.REQUESTER,
    "github": None,
    "none": None,
}
_FILLERS = frozenset({"is", "as", "to", "a", "an", "the", "="})
# A login, and of an account that a company manages: https://docs.github.com/en/admin/managing-iam/iam-configuration-reference/username-considerations-for-external-authentication
_LOGIN = re.compile(r"[a-z0-9][a-z0-9-]{0,99}(?:_[a-z0-9]{1,30})?", re.IGNORECASE | re.ASCII)


class MemberError(UserError):
    """GitHub knows no person of this login, and nobody of this login has a role here."""


class NotTheirsToChangeError(RefusedError):
    """This is not this person's to change."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change that somebody asks for, read but not made. `role` None: GitHub decides again."""

    login: str
    role: Role | None


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who changes a role, and by which own role they were found to administer: None where GitHub says that they do."""

    person: Account
    given: Given | None


@dataclass(frozen=True, slots=True)
class Changed:
    """`old` and `new` in words; the same where nothing was different."""

    login: str
    old: str
    new: str
    settings: InstallationSettings


def wanted(words: str) -> Wanted | None:
    """What `member LOGIN ROLE` asks for; None where the words are about another setting.

    Raises SettingError, which says what would be understood.
    """
    name, _, rest = words.strip().partition(" ")
    if settings.plain_name(name) != MEMBER:
        return None
    said = [one for one in re.split(r"[\s:,`'\"*]+", rest.replace("=", " ")) if one]
    plain = [said[0], *(one for one in said[1:] if one.lower() not in _FILLERS)] if said else []
    if len(plain) != 2:
        raise SettingError(
            f"Say who, and which role: `{MEMBER} octocat viewer`. Roles are {_listed()}.",
            reason="setting_value",
        )
    return Wanted(read_login(plain[0]), read_role(plain[1]))


def read_login(word: str) -> str:
    """Raises SettingError."""
    login = word.strip().removeprefix("@")
    if _LOGIN.fullmatch(login) is None:
        raise SettingError(f"`{login[:40]}` can be nobody's login on GitHub.", reason="setting_value")
    return login


def read_role(word: str) -> Role | None:
    """Raises SettingError that names the roles there are, and the nearest one."""
    plain = word.strip().lower()
    for known in (ROLES, _ALSO):
        if plain in known:
            return known[plain]
    near = difflib.get_close_matches(plain, ROLES, n=1)
    meant = f" Did you mean `{near[0]}`?" if near else ""
    raise SettingError(f"`{plain[:40]}` is no role.{meant} Roles are {_listed()}.", reason="setting_value")


def _listed() -> str:
    return ", ".join(f"`{one}`" for one in ROLES)


# --- by whom ---------------------------------------------------------------------------------------------------------


async def require_still(transaction: Transaction, by: Administrator) -> None:
    """Raises NotTheirsToChangeError where `by` no longer administers by what they were found to: GitHub was asked meanwhile, which may
    take seconds. Nobody's role changes from here to this transaction's end."""
    await transaction.last_entry()  # holds the chain, as who changes a role does
    before, installation = await settings.read(transaction), await transaction.installation()
    if installation is not None and before.given(installation, by.person.id) != by.given:
        raise NotTheirsToChangeError(
            "Your own role was changed just now, so nothing was done. Look at it and ask again.",
            reason="member_meanwhile",
        )


# --- changing one ----------------------------------------------------------------------------------------------------


def changed(
    before: InstallationSettings,
    installation: Installation,
    by: Administrator,
    *,
    whom: Account,
    role: Role | None,
    at: datetime,
) -> InstallationSettings:
    """The settings with this person's role; the same ones where it is theirs already.

    Raises NotTheirsToChangeError for one's own role, for that of the account's owner, and where `by` no longer administers by
    what they were found to. Raises MemberError where there are as many as there may be.
    """
    if whom.id == by.person.id:
        raise NotTheirsToChangeError(
            "Nobody changes their own role, so that an installation always has an administrator.",
            reason="member_own",
        )
    if settings.owns(installation, whom.id):
        raise NotTheirsToChangeError(
            f"{whom.login} owns this account and stays its administrator.", reason="member_owner"
        )
    if before.given(installation, by.person.id) != by.given:
        raise NotTheirsToChangeError(
            "Your own role was changed just now, so nothing was changed here. Look at it and ask again.",
            reason="member_meanwhile",
        )
    held = before.member(whom.id)
    if (held.role if held else None) == role:
        return before
    others = tuple(one for one in before.members if one.id != whom.id)
    if role is None:
        return before.model_copy(update={"members": others})
    if len(others) >= MOST_MEMBERS:
        raise MemberError(
            f"{MOST_MEMBERS} people have a role of their own here, and there can be no more.",
            reason="member_full",
        )
    made = Member(id=whom.id, login=whom.login, role=role, by=by.person.login, since=at)
    return before.model_copy(update={"members": (*others, made)})


async def change(
    store: Store,
    ledger: Appends,
    clock: Clock,
    *,
    installation_id: int,
    by: Administrator,
    wanted: Wanted,
    present: Account | None,
) -> Changed:
    """Make the change and write it down, both or neither. Whoever calls has made sure that `by` administers.

    `present` is who has this login now, by GitHub's word: theirs is the role. One who has none any more, or never had one, is
    found by the login that they had when it was given, for the role to be taken away. Raises as `changed`, and MemberError.
    """
    async with store.transaction(installation_id) as transaction:
        await (
            transaction.last_entry()
        )  # holds the chain: of two changes at once, the second one sees the first
        before = await settings.read(transaction)
        installation = await transaction.installation()
        whom = _whom(before, wanted, present)
        if installation is None or whom is None:
            raise MemberError(reason="member_unknown")
        after = changed(before, installation, by, whom=whom, role=wanted.role, at=clock())
        old, new = (said(one.member(whom.id)) for one in (before, after))
        if before != after:
            await transaction.put_settings(
                StoredSettings(after.document(), after.legal_hold is not None, by.person.login, clock())
            )
            facts: Facts = {"name": MEMBER, "login": whom.login, "account": whom.id, "old": old, "new": new}
            await ledger.append(
                transaction, installation_id, Action.SETTING_CHANGED, by.person.login, None, facts
            )
    return Changed(whom.login, old, new, after)


def _whom(before: InstallationSettings, wanted: Wanted, present: Account | None) -> Account | None:
    if present is not None and (wanted.role is not None or before.member(present.id) is not None):
        return present
    named = [one for one in before.members if one.login.casefold() == wanted.login.casefold()]
    if wanted.role is None and len(named) == 1:
        return Account(named[0].id, named[0].login, "User")
    return present


def said(member: Member | None) -> str:
    """A role in words."""
    return DEFAULT if member is None else str(member.role)


def sorted_by_login(chosen: InstallationSettings) -> Sequence[Member]:
    return sorted(chosen.members, key=lambda one: (one.login.casefold(), one.id))
