"""Roles for tests of people on a stage: given as an administrator of it gives them."""

from __future__ import annotations

from app.custody import members, settings
from app.custody.members import Administrator, Wanted
from app.custody.settings import InstallationSettings
from app.nouns import Account, Role
from tests.line.stage import Stage


def account(stage: Stage, login: str) -> Account:
    found = stage.github.account(login)
    return Account(found.id, found.login, found.type)


async def give(stage: Stage, login: str, role: Role | None, *, by: str = "ada") -> members.Changed:
    return await members.change(
        stage.house.store,
        stage.house.ledger,
        stage.house.clock,
        installation_id=stage.installation,
        by=Administrator(account(stage, by), None),
        wanted=Wanted(login, role),
        present=account(stage, login),
    )


async def chosen(stage: Stage) -> InstallationSettings:
    async with stage.house.store.transaction(stage.installation) as transaction:
        return await settings.read(transaction)


async def role_of(stage: Stage, login: str) -> str:
    return members.said((await chosen(stage)).member(account(stage, login).id))
