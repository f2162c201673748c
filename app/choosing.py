"""Settings of an installation: what `@magicode settings` answers and changes, roles of its people among them, and the overview
that the web shows too.

Who may see is who administers the repository that is asked in; who may change is who administers the installation, by
GitHub's own answer, or was appointed to. A key is never taken from a comment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from app.custody import consent, members, provider_keys, settings
from app.custody.members import Administrator
from app.custody.provider_keys import KnownKey
from app.custody.receipt import SIGNING_PURPOSE, Signer, fingerprint
from app.custody.settings import InstallationSettings
from app.house import House
from app.jobs.accept import NOBODY
from app.nouns import Account, Destination, Outcome, Role, RunState
from app.ports import Witness
from app.pulls import choices
from app.pulls.wording import Ours
from app.reading import require_administrator, require_permission, require_unedited
from app.scene import Scene

CONSENT = frozenset({"providers", "regions"})
"""The settings that say where code may be sent."""


# --- the comment -----------------------------------------------------------------------------------------------------


async def answer(scene: Scene) -> Outcome:
    """`settings` shows them, `settings NAME VALUE` changes one.

    Raises NotAllowedError for who may not, SettingError for what is no setting or no value, EditedSinceError.
    """
    house, run = scene.house, scene.run
    comment, ask = await scene.comment(), await scene.ask()
    words = "" if ask is None else ask.words.strip()
    if comment is not None and provider_keys.looks_like_a_key(comment.body):
        return _key_in_public(house)
    given = await require_permission(scene)
    if not words:
        if given is not None:
            await require_administrator(scene)
        return Outcome(RunState.ANSWERED, "settings", await _told(house, run.installation_id))
    member = members.wanted(words)
    wanted = settings.wanted(words) if member is None else None
    by = await require_administrator(scene)
    await require_unedited(scene)
    if member is not None:
        changed = await give(house, run.installation_id, by, member, witness=scene.witness)
        message = choices.role_changed(changed.login, changed.old, changed.new)
        return Outcome(RunState.ANSWERED, "setting_changed", message)
    assert wanted is not None
    done = await settings.change(
        house.store,
        house.ledger,
        house.clock,
        installation_id=run.installation_id,
        by=run.asker_login,
        wanted=wanted,
        still=partial(members.require_still, by=by),
    )
    message = choices.changed(done.name, done.old, done.new, narrower=done.name in CONSENT)
    return Outcome(RunState.ANSWERED, "setting_changed", message)


async def give(
    house: House,
    installation_id: int,
    by: Administrator,
    wanted: members.Wanted,
    *,
    present: Account | None = None,
    witness: Witness | None = None,
) -> members.Changed:
    """Gives somebody a role, or takes it away; `present` is who it is where that is known already, else GitHub says who has the
    login now. Raises as `members.change`.

    Who was appointed makes no viewer or requester of somebody who administers by GitHub's word: were they to leave, nobody
    would be left who administers.
    """
    github = house.github
    if present is None:
        present = await github.account(installation_id, wanted.login, witness=witness)
    takes = wanted.role in (Role.VIEWER, Role.REQUESTER)
    appointed = by.given is not None
    if (
        takes
        and appointed
        and present is not None
        and await github.administers(installation_id, present, witness=witness)
    ):
        raise members.NotTheirsToChangeError(
            f"{present.login} administers every repository here by GitHub's own word; only somebody who does so too makes them "
            f"`{wanted.role}`.",
            reason="member_of_github",
        )
    return await members.change(
        house.store,
        house.ledger,
        house.clock,
        installation_id=installation_id,
        by=by,
        wanted=wanted,
        present=present,
    )


async def key_in_public(scene: Scene) -> Outcome | None:
    """What is answered to words that hold a provider's key and would go to a model with it: `provider-key openai sk-…` is no
    verb, and so a wish about code."""
    ask = await scene.ask()
    held = ask is not None and provider_keys.holds_a_providers_key(ask.words)
    return _key_in_public(scene.house) if held else None


def _key_in_public(house: House) -> Outcome:
    message = choices.key_in_public(house.slug, house.public_url)
    step = "revoke that key at its provider, and make a new one there."
    return Outcome(RunState.REFUSED, "key_in_public", message, step)


async def _told(house: House, installation_id: int) -> Ours:
    found = await overview(house, installation_id)
    shown = settings.shown(found.settings)
    own = {one.provider: f"…{one.last_four}" if one.last_four else "…" for one in found.keys}
    return choices.overview(
        [choices.Row(one.name, shown[one.name], one.means, one.example) for one in settings.SETTINGS],
        [
            choices.Place(
                one.provider,
                one.host,
                one.region,
                found.settings.allows(one),
                own.get(one.provider, "…") if one.own_key else None,
            )
            for one in found.destinations
        ],
        members=len(found.settings.members),
        held=shown["legal-hold"] if found.settings.legal_hold else None,
        fingerprint=found.receipts_fingerprint,
        mention=house.slug,
        url=house.public_url,
    )


# --- what there is to see ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overview:
    """What is chosen, the keys as far as they may be seen, where code may go (`settings.allows` says whether), and the
    fingerprint of the key that signs receipts."""

    settings: InstallationSettings
    keys: Sequence[KnownKey]
    destinations: Sequence[Destination]
    receipts_fingerprint: str


async def overview(house: House, installation_id: int) -> Overview:
    """Whoever calls has made sure that it may be seen."""
    allowed = await consent.read(house.store, house.keys, installation_id)
    known = await provider_keys.known_keys(house.store, house.keys, installation_id)
    async with house.store.transaction(NOBODY) as transaction:
        key = await house.keys.data_key(transaction)
    public = Signer(house.keys.derive(key, SIGNING_PURPOSE)).public_key
    return Overview(allowed.settings, known, house.models.offered(allowed.own), fingerprint(public))
