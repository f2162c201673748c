"""What the stations need from the outside world, said as protocols; `infra` implements them, `wiring` plugs them in.

Every method that talks to GitHub raises the errors of `app/errors.py`: TransientError (after the adapter's own bounded
retries), MissingError, GoneError, DeniedError, AlreadyExistsError, InvalidError; never its client library's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Protocol
from uuid import UUID

from app.nouns import (
    Account,
    Action,
    ApiToken,
    Branch,
    Checks,
    ChecksReport,
    Comment,
    Commit,
    Comparison,
    DataExport,
    Dedication,
    Delivery,
    Destination,
    Entry,
    EntryCount,
    Erasure,
    Facts,
    FailedCheck,
    FileEdit,
    Finished,
    GitHubShare,
    GitHubTurn,
    Hook,
    Installation,
    Issue,
    Job,
    KeptAnswer,
    ModelAnswer,
    ModelRequest,
    OwnKey,
    ProviderKey,
    PullRequest,
    QueueLoad,
    Repository,
    ReviewThread,
    RoomLimits,
    Round,
    Rule,
    Run,
    RunState,
    Snippet,
    Spending,
    StoredSettings,
    Tree,
    TreeChange,
    TreeEntry,
    UsedThere,
)

Clock = Callable[[], datetime]
"""Now, with a time zone (UTC)."""


# --- GitHub ----------------------------------------------------------------------------------------------------------


class RepositoryReader(Protocol):
    """One repository seen through a read token narrowed to it. Holds no method that changes anything."""

    async def repository(self) -> Repository: ...

    async def issue(self, number: int) -> Issue: ...

    async def issue_comments(self, number: int) -> Sequence[Comment]: ...

    async def issue_comment(self, comment_id: int) -> Comment: ...

    async def review_comment(self, comment_id: int) -> Comment: ...

    async def review(self, number: int, review_id: int) -> Comment: ...

    async def permission(self, login: str, account_id: int | None = None) -> str:
        """`admin`, `write`, `read` or `none`, by GitHub's own answer (maintain is write, triage is read).

        With `account_id` only for who had that login when something was asked: `none` where another account has it now.
        """
        ...

    async def branch(self, name: str) -> Branch:
        """Raises MissingError when there is none (an empty repository has none at all)."""
        ...

    async def rules(self, branch: str) -> Sequence[Rule]:
        """The rulesets' effective rules; answers for branches that do not exist yet."""
        ...

    async def commit(self, sha: str) -> Commit:
        """With what it changed: of a commit that changes a great deal GitHub may not tell it in time (TransientError)."""
        ...

    async def tree_sha(self, sha: str) -> str:
        """A commit's tree, however much it changes."""
        ...

    async def tree(self, sha: str) -> Tree:
        """The whole tree of a commit, walked folder by folder when GitHub truncates its recursive answer."""
        ...

    async def blob(self, sha: str) -> bytes: ...

    def archive(self, sha: str) -> AsyncIterator[bytes]:
        """The gzipped tar of a commit, streamed."""
        ...

    async def pull_request(self, number: int) -> PullRequest: ...

    async def pull_requests(self, *, head_branch: str, state: str = "all") -> Sequence[PullRequest]:
        """Those whose head is this branch of this repository (not of a fork), newest first."""
        ...

    async def checks(self, sha: str) -> Checks: ...

    async def failed_checks(self, sha: str) -> Sequence[FailedCheck]:
        """Check runs and statuses on a commit that ended badly, the newest of each name, with the jobs of GitHub Actions."""
        ...

    async def job_log(self, job_id: int, *, last_bytes: int) -> str:
        """The end of a job's log. Raises MissingError when GitHub keeps it no longer (or not yet)."""
        ...

    async def review_comments(self, number: int, review_id: int) -> Sequence[Comment]:
        """The comments on lines that came with one review, oldest first."""
        ...

    async def review_threads(self, number: int) -> Sequence[ReviewThread]: ...

    async def closing_pull_requests(self, number: int) -> Sequence[PullRequest]:
        """The open pull requests, of anybody, that GitHub will close this issue with."""
        ...

    async def compare(self, base: str, head: str) -> Comparison: ...


class RepositoryWriter(Protocol):
    """One repository seen through the write token. Each call is one effect; none is repeated by itself."""

    async def create_blob(self, content: bytes) -> str: ...

    async def create_tree(self, base_tree: str, changes: Sequence[TreeChange]) -> str: ...

    async def create_commit(self, message: str, tree: str, parents: Sequence[str]) -> Commit:
        """No author, committer or signature is sent, so that GitHub signs it."""
        ...

    async def create_ref(self, branch: str, sha: str) -> None:
        """Raises AlreadyExistsError when the branch is there."""
        ...

    async def update_ref(self, branch: str, sha: str) -> None:
        """Fast-forward only; InvalidError when it is not one."""
        ...

    async def delete_ref(self, branch: str) -> None:
        """Raises MissingError when it is gone already, InvalidError where a rule keeps it."""
        ...

    async def create_pull_request(
        self, *, title: str, body: str, head: str, base: str, draft: bool
    ) -> PullRequest:
        """Raises AlreadyExistsError when GitHub says that one is open for this head."""
        ...

    async def update_pull_request(
        self, number: int, *, title: str | None = None, body: str | None = None
    ) -> PullRequest: ...

    async def mark_ready(self, pull_request: PullRequest) -> None: ...

    async def merge(self, branch: str, head_sha: str, message: str) -> Commit | None:
        """Merges a commit into our branch with a merge commit; None when the branch has it already.

        Raises InvalidError (`merge_conflict`) when it does not merge cleanly.
        """
        ...

    async def create_comment(self, number: int, body: str) -> Comment: ...

    async def reply_in_thread(self, number: int, comment_id: int, body: str) -> Comment:
        """An answer in the review thread that `comment_id` began."""
        ...

    async def update_comment(self, comment_id: int, body: str) -> Comment: ...

    async def react(self, content: str, *, comment_id: int | None, number: int) -> None:
        """A reaction on the comment, or on the issue when there is none. Adding it twice is once."""
        ...

    async def react_review_comment(self, content: str, comment_id: int) -> None: ...


class Witness(Protocol):
    """Is told of each request to GitHub before it goes out; what it raises keeps the request back."""

    async def __call__(self, request: str, *, changes: bool) -> None:
        """`request` is the method and GitHub's template of the route. `changes`: something in a repository, or is to."""
        ...

    async def still(self) -> None:
        """Asked of a request that was told before and was held up on its way out. What it raises keeps the request back."""
        ...


class Doing(Protocol):
    """Something that takes its time."""

    def came_to(self, what: str) -> None:
        """How it ended, in a word of ours or a status. An error that passes says so by its reason."""
        ...


class Watch(Protocol):
    """Is told what happens, for whoever runs the service: in figures, and in words that stand in our own code.

    It is told no text, no path, no address, no name and no tenant; of a run its id, which is in traces alone.
    """

    def job(self, task: str, run_id: UUID | None) -> AbstractContextManager[Doing]: ...

    def station(self, name: str) -> AbstractContextManager[Doing]: ...

    def github(self, request: str) -> AbstractContextManager[Doing]:
        """`request` is the method and GitHub's template of the route."""
        ...

    def model(self, provider: str) -> AbstractContextManager[Doing]: ...

    def delivered(self, outcome: str, reason: str, seconds: float) -> None:
        """What was said to a webhook, and how long that took."""
        ...

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """To a browser or a program, up to the answer's first byte; `route` is our own template."""
        ...

    def begun(self, verb: str, waited_seconds: float) -> None:
        """A run, so long after it was asked for."""
        ...

    def ended(self, verb: str, state: str, reason: str) -> None:
        """A run."""
        ...

    def spent(self, provider: str, spending: Spending) -> None: ...

    def left_at_github(self, share: float) -> None:
        """Of a token's requests of this hour, 0 to 1."""
        ...

    def missed(self, events: int, oldest_seconds: float) -> None:
        """Events that GitHub lists as told to nobody, and since when the oldest of them is."""
        ...

    def told(self, queues: Sequence[QueueLoad] | None) -> tuple[bytes, str]:
        """All of it, and of what type that is. None: the database does not say what waits."""
        ...


class Unwatched:
    """A Watch that nobody looks at."""

    @contextmanager
    def _doing(self, *_: object) -> Iterator[Doing]:
        yield self

    job = station = github = model = _doing

    def came_to(self, what: str) -> None: ...

    def delivered(self, outcome: str, reason: str, seconds: float) -> None: ...

    def answered(self, method: str, route: str, status: int, seconds: float) -> None: ...

    def begun(self, verb: str, waited_seconds: float) -> None: ...

    def ended(self, verb: str, state: str, reason: str) -> None: ...

    def spent(self, provider: str, spending: Spending) -> None: ...

    def left_at_github(self, share: float) -> None: ...

    def missed(self, events: int, oldest_seconds: float) -> None: ...

    def told(self, queues: Sequence[QueueLoad] | None) -> tuple[bytes, str]:  # noqa: ARG002 the port's
        return b"", "text/plain"


UNWATCHED: Final = Unwatched()


class GitHub(Protocol):
    """The App itself. Each method's `witness` is told of the requests that it makes, for tokens too."""

    async def app_slug(self, *, witness: Witness | None = None) -> str: ...

    async def installations(self, *, witness: Witness | None = None) -> Sequence[Installation]: ...

    async def installed(self, github_id: int, *, witness: Witness | None = None) -> bool:
        """Whether GitHub has an installation of this id, which is its own; one that is suspended is there."""
        ...

    async def repositories(
        self, installation_id: int, *, witness: Witness | None = None
    ) -> Sequence[Repository]:
        """All that the installation covers. Raises MissingError (`installation_missing`) where it is gone."""
        ...

    async def administers(
        self, installation_id: int, person: Account, *, witness: Witness | None = None
    ) -> bool:
        """Whether this person, by id, is the account itself (a user's) or has `admin` on every repository (an
        organization's; with none there, nobody has).

        Raises MissingError (`installation_missing`) where it is gone, DeniedError (`installation_suspended`) where an
        organization has suspended it.
        """
        ...

    async def knows(self, installation_id: int, person: Account, *, witness: Witness | None = None) -> bool:
        """Whether this person, by id, has a right of their own in one of the installation's repositories: to read a private one,
        to write to any. Everybody may read what is public, so that makes nobody known.

        Raises as `administers`.
        """
        ...

    async def account(
        self, installation_id: int, login: str, *, witness: Witness | None = None
    ) -> Account | None:
        """The person who has this login now, whatever they may do; None for nobody and for what is no person, and where the
        installation has no repository to ask in. Raises as `administers`.
        """
        ...

    async def deliveries(self, since: datetime, *, witness: Witness | None = None) -> Sequence[Delivery]:
        """Every attempt to deliver a webhook to us from `since` on, newest first; GitHub keeps three days of them."""
        ...

    async def room(self, installation_id: int) -> None:
        """Raises LimitedError (`paced`) where too little of the hour is left to begin a run that writes."""
        ...

    async def redeliver(self, delivery_id: int, *, witness: Witness | None = None) -> None:
        """Asks for another attempt, which comes later and by itself."""
        ...

    async def suspend(self, installation_id: int, *, witness: Witness | None = None) -> None:
        """From here on GitHub refuses each token of the installation's, makes none and tells us of nothing there. Raises
        MissingError (`installation_missing`) where it is gone."""
        ...

    async def unsuspend(self, installation_id: int, *, witness: Witness | None = None) -> None:
        """The end of `suspend`. Raises as it does."""
        ...

    def reader(
        self, installation_id: int, repository_id: int, *, witness: Witness | None = None
    ) -> AbstractAsyncContextManager[RepositoryReader]:
        """A token with read permissions for one repository, minted on entry and revoked on exit."""
        ...

    def writer(
        self,
        installation_id: int,
        repository_id: int,
        permissions: Mapping[str, str],
        *,
        witness: Witness | None = None,
    ) -> AbstractAsyncContextManager[RepositoryWriter]:
        """A token with exactly these permissions for one repository, minted on entry and revoked on exit."""
        ...


class Relay(Protocol):
    """Where GitHub delivers instead, if it cannot reach us."""

    async def carry(self, web: Callable[..., Awaitable[None]]) -> None:
        """Hands each delivery to our own web process, an ASGI application, until it is cancelled."""
        ...


class SignIn(Protocol):
    """Who a person is, by GitHub's own word. Holds nothing about anybody afterwards."""

    def authorize_url(self, state: str, challenge: str, redirect_uri: str) -> str:
        """Where the person's browser goes. `challenge` is the S256 challenge of the verifier (RFC 7636)."""
        ...

    async def person(self, code: str, verifier: str, redirect_uri: str) -> Account:
        """Who came back with this code. Raises UserError when GitHub does not confirm it, DefectError when the App's
        client id, secret or callback URL are not what GitHub has."""
        ...


# --- the model -------------------------------------------------------------------------------------------------------


class Model(Protocol):
    """One model of one provider. Raises TransientError after bounded retries, InvalidError for a request it refuses."""

    @property
    def provider(self) -> str: ...

    @property
    def name(self) -> str: ...

    async def answer(self, request: ModelRequest) -> ModelAnswer: ...


class Models(Protocol):
    """The models that can be asked, and where each request to them goes."""

    def where(
        self, named: Sequence[str] = (), own: Mapping[str, OwnKey] | None = None
    ) -> Sequence[Destination]:
        """Where requests to these models go, in the same order; named none, to the default ones. `own` are keys of the
        customer's own by provider: each stands in the place of the service's, never beside it.

        A model without a key is left out where another can be asked. Raises UserError where none can, and for a name that
        cannot be read.
        """
        ...

    def offered(self, own: Mapping[str, OwnKey] | None = None) -> Sequence[Destination]:
        """Each provider that can be asked at all, with a model of it."""
        ...

    def open(
        self, named: Sequence[str], own: Mapping[str, OwnKey] | None = None
    ) -> AbstractAsyncContextManager[Sequence[Model]]:
        """These models, in order. Clients that hold a customer's key are closed when the block ends."""
        ...


class KeyCheck(Protocol):
    """Asks a provider whether it takes a key, by the cheapest request that needs one."""

    async def __call__(self, key: OwnKey) -> None:
        """Raises RefusedError (`model_key_refused`, `model_quota_exhausted`), UserError (`provider_address`) for an address
        that no key is sent to, TransientError and InvalidError where the provider does not tell."""
        ...


class Receivers(Protocol):
    """Addresses of customers' own, which are told of events."""

    async def require(self, url: str) -> None:
        """Raises UserError (`hook_address`) for an address to which nothing is sent."""
        ...

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """One try; the answer's status, of whatever kind. Raises TransientError (`hook_refused` for an address to which nothing
        is sent, `hook_silent` in time, `hook_unreachable`) where there is no answer."""
        ...


# --- the workspace ---------------------------------------------------------------------------------------------------


class Workspace(Protocol):
    """A commit's tree, read-only. Paths are POSIX, relative, and exactly as git has them."""

    @property
    def sha(self) -> str: ...

    def entries(self) -> Sequence[TreeEntry]:
        """Every blob that can be read here (regular files and executables), sorted by path."""
        ...

    def entry(self, path: str) -> TreeEntry | None:
        """Any entry of the commit's tree, links and submodules too."""
        ...

    def read(self, path: str) -> bytes:
        """Raises KeyError for what is not a readable blob of this tree."""
        ...


class RunChecks(Protocol):
    """The repository's own checks on the workspace with these edits applied. Never raises for a check that fails."""

    async def __call__(self, edits: Sequence[FileEdit]) -> ChecksReport: ...


class Room(Protocol):
    """One sandbox, empty at first: a tree in memory, and commands run on it one after another, with no network.

    What a command leaves running dies with the command. `$VIRTUAL_ENV` names a folder beside the tree, empty at first,
    whose `bin` is first on the path. Raises DefectError (`sandbox_closed`) once the room has gone.
    """

    async def lay(self, modes: Mapping[str, str], read: Callable[[str], bytes]) -> None:
        """The tree then holds these files, and what `keep` found, and nothing else. `modes` are git's, by path.

        Raises RefusedError (`sandbox_full`) when they do not fit, DefectError (`sandbox_path`) for a path that git
        would not have.
        """
        ...

    async def run(self, command: str, *, seconds: float, indexes: bool = False) -> Finished:
        """Runs a shell command in the tree; `indexes` lets it reach package indexes, and nothing else, meanwhile."""
        ...

    async def keep(self) -> None:
        """What now lies between the tree's files was installed: `lay` is to leave it there."""
        ...


class Sandbox(Protocol):
    """Where a repository's own commands run. It holds no secret and reaches no network."""

    async def why_not(self) -> str | None:
        """None when it works here, else why not, in a sentence part that follows "because"."""
        ...

    def open(self, limits: RoomLimits) -> AbstractAsyncContextManager[Room]:
        """A room that is gone, with all that ran and lay in it, when the block ends. Raises DefectError
        (`sandbox_unusable`) where `why_not` says something."""
        ...


class Search(Protocol):
    """Ranked places in the workspace for a question."""

    async def __call__(self, question: str, limit: int) -> Sequence[Snippet]: ...


# --- the durable state -----------------------------------------------------------------------------------------------


class Transaction(Protocol):
    """One tenant, one commit. Opened by `Store.transaction`; leaves no trace when its block raises."""

    async def add_delivery(self, guid: str, event: str, action: str | None, outcome: str) -> bool:
        """False when this GUID is already here."""
        ...

    async def add_run(self, run: Run) -> Run:
        """Adds it, or returns the run that already has the same meaning."""
        ...

    async def add_request(
        self,
        run: Run,
        *,
        guid: str,
        event: str,
        action: str | None,
        outcome: str,
        since: datetime,
        reasons: Collection[str],
        at_most: int,
    ) -> Run | None:
        """As `add_delivery` and `add_run` do, at once. None, and only the delivery is there, where so many of the asker's requests, made
        `since` or later, were refused for one of the reasons. The log's head is locked where the run is a new one."""
        ...

    async def run(self, run_id: UUID, *, lock: bool = False) -> Run | None: ...

    async def active_run(self, repository_id: int, number: int) -> Run | None:
        """The queued or running one about this subject (`Run.about`) that is not itself blocked by another."""
        ...

    async def opened_for(self, repository_id: int, pull_request: int) -> int | None:
        """The subject of the run that opened this pull request; None for somebody else's."""
        ...

    async def runs(
        self,
        *,
        repository_id: int | None = None,
        number: int | None = None,
        about: int | None = None,
        verb: str | None = None,
        state: RunState | None = None,
        asker_id: int | None = None,
        since: datetime | None = None,
        beyond: UUID | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        """Newest first. `about` takes the requests on an issue and on its pull requests together, `since` those that were made
        at that time or later, `beyond` those that come behind this run, and none where it is gone.

        Anybody can make requests, which are then refused: what must not be forgotten behind a hundred of them is asked for
        by its verb or its state.
        """
        ...

    async def update_run(self, run_id: UUID, **columns: object) -> Run: ...

    async def run_by_branch(self, repository_id: int, branch: str) -> Run | None:
        """The newest run that published to this branch."""
        ...

    async def put_installation(self, installation: Installation) -> None: ...

    async def installation(self, *, lock: bool = False) -> Installation | None:
        """With `lock` as it stays until this transaction ends. It is locked before a run's row, and that before the log's end."""
        ...

    async def wrapped_key(self, *, anew: bool = False) -> tuple[str, bytes] | None:
        """The installation's wrapped data key and the id of the master key that wrapped it, as it was when the tenant was
        entered or, `anew`, as it is now. It cannot have been destroyed since: an erasure waits for who has entered."""
        ...

    async def add_wrapped_key(self, master_key_id: str, wrapped: bytes) -> tuple[str, bytes]:
        """Adds it, or returns the one that is there."""
        ...

    async def replace_wrapped_key(self, old: tuple[str, bytes], new: tuple[str, bytes]) -> bool:
        """Puts `new` in the place of `old`; False when something else is there by now."""
        ...

    async def destroy_key(self) -> bool:
        """Removes the wrapped data key: what was sealed under it stays closed. False when there is none."""
        ...

    async def settings(self) -> StoredSettings | None: ...

    async def put_settings(self, settings: StoredSettings) -> None: ...

    async def provider_keys(self) -> Sequence[ProviderKey]: ...

    async def put_provider_key(self, key: ProviderKey) -> None:
        """Adds it, or puts it in the place of the provider's last one."""
        ...

    async def remove_provider_key(self, provider: str) -> ProviderKey | None:
        """The one that was removed."""
        ...

    async def hooks(self) -> Sequence[Hook]:
        """Oldest first."""
        ...

    async def put_hook(self, hook: Hook) -> None:
        """Adds it, or replaces the one with this id."""
        ...

    async def note_hook(self, hook_id: UUID, at: datetime, status: int | None) -> bool:
        """What it answered last. False when there is none."""
        ...

    async def remove_hook(self, hook_id: UUID) -> bool:
        """False when there is none."""
        ...

    async def exports(self) -> Sequence[DataExport]:
        """Newest first."""
        ...

    async def put_export(self, export: DataExport) -> None:
        """Adds it, or replaces the one with this id."""
        ...

    async def export_written(self, export_id: UUID, percent: int) -> None:
        """So much of one that is being made; nothing where it is made, failed or gone."""
        ...

    async def remove_export(self, export_id: UUID) -> None: ...

    async def api_tokens(self) -> Sequence[ApiToken]:
        """Newest first."""
        ...

    async def put_api_token(self, token: ApiToken) -> None: ...

    async def remove_api_token(self, token_id: UUID) -> bool: ...

    async def claim_answer(self, claim: KeptAnswer, stale: datetime) -> KeptAnswer | None:
        """Takes its key, or says what stands under it. One that has ended is taken over, and so is a claim for the same request
        that was made at `stale` or earlier."""
        ...

    async def keep_answer(self, answer: KeptAnswer) -> bool:
        """Where its claim stands. False when that was taken over."""
        ...

    async def release_answer(self, key: str, made_at: datetime) -> None:
        """Removes the claim that was made then, if it stands."""
        ...

    async def prune_answers(self, ended: datetime) -> int:
        """Those that ended then or before."""
        ...

    async def erasure(self, *, lock: bool = False) -> Erasure | None: ...

    async def begin_erasure(self, erasure: Erasure) -> bool:
        """From this transaction's commit on nobody else enters the tenant. False when one has begun already."""
        ...

    async def update_erasure(self, **columns: object) -> Erasure:
        """Raises KeyError when none has begun."""
        ...

    async def erase_rows(self) -> Mapping[str, int]:
        """Removes every row of the tenant but the erasure itself, by table. The data key must be destroyed before: the
        database refuses to remove the action log otherwise."""
        ...

    async def row_counts(self) -> Mapping[str, int]:
        """The rows of the tenant in each table but that of erasures; found by asking the database which tables there are."""
        ...

    async def rows(self, table: str, *, limit: int, skip: int = 0) -> Sequence[Mapping[str, object]]:
        """The tenant's rows of a table as they are stored, times in UTC, in the order of its key: to be handed out."""
        ...

    async def spent(self, since: datetime) -> Decimal:
        """What the runs that were begun from then on cost so far, in dollars."""
        ...

    async def used(self, since: datetime) -> Sequence[UsedThere]:
        """What the runs that were asked for from then on used, the oldest day first."""
        ...

    async def opened_within(self, since: datetime) -> tuple[int, float, float]:
        """How many runs asked for from then on opened a pull request, and how many seconds half of them, and nine of ten, took at the
        most from the request to their end; zeros where there is none."""
        ...

    async def prune_runs(
        self,
        before: datetime,
        *,
        spared: Sequence[str] = (),
        spared_since: datetime | None = None,
        dry: bool = False,
    ) -> int:
        """Removes runs that ended before; how many. Those with one of the reasons `spared` stay that ended `spared_since` or
        later. `dry` counts alone."""
        ...

    async def prune_deliveries(self, before: datetime, *, dry: bool = False) -> int: ...

    async def entry_before(self, before: datetime) -> Entry | None:
        """The last entry that is older."""
        ...

    async def prune_entries(self, up_to_seq: int) -> int:
        """Removes the log's beginning. The database refuses it under a legal hold, for young entries and for the head."""
        ...

    async def drop_jobs(self, keep: str, heard_within: timedelta) -> int:
        """Takes the tenant's jobs off the queue that no living worker has in its hands, but those of the task `keep`."""
        ...

    async def jobs_at_work(self, but: str, heard_within: timedelta) -> int:
        """The tenant's jobs that a living worker has in its hands, but those of the task `but`."""
        ...

    async def last_entry(self) -> Entry | None:
        """The head of the chain, locked until this transaction ends so that two appends cannot fork it."""
        ...

    async def add_entry(
        self, entry: Entry, salt: bytes, jobs: Sequence[Job] = (), *, ends: bool = False
    ) -> None:
        """And puts on the queue, as `defer` does, what comes of it. What `ends` the transaction is sent along with the commit:
        nothing else of the transaction comes behind it, and none of it sees it."""
        ...

    async def entries(
        self,
        *,
        after_seq: int = 0,
        run_id: UUID | None = None,
        limit: int = 1000,
        since: datetime | None = None,
        until: datetime | None = None,
        actions: Sequence[str] = (),
        actor: str | None = None,
        repository_id: int | None = None,
    ) -> Sequence[tuple[Entry, bytes]]:
        """Oldest first, each with its salt; from `since` on and before `until`.

        An action is named whole (`model.called`) or by its first part (`model`); none named are all. The case of `actor` does
        not matter. `repository_id` leaves out the runs of other repositories; entries of no run that is known come too,
        since their details alone say what they are about.
        """
        ...

    async def entry_counts(
        self, since: datetime, until: datetime, actions: Sequence[str] = ()
    ) -> Sequence[EntryCount]:
        """Of the entries from `since` on and before `until`, by action; `actions` as in `entries`."""
        ...

    async def defer(
        self,
        task: str,
        *,
        lock: str | None = None,
        delay_seconds: float = 0,
        behind: bool = False,
        outside: bool = False,
        **arguments: object,
    ) -> int:
        """Puts a job on the queue inside this transaction. Arguments are ids only. `behind`: nobody waits for it. `outside`: it
        waits for a stranger's machine."""
        ...

    async def waits(self, lock: str) -> bool:
        """Whether a job under this lock is on the queue and has not begun."""
        ...

    async def hasten(self, lock: str) -> None:
        """What waits under this lock to be tried again later begins as soon as the lock is free."""
        ...


class Store(Protocol):
    async def ping(self) -> None:
        """Raises TransientError when the database is away."""
        ...

    async def now(self) -> datetime:
        """By the database's clock."""
        ...

    async def queues(self) -> Sequence[QueueLoad]:
        """What waits and what is at work, in each queue."""
        ...

    async def begin_round(self, name: str, lease: timedelta) -> Round | None:
        """What is done for everybody, where it is due: then it is the caller's until `end_round`, and for `lease` at most unless
        that is called with it again. None where another has it, or it is done for now."""
        ...

    async def end_round(self, name: str, pause: timedelta, since: datetime | None = None) -> None:
        """It is due again after `pause`, and goes on from `since`, or from where it did."""
        ...

    async def pause(self, installation_id: int) -> bool:
        """Nothing is done for it, and with 0 for nobody, until `resume`; what is asked meanwhile is kept. False: it was paused."""
        ...

    async def resume(self, installation_id: int) -> bool:
        """False: it was not paused."""
        ...

    async def pauses(self) -> Mapping[int, datetime]:
        """Each installation that is paused, 0 for all of them, and since when."""
        ...

    async def paused(self, installation_id: int) -> datetime | None:
        """Since when it is, by itself or with everybody; None where it is not."""
        ...

    async def note_suspension(self, installation_id: int) -> None:
        """Of one that is paused: the pause is to hold at GitHub too, and its end is to end it there."""
        ...

    async def suspended(self, installation_id: int) -> bool:
        """Whether that was noted of its pause."""
        ...

    async def dedicate(self, installation_id: int) -> bool:
        """From now on workers of its own alone begin its jobs, those that wait included; what is at work ends where it is. False: it
        was so."""
        ...

    async def share(self, installation_id: int) -> bool:
        """The end of `dedicate`: everybody's workers begin its jobs. False: they did."""
        ...

    async def dedicated(self) -> Sequence[Dedication]:
        """Each installation that has workers of its own, by its id."""
        ...

    async def begin_session(
        self, session: str, person: str, sealed: bytes, ends: datetime, *, most: int
    ) -> None:
        """A session of a browser and its person, each by a hash, with what is held of it, for all web processes. Of the person
        the `most` latest stay; what ended an hour ago goes."""
        ...

    async def session(self, session: str) -> bytes | None:
        """What is held of it; None where there is none, or none any more."""
        ...

    async def end_session(self, session: str) -> None:
        """Also where there is none."""
        ...

    async def end_sessions(self, person: str) -> None:
        """Each one of this person."""
        ...

    async def end_every_session(self) -> None: ...

    def transaction(
        self, installation_id: int, *, erasing: bool = False
    ) -> AbstractAsyncContextManager[Transaction]:
        """Raises ErasedError once an erasure of the tenant has begun, unless `erasing`.

        Not to be opened inside another one of the same tenant.
        """
        ...

    def arrival(self, github_id: int) -> AbstractAsyncContextManager[tuple[Transaction, Installation | None]]:
        """`transaction` for the tenant that GitHub's present id of an installation stands for, and that installation; with
        None, for the id itself, where it is not known. One question to the database where acceptance would ask four."""
        ...

    def snapshot(self, installation_id: int) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that sees all tables as they stood at one moment; for reading. Raises ErasedError.

        It waits for nobody and is not to be kept open: an erasure waits for it.
        """
        ...

    async def alone(self, installation_id: int) -> None:
        """Returns once no transaction that was open before has the tenant entered. Raises TransientError after a while."""
        ...

    async def tenant_of(self, github_id: int) -> int:
        """The tenant that GitHub's present id of an installation stands for; the id itself where it is new."""
        ...

    async def tenants_of_account(self, account_id: int) -> Sequence[int]:
        """Those that have a row, newest first."""
        ...

    async def keyed_ids(self) -> Sequence[int]:
        """The tenants that have a data key, the service's own among them."""
        ...

    async def erased_ids(self) -> Sequence[int]:
        """The tenants whose erasure has begun."""
        ...

    async def standing(self, listed: Sequence[Installation]) -> Mapping[int, int]:
        """Of those that GitHub lists, which stand here just so (account, login, kind, suspended or not): GitHub's id, and the tenant."""
        ...

    async def installation_ids(self) -> Sequence[int]:
        """All that have a row, for the reconciler; ids only."""
        ...


class Paces(Protocol):
    """Whose turn it is to ask GitHub for something, among all processes that work for an installation."""

    async def turn(
        self,
        installation_id: int,
        share: GitHubShare,
        *,
        points: int,
        writes: bool,
        urgent: bool,
        longest: timedelta,
    ) -> GitHubTurn:
        """Takes the next turn that there is, unless it is further away than `longest`. `urgent` heeds no hold that is `spare`.

        `installation_id` is GitHub's own. Raises TransientError.
        """
        ...

    async def hold(self, installation_id: int, pause: timedelta, *, spare: bool) -> None:
        """Nobody's turn comes before then; where it is `spare`, what is urgent has its turn all the same."""
        ...


class Fence(Protocol):
    """Checked before each outside effect. Raises SupersededError or StoppedError."""

    async def __call__(self) -> None: ...


class Recorder(Protocol):
    """Writes an action of this run to the log; commits by itself."""

    async def __call__(
        self, action: Action, actor: str = "magicode", **facts: str | int | float | bool | None
    ) -> Entry: ...


class Told(Protocol):
    """Is told each action of a run; a Recorder is one that writes it down."""

    async def __call__(
        self, action: Action, actor: str = "magicode", **facts: str | int | float | bool | None
    ) -> object: ...


class Appends(Protocol):
    """The action log, written inside a transaction that is already open."""

    async def append(  # noqa: PLR0917 - who did what to what, in the order in which it is said
        self,
        transaction: Transaction,
        installation_id: int,
        action: Action,
        actor: str,
        run_id: UUID | None,
        facts: Facts,
        jobs: Sequence[Job] = (),
        *,
        ends: bool = False,
    ) -> Entry:
        """`jobs` go on the queue along with it; `ends`: nothing else comes behind it in this transaction."""
        ...


class Objects(Protocol):
    """Where exports wait to be fetched, and where backups lie: whole files under names such as `installation/export`."""

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        """Whole or not at all; replaces what has this name. Returns its size in bytes."""
        ...

    def get(self, name: str) -> AsyncIterator[bytes]:
        """Raises MissingError."""
        ...

    async def names(self, within: str) -> Sequence[str]:
        """What begins with `within/`; also of that which a crash left half put, and which can be deleted like the rest."""
        ...

    async def delete(self, name: str) -> None:
        """Also where there is none."""
        ...


class MasterKey(Protocol):
    """Wraps data keys: a file by default, a key service in production."""

    @property
    def id(self) -> str: ...

    def wrap(self, key: bytes) -> bytes: ...

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes: ...


class Keys(Protocol):
    """An installation's data key, and what is sealed under it. Destroying the key destroys what it sealed."""

    async def data_key(self, transaction: Transaction) -> bytes:
        """The installation's 32-byte data key; made and stored, wrapped, when there is none."""
        ...

    async def existing_key(self, transaction: Transaction) -> bytes | None:
        """The data key if there is one: what was sealed under a destroyed key stays closed."""
        ...

    def derive(self, key: bytes, purpose: bytes) -> bytes:
        """A 32-byte subkey for one purpose, such as `b"magicode/details"`."""
        ...

    def seal(self, key: bytes, plaintext: bytes, aad: bytes) -> bytes: ...

    def open(self, key: bytes, sealed: bytes, aad: bytes) -> bytes:
        """Raises app.errors.DefectError when the key, the bytes or the associated data are not those of the seal."""
        ...


__all__ = [
    "Account",
    "Appends",
    "Clock",
    "Decimal",
    "Facts",
    "Fence",
    "GitHub",
    "Keys",
    "MasterKey",
    "Model",
    "Recorder",
    "RepositoryReader",
    "RepositoryWriter",
    "RunState",
    "Search",
    "SignIn",
    "Store",
    "Transaction",
    "Workspace",
]
