"""Every cell of what GitHub grants, the role that somebody was given here, and what they ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.permission import ADMIN_VERBS, NOT_THEIRS, NotAllowedError, may_ask, require
from app.nouns import MEND, Given, Role
from webhooks.command import Verb

GRANTED = ("admin", "maintain", "write", "triage", "read", "none", "Admin", "")
WORK = sorted({*(str(one) for one in Verb), MEND} - ADMIN_VERBS)

# By role: with which of GitHub's permissions work may be asked for, and with which the administration.
MAY: dict[Role | None, tuple[set[str], set[str]]] = {
    None: ({"admin", "maintain", "write"}, {"admin"}),
    Role.VIEWER: (set(), set()),
    Role.REQUESTER: ({"admin", "maintain", "write"}, set()),
    Role.ADMINISTRATOR: (
        {"admin", "maintain", "write"},
        {"admin", "maintain", "write", "triage", "read"},
    ),
}


def of(role: Role | None) -> Given | None:
    return None if role is None else Given(role, "ada")


@pytest.mark.parametrize("granted", GRANTED)
@pytest.mark.parametrize("role", list(MAY))
def test_every_cell(granted: str, role: Role | None) -> None:
    work, administration = MAY[role]
    for verb in WORK:
        assert may_ask(granted, verb, of(role)) is (granted in work), verb
    for verb in sorted(ADMIN_VERBS):
        assert may_ask(granted, verb, of(role)) is (granted in administration), verb


@given(st.sampled_from(GRANTED) | st.text(max_size=8), st.sampled_from(WORK), st.sampled_from(list(Role)))
def test_no_role_lets_anybody_do_to_code_what_github_would_not(granted: str, verb: str, role: Role) -> None:
    if may_ask(granted, verb, of(role)):
        assert may_ask(granted, verb)


@pytest.mark.parametrize("role", list(MAY))
@pytest.mark.parametrize("granted", GRANTED)
def test_whoever_may_not_is_told_why_in_a_reason_that_nobody_repeats(granted: str, role: Role | None) -> None:
    for verb in (*WORK, *sorted(ADMIN_VERBS)):
        if may_ask(granted, verb, of(role)):
            require(granted, verb, "wim", of(role))
            continue
        with pytest.raises(NotAllowedError) as caught:
            require(granted, verb, "wim", of(role))
        assert caught.value.reason in NOT_THEIRS


@pytest.mark.parametrize(
    ("role", "verb", "reason"),
    [(Role.VIEWER, "fix", "role_viewer"), (Role.VIEWER, "delete", "role_viewer"), (Role.REQUESTER, "delete", "role_requester")],
)  # fmt: skip
def test_a_role_that_is_in_the_way_says_whose_it_is_and_how_it_goes(
    role: Role, verb: str, reason: str
) -> None:
    with pytest.raises(NotAllowedError) as caught:
        require("admin", verb, "wim", Given(role, "ada"))
    assert caught.value.reason == reason
    for said in ("ada gave wim", f"`{role}`", "`settings member wim default`"):
        assert said in caught.value.message
