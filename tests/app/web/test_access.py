"""What is made of GitHub's answers about access: how long they are believed, and what no answer means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.custody import members
from app.custody.members import Administrator, Wanted
from app.errors import DeniedError, GoneError, MissingError, TransientError
from app.house import House
from app.nouns import Account, Installation, Role
from app.web.access import (
    ASKED_AT_MOST,
    BELIEVED,
    CALLS_AT_MOST,
    Access,
    Allowed,
    NoTokenError,
    NotYoursError,
    Scope,
    ScopeError,
    TooManyError,
    make_token,
    remove_token,
)
from tests.line.roles import account
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Answering:
    """A GitHub that answers as it is told, and counts."""

    answer: bool | Exception = True
    asked: int = 0
    listed: Sequence[Installation] = ()
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def administers(self, _installation_id: int, _person: Account, *, witness: Any = None) -> bool:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def installations(self, *, witness: Any = None) -> Sequence[Installation]:
        self.asked += 1
        return self.listed

    def house(self, stage: Stage) -> House:
        return replace(stage.house, github=self, clock=lambda: self.now)  # type: ignore[arg-type]


def person(number: int) -> Account:
    return Account(number, f"person-{number}", "User")


async def test_a_yes_is_believed_for_five_minutes_and_no_longer(shared: Stage) -> None:
    github = Answering()
    access = Access(github.house(shared))
    for _ in range(3):
        await access.administrator(shared.installation, person(1))
    assert github.asked == 1
    github.answer = False
    github.now += BELIEVED - timedelta(seconds=1)
    await access.administrator(shared.installation, person(1))
    github.now += timedelta(seconds=1)
    with pytest.raises(NotYoursError):
        await access.administrator(shared.installation, person(1))
    assert github.asked == 2


async def test_what_changes_something_believes_no_earlier_yes(shared: Stage) -> None:
    github = Answering()
    access = Access(github.house(shared))
    await access.administrator(shared.installation, person(2))
    github.answer = False
    with pytest.raises(NotYoursError):
        await access.administrator(shared.installation, person(2), anew=True)
    github.answer = True
    with pytest.raises(NotYoursError):
        await access.administrator(shared.installation, person(2), anew=True)
    assert github.asked == 2


@pytest.mark.parametrize("refusal", [MissingError(), GoneError(), DeniedError()])
async def test_where_github_refuses_nobody_administers(shared: Stage, refusal: Exception) -> None:
    """A suspended installation is told apart from none by nobody."""
    with pytest.raises(NotYoursError):
        await Access(Answering(refusal).house(shared)).administrator(shared.installation, person(3))


async def test_that_github_is_away_is_neither_yes_nor_no(shared: Stage) -> None:
    github = Answering(TransientError(reason="away"))
    access = Access(github.house(shared))
    with pytest.raises(TransientError):
        await access.administrator(shared.installation, person(4))
    github.answer = True
    assert (await access.administrator(shared.installation, person(4))).actor == "person-4"


async def test_an_installation_that_is_not_there_costs_no_question(shared: Stage) -> None:
    github = Answering()
    access = Access(github.house(shared))
    for tenant in (1, 987_654_321):
        with pytest.raises(NotYoursError):
            await access.administrator(tenant, person(5))
    assert github.asked == 0


async def test_one_person_asks_so_often_and_others_go_on(shared: Stage) -> None:
    github = Answering()
    access = Access(github.house(shared))
    for _ in range(ASKED_AT_MOST):
        await access.administrator(shared.installation, person(6), anew=True)
    with pytest.raises(TooManyError) as raised:
        await access.administrator(shared.installation, person(6), anew=True)
    assert raised.value.retry_after is not None
    await access.administrator(shared.installation, person(6))
    await access.administrator(shared.installation, person(7), anew=True)
    github.now += raised.value.retry_after
    await access.administrator(shared.installation, person(6), anew=True)


async def test_one_token_calls_so_often_and_others_go_on(shared: Stage) -> None:
    github = Answering()
    access = Access(github.house(shared))
    allowed = await access.administrator(shared.installation, person(8))
    ours, others = [
        (await make_token(github.house(shared), allowed, frozenset({Scope.LOG}), timedelta(days=1)))[0]
        for _ in range(2)
    ]
    for _ in range(CALLS_AT_MOST):
        await access.bearer(shared.installation, ours, Scope.LOG)
    with pytest.raises(TooManyError) as raised:
        await access.bearer(shared.installation, ours, Scope.LOG)
    assert raised.value.retry_after is not None
    assert (await access.bearer(shared.installation, others, None)).actor.startswith("token:")
    github.now += raised.value.retry_after
    await access.bearer(shared.installation, ours, Scope.LOG)


async def test_a_role_that_is_given_while_github_is_asked_counts_before_anything_is_changed(
    shared: Stage,
) -> None:
    class Slow(Answering):
        async def administers(self, installation_id: int, person: Account, *, witness: Any = None) -> bool:
            viewer = Wanted(person.login, Role.VIEWER)
            ada = Administrator(account(shared, "ada"), None)
            house, tenant = shared.house, shared.installation
            await members.change(
                house.store, house.ledger, house.clock,
                installation_id=tenant, by=ada, wanted=viewer, present=person,
            )  # fmt: skip
            return True

    access = Access(Slow().house(shared))
    with pytest.raises(NotYoursError):
        await access.administrator(shared.installation, person(80_001), anew=True)


async def test_an_account_is_found_by_its_login_in_one_list_for_everybody(shared: Stage) -> None:
    listed = [Installation(shared.installation, 1, "Octo", False), Installation(5, 2, "octo", False)]
    github = Answering(listed=listed)
    access = Access(github.house(shared))
    assert (await access.named(" @oCTO", person(8))).installation.id == shared.installation
    assert (await access.named("octo", person(9))).installation.id == shared.installation
    assert github.asked == 3, "the list once, and about each person"
    for other in ("", "oct", "octo2"):
        with pytest.raises(NotYoursError):
            await access.named(other, person(8))


async def test_a_token_is_good_for_its_installation_its_scopes_and_its_time(shared: Stage) -> None:
    github = Answering()
    house = github.house(shared)
    access = Access(house)
    allowed = Allowed(Installation(shared.installation, 1, "octo", False), "ada")
    token, kept = await make_token(house, allowed, frozenset({Scope.LOG}), timedelta(days=1))
    assert (await access.bearer(shared.installation, token, Scope.LOG)).actor == f"token:{kept.id}"
    with pytest.raises(ScopeError):
        await access.bearer(shared.installation, token, Scope.DELETE)
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    of_another = token.replace(str(shared.installation), str(shared.installation + 1))
    for wrong in (changed, of_another, token + "A", token.upper(), f" {token}"):
        with pytest.raises(NoTokenError):
            await access.bearer(shared.installation, wrong, Scope.LOG)
    with pytest.raises(NoTokenError):
        await access.bearer(shared.installation + 1, token, Scope.LOG)
    github.now += timedelta(days=1)
    with pytest.raises(NoTokenError):
        await access.bearer(shared.installation, token, Scope.LOG)
    github.now -= timedelta(hours=1)
    await access.bearer(shared.installation, token, Scope.LOG)
    assert await remove_token(house, allowed, kept.id)
    assert not await remove_token(house, allowed, kept.id)
    with pytest.raises(NoTokenError):
        await access.bearer(shared.installation, token, Scope.LOG)
