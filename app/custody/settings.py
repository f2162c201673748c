"""What an installation has chosen: how long its records are kept, where its code may be sent, what a run may cost, and who has
a role of their own.

One small document per installation, read in one select. It holds choices from closed lists, numbers, names of models and logins,
and never a text or a secret of anybody's. Every change is an entry in the action log.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.errors import DefectError, ErasedError, UserError
from app.nouns import Action, Destination, Given, Installation, Role, StoredSettings
from app.patterns import KINDS
from app.ports import Appends, Clock, Store, Transaction

Provider = Literal["anthropic", "openai"]
Region = Literal["us", "eu", "global", "unknown"]
Kind = Literal["tests", "dependencies", "infrastructure", "migrations", "documentation"]

PROVIDERS: Final[tuple[Provider, ...]] = ("anthropic", "openai")
REGIONS: Final[tuple[Region, ...]] = ("us", "eu", "global", "unknown")
"""`global`: the provider says itself that it may be anywhere. `unknown`: nobody said where the address is."""

MOST_MONTHS: Final = 120
MOST_UNINSTALLED_DAYS: Final = 90
MOST_MEMBERS: Final = 200


class SettingError(UserError):
    """That is no setting, or no value for it."""


class LegalHold(BaseModel):
    """Whose word stops all removal, and since when."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    by: str
    since: datetime


class Member(BaseModel):
    """Somebody with a role of their own: by GitHub's id, which a rename leaves as it is. `login` is what they were called then,
    `by` the login of who gave it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: int
    login: str
    role: Role
    by: str
    since: datetime


class InstallationSettings(BaseModel):
    """`providers` and `regions`: None allows all that this service offers, nothing in them allows none. `models` empty: the
    service's own, or what the installation's own keys open. Who is none of `members` has what GitHub says."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    runs_months: int = Field(default=12, ge=1, le=MOST_MONTHS)
    log_months: int = Field(default=12, ge=1, le=MOST_MONTHS)
    uninstalled_days: int = Field(default=MOST_UNINSTALLED_DAYS, ge=0, le=MOST_UNINSTALLED_DAYS)
    providers: tuple[Provider, ...] | None = None
    regions: tuple[Region, ...] | None = None
    models: tuple[str, ...] = ()
    plan_first: bool = False
    left_alone: tuple[Kind, ...] = ()
    run_usd: Decimal | None = None
    day_usd: Decimal | None = None
    month_usd: Decimal | None = None
    legal_hold: LegalHold | None = None
    members: tuple[Member, ...] = Field(default=(), max_length=MOST_MEMBERS)

    @field_validator("members")
    @classmethod
    def _each_once(cls, members: tuple[Member, ...]) -> tuple[Member, ...]:
        """Of two roles of one person neither is the one."""
        if len({one.id for one in members}) != len(members):
            raise ValueError("somebody has two roles")
        return members

    def document(self) -> str:
        """As it is stored. What came later than the rest stands in it only where it was chosen: a program of before it reads the
        document too, while both run, and refuses what it does not know."""
        unchosen = {name for name in _LATER if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump_json(exclude=unchosen)

    def member(self, person_id: int) -> Member | None:
        """None for whoever has no role of their own."""
        return next((one for one in self.members if one.id == person_id), None)

    def given(self, installation: Installation, person_id: int) -> Given | None:
        """The role that holds: the owner of a personal account stays what they are, whatever is written."""
        if owns(installation, person_id) or (found := self.member(person_id)) is None:
            return None
        return Given(found.role, found.by)

    def allows(self, destination: Destination) -> bool:
        """Whether anything may be sent there."""
        return (self.providers is None or destination.provider in self.providers) and (
            self.regions is None or destination.region in self.regions
        )


_LATER: Final = ("members", "plan_first", "left_alone")

DEFAULTS: Final = InstallationSettings()


def owns(installation: Installation, person_id: int) -> bool:
    """Whether the installation is on this person's own account."""
    return installation.account_type == "User" and installation.account_id == person_id


async def read(transaction: Transaction) -> InstallationSettings:
    """What holds now; the defaults where nothing was ever chosen.

    Raises DefectError (`settings_unreadable`) rather than to guess: then nothing is sent and nothing is removed.
    """
    stored = await transaction.settings()
    if stored is None:
        return DEFAULTS
    try:
        return InstallationSettings.model_validate_json(stored.document)
    except ValidationError as error:
        raise DefectError(
            "The installation's settings cannot be read.", reason="settings_unreadable"
        ) from error


ALERTS: Final = (100, 90, 80)
"""Of a hundred that a budget has, how many are used when people are to hear of it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the day or the month may cost, and has cost so far, in dollars."""

    setting: str
    period: str
    limit_usd: Decimal
    spent_usd: Decimal

    @property
    def percent(self) -> int:
        """Rounded down; a budget of nothing is used up."""
        return int(self.spent_usd * 100 / self.limit_usd) if self.limit_usd else 100

    @property
    def alert(self) -> int | None:
        """The highest of ALERTS that is reached."""
        return next((one for one in ALERTS if self.percent >= one), None)

    def crossed_by(self, cost_usd: Decimal) -> int | None:
        """The alert that was reached by the last `cost_usd` of what is spent, and not before."""
        before = replace(self, spent_usd=self.spent_usd - cost_usd)
        return self.alert if self.alert != before.alert else None


async def budgets(transaction: Transaction, chosen: InstallationSettings, now: datetime) -> Sequence[Budget]:
    """Those that are set, by days and months of UTC."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    periods = (
        ("limit-day", "today", chosen.day_usd, day),
        ("limit-month", "this month", chosen.month_usd, day.replace(day=1)),
    )
    return [
        Budget(setting, period, limit, await transaction.spent(since))
        for setting, period, limit, since in periods
        if limit is not None
    ]


async def left(transaction: Transaction, chosen: InstallationSettings, now: datetime) -> Decimal | None:
    """What may be spent now, in dollars: the lower of what the day and the month have left (UTC); None without a limit. Runs at
    work at the same time are told the same."""
    found = await budgets(transaction, chosen, now)
    return min([one.limit_usd - one.spent_usd for one in found], default=None)


# --- changing one ----------------------------------------------------------------------------------------------------

_EVERYTHING = frozenset({"any", "all", "default", "everything"})
_NOTHING = frozenset({"none", "nothing", "no", "off"})
_NUMBER = re.compile(r"(?P<number>[0-9]{1,4})\s*(?P<unit>[a-z]*)", re.IGNORECASE | re.ASCII)
_AMOUNT = re.compile(
    r"\$?\s*(?P<amount>[0-9]{1,6}(?:\.[0-9]{1,4})?)\s*(?:\$|usd|dollars?)?", re.IGNORECASE | re.ASCII
)
_MODEL = re.compile(r"(?:anthropic|openai):[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as people know it. `read` makes its value of their words and raises SettingError; `show` says it."""

    name: str
    field: str
    means: str
    example: str
    read: Callable[[str], object]
    show: Callable[[Any], str]


def _within(value: int, least: int, most: int, unit: str) -> int:
    if not least <= value <= most:
        raise SettingError(
            f"This can be from {least} to {most} {unit}, and {value} is not.", reason="setting_value"
        )
    return value


def _months(words: str) -> int:
    found = _NUMBER.fullmatch(words)
    unit = found["unit"].lower() if found else "?"
    if found is None or unit not in ("", "m", "month", "months", "y", "year", "years"):
        raise SettingError("Say how many months, such as `6 months`.", reason="setting_value")
    return _within(int(found["number"]) * (12 if unit.startswith("y") else 1), 1, MOST_MONTHS, "months")


def _days(words: str) -> int:
    found = _NUMBER.fullmatch(words)
    if found is None or found["unit"].lower() not in ("", "d", "day", "days"):
        raise SettingError("Say how many days, such as `30 days`.", reason="setting_value")
    return _within(int(found["number"]), 0, MOST_UNINSTALLED_DAYS, "days")


def _of(known: Sequence[str], *, any_of_them: bool = True) -> Callable[[str], object]:
    """`any_of_them`: that none is named may mean all."""
    besides = "`any` or `none`" if any_of_them else "or `none`"

    def chosen(words: str) -> object:
        wanted = [one for one in re.split(r"[\s,;]+|\band\b", words.lower()) if one]
        if not wanted:
            raise SettingError(f"Say which: {', '.join(known)}, {besides}.", reason="setting_value")
        if wanted[0] in _EVERYTHING and len(wanted) == 1 and any_of_them:
            return None
        if wanted[0] in _NOTHING and len(wanted) == 1:
            return ()
        for one in wanted:
            if one not in known:
                near = difflib.get_close_matches(one, known, n=1)
                meant = f" Did you mean `{near[0]}`?" if near else ""
                raise SettingError(
                    f"`{one[:40]}` is none of {', '.join(known)}, {besides}.{meant}",
                    reason="setting_value",
                )
        return tuple(one for one in known if one in wanted)

    return chosen


def _models(words: str) -> object:
    if words.lower() in _EVERYTHING | _NOTHING:
        return ()
    wanted = [one for one in re.split(r"[\s,;]+|\band\b", words) if one]
    for one in wanted:
        if _MODEL.fullmatch(one) is None:
            raise SettingError(
                f"`{one[:80]}` names no model. Write `anthropic:NAME` or `openai:NAME`, several with commas between, "
                "or `default`.",
                reason="setting_value",
            )
    if not 0 < len(wanted) <= 8:
        raise SettingError("Name one to eight models, or `default`.", reason="setting_value")
    return tuple(dict.fromkeys(wanted))


def _dollars(words: str) -> object:
    if words.lower() in _EVERYTHING | _NOTHING:
        return None
    found = _AMOUNT.fullmatch(words)
    amount = Decimal(found["amount"]) if found else Decimal(0)
    if amount <= 0:
        raise SettingError(
            "Say how many dollars, such as `$20`, or `none` for no limit of your own.", reason="setting_value"
        )
    return amount


def _switch(words: str) -> object:
    if words.lower() in ("on", "yes", "true"):
        return True
    if words.lower() in ("off", "no", "false", "none"):
        return False
    raise SettingError("This is `on` or `off`.", reason="setting_value")


def _listed(value: Sequence[str] | None) -> str:
    if value is None:
        return "any"
    return ", ".join(value) or "none"


def _plural(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _usd(value: Decimal | None) -> str:
    return "none" if value is None else f"${value}"


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        "keep-runs",
        "runs_months",
        "how long ended runs are kept; deliveries 30 days at most",
        "6 months",
        _months,
        lambda value: _plural(value, "month"),
    ),
    Setting(
        "keep-log",
        "log_months",
        "how long the action log is kept",
        "24 months",
        _months,
        lambda value: _plural(value, "month"),
    ),
    Setting(
        "keep-uninstalled",
        "uninstalled_days",
        "how long all of it waits for you to come back after the App was uninstalled or its plan ended; after a plan's end all "
        "is gone within 30 days in any case",
        "30 days",
        _days,
        lambda value: _plural(value, "day"),
    ),
    Setting(
        "providers",
        "providers",
        "which model providers code may be sent to",
        "anthropic",
        _of(PROVIDERS),
        _listed,
    ),
    Setting("regions", "regions", "which regions code may be sent to", "eu", _of(REGIONS), _listed),
    Setting(
        "models",
        "models",
        "which models are asked where a repository's file names none, in this order",
        "anthropic:NAME, openai:NAME",
        _models,
        lambda value: ", ".join(value) or "default",
    ),
    Setting(
        "plan-first",
        "plan_first",
        "whether a request for a change is answered with a plan first, in every repository, and work begins when somebody says `go`",
        "on",
        _switch,
        lambda value: "on" if value else "off",
    ),
    Setting(
        "leave-alone",
        "left_alone",
        f"which kinds of files no change may touch, in every repository: {', '.join(KINDS)}; paths of its own each repository's file "
        "denies",
        "dependencies, infrastructure",
        _of(tuple(KINDS), any_of_them=False),
        lambda value: ", ".join(value) or "none",
    ),
    Setting("limit-run", "run_usd", "what one run may cost at most", "$2", _dollars, _usd),
    Setting("limit-day", "day_usd", "what all runs of a day (UTC) may cost together", "$20", _dollars, _usd),
    Setting(
        "limit-month", "month_usd", "what all runs of a month (UTC) may cost together", "$200", _dollars, _usd
    ),
    Setting(
        "legal-hold",
        "legal_hold",
        "whether nothing at all may be removed",
        "on",
        _switch,
        lambda value: f"on, by {value.by} since {value.since:%Y-%m-%d %H:%M} UTC" if value else "off",
    ),
)

_ALSO: Final = {
    "provider": "providers",
    "region": "regions",
    "model": "models",
    "legalhold": "legal-hold",
    "hold": "legal-hold",
    "plan": "plan-first",
    "paths": "leave-alone",
    "keep-run": "keep-runs",
    "keep-logs": "keep-log",
    "members": "member",
    "role": "member",
    "roles": "member",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change that somebody asks for, read but not made."""

    setting: Setting
    value: object


def wanted(words: str) -> Wanted:
    """What `NAME VALUE` asks for. Raises SettingError, which says what would be understood."""
    name, _, value = words.strip().partition(" ")
    setting = find(name)
    value = value.strip().strip("`'\"").removeprefix("=").removeprefix("to ").strip()
    if not value:
        raise SettingError(
            f"Say what `{setting.name}` shall be, such as `{setting.name} {setting.example}`.",
            reason="setting_value",
        )
    return Wanted(setting, setting.read(value))


MEMBER: Final = "member"
"""What `app.custody.members` reads: it has a name and a value for each person."""


def find(name: str) -> Setting:
    """The setting of this name. Raises SettingError that names those there are, and the nearest one."""
    plain = plain_name(name)
    known = {one.name: one for one in SETTINGS}
    if plain in known:
        return known[plain]
    if plain == MEMBER:
        raise SettingError(
            "A role is given to one person: `member LOGIN ROLE` in a comment, or on the members' page.",
            reason="setting_unknown",
        )
    there = (*known, MEMBER)
    near = difflib.get_close_matches(plain, there, n=1, cutoff=0.5)
    meant = f" Did you mean `{near[0]}`?" if near else ""
    raise SettingError(
        f"`{plain[:40]}` is no setting.{meant} There are: {', '.join(f'`{one}`' for one in there)}.",
        reason="setting_unknown",
    )


def plain_name(name: str) -> str:
    """As people write it, with its other spellings."""
    plain = name.strip("`'\":=*").lower().replace("_", "-")
    return _ALSO.get(plain, plain)


def shown(settings: InstallationSettings) -> Mapping[str, str]:
    """Each setting's value in words, by its name."""
    return {one.name: one.show(getattr(settings, one.field)) for one in SETTINGS}


@dataclass(frozen=True, slots=True)
class Changed:
    """`old` and `new` in words; the same where nothing was different."""

    name: str
    old: str
    new: str
    settings: InstallationSettings


async def change(
    store: Store,
    ledger: Appends,
    clock: Clock,
    *,
    installation_id: int,
    by: str,
    wanted: Wanted,
    still: Callable[[Transaction], Awaitable[None]] | None = None,
) -> Changed:
    """Make the change and write it down, both or neither. Whoever calls has made sure that `by` may, and `still` raises where that is
    so no more. Raises ErasedError."""
    setting = wanted.setting
    async with store.transaction(installation_id) as transaction:
        await (
            transaction.last_entry()
        )  # holds the chain: of two changes at once, the second one sees the first
        if await transaction.erasure() is not None:  # it has begun since the tenant was entered
            raise ErasedError
        if still is not None:
            await still(transaction)
        before = await read(transaction)
        value = wanted.value
        if setting.field == "legal_hold":
            # A hold that is on already keeps its beginning.
            value = (before.legal_hold or LegalHold(by=by, since=clock())) if value else None
        after = before.model_copy(update={setting.field: value})
        old, new = (setting.show(getattr(one, setting.field)) for one in (before, after))
        if before != after:
            await transaction.put_settings(
                StoredSettings(after.document(), after.legal_hold is not None, by, clock())
            )
            facts = {"name": setting.name, "old": old, "new": new}
            await ledger.append(transaction, installation_id, Action.SETTING_CHANGED, by, None, facts)
    return Changed(setting.name, old, new, after)
