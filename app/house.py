"""Everything that a request is received with and a run is played on; `wiring` fills it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from app.actionlog.ledger import Ledger
from app.agent.budget import Limits
from app.custody.keys import Keys
from app.nouns import Run
from app.ports import (
    UNWATCHED,
    Clock,
    Fence,
    GitHub,
    KeyCheck,
    Models,
    Objects,
    Receivers,
    Relay,
    Sandbox,
    SignIn,
    Store,
    Watch,
)
from app.witness import unfenced
from embeddings.collection import Points
from embeddings.repository import RepositoryIndex
from webhooks.signature import Secrets


@dataclass(frozen=True, slots=True)
class House:
    """`models` are those that can be asked, `key_check` asks whether a customer's own key is good,
    `receivers` are customers' own addresses; `index` a repository's index
    under the installation's key, `points` the store of all of them. `objects` holds exports,
    `backups` the list of erasures and the backups, None where no place is named for them. `public_url` is where people
    reach this service, None where they cannot; `sign_in` is None where the App's OAuth credentials are not set, `relay` where
    GitHub reaches us itself. `watch` is told what happens; who shows the `metrics_token` may look at its figures, nobody where there is none.
    `held` is asked before each write: does this worker still have the job in its hands that it works on?
    """

    store: Store
    ledger: Ledger
    keys: Keys
    github: GitHub
    models: Models
    key_check: KeyCheck
    receivers: Receivers
    index: Callable[[bytes, int, int], RepositoryIndex]
    points: Points
    objects: Objects
    public_url: str | None
    github_web_url: str
    sign_in: SignIn | None
    relay: Relay | None
    webhook_secrets: Secrets
    slug: str
    app_id: int
    limits: Limits
    workspace_root: Path
    sandbox: Sandbox | None
    ready_after_seconds: float
    index_seconds: float
    service_url: str
    clock: Clock
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    new_id: Callable[[], UUID]
    watch: Watch = UNWATCHED
    metrics_token: str | None = None
    backups: Objects | None = None
    held: Fence = unfenced


def page_of(house: House, run: Run) -> str | None:
    """Where people watch this run; None where they cannot reach this service."""
    if house.public_url is None:
        return None
    return f"{house.public_url}/installations/{run.installation_id}/runs/{run.id}"
