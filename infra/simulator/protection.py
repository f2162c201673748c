"""Whether a ref may move: rulesets and classic branch protection, judged as GitHub judges a push or a merge.

https://docs.github.com/repositories/configuring-branches-and-merges-in-your-repository/managing-rulesets/available-rules-for-rulesets
https://docs.github.com/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from infra.simulator.answers import ApiError
from infra.simulator.auth import Caller
from infra.simulator.git import CommitObject
from infra.simulator.signing import is_verified
from infra.simulator.state import ROLES, ZERO_SHA, Issue, Protection, Repo, Ruleset, World

_DOCS = "https://docs.github.com/rest"
_PROTECTED_DOCS = "https://docs.github.com/articles/about-protected-branches"
_BASE_ROLES = {2: "maintain", 4: "write", 5: "admin"}
"""The ids by which a ruleset's bypass list names repository roles. https://docs.github.com/rest/repos/rules"""

_OPERATORS = {
    "starts_with": "start with a matching pattern",
    "ends_with": "end with a matching pattern",
    "contains": "contain a matching pattern",
    "regex": "match a given regex pattern",
}


@dataclass(frozen=True)
class Move:
    """A ref's way from `before` to `after`, either all zeros for none. `pull`: the merge of a pull request."""

    ref: str
    before: str
    after: str
    pull: Issue | None = None

    @property
    def created(self) -> bool:
        return self.before == ZERO_SHA

    @property
    def deleted(self) -> bool:
        return self.after == ZERO_SHA


@dataclass(frozen=True)
class Refusal:
    """Why not: what rulesets say, and what classic protection says."""

    rules: tuple[str, ...]
    protection: tuple[str, ...]

    def error(self, status: int) -> ApiError:
        """422 for a ref, 409 for contents, 405 for a merge."""
        if self.rules:
            said = "\n\n".join(["Repository rule violations found", *self.rules]) + "\n\n"
            return ApiError(status, said, docs=_DOCS)
        return ApiError(status, self.protection[0], docs=_PROTECTED_DOCS)


# --- which rules apply -----------------------------------------------------------------------------------------------


def effective(repo: Repo, ref: str) -> list[tuple[Ruleset, dict[str, Any]]]:
    """The active rules for a full ref, which need not exist."""
    target = "branch" if ref.startswith("refs/heads/") else "tag"
    return [
        (ruleset, rule)
        for ruleset in repo.rulesets.values()
        if ruleset.enforcement == "active" and ruleset.target == target and covers(repo, ruleset, ref)
        for rule in ruleset.rules
    ]


def covers(repo: Repo, ruleset: Ruleset, ref: str) -> bool:
    named = ruleset.conditions.get("ref_name", {})
    return _any(repo, named.get("include", ()), ref) and not _any(repo, named.get("exclude", ()), ref)


def _any(repo: Repo, patterns: Iterable[str], ref: str) -> bool:
    return any(_meets(repo, pattern, ref) for pattern in patterns)


def _meets(repo: Repo, pattern: str, ref: str) -> bool:
    if pattern == "~ALL":
        return True
    if pattern == "~DEFAULT_BRANCH":
        return ref == f"refs/heads/{repo.default_branch}"
    return glob(pattern).fullmatch(ref) is not None


def glob(pattern: str) -> re.Pattern[str]:
    """Ruby's fnmatch with FNM_PATHNAME, GitHub's: `*` stays within a part, `**/` spans any number of parts."""
    out, at = "", 0
    while at < len(pattern):
        letter = pattern[at]
        closing = pattern.find("]", at + 2) if letter == "[" else -1
        if pattern.startswith("**/", at):
            out, at = out + "(?:[^/]+/)*", at + 3
        elif letter == "*":
            out, at = out + "[^/]*", at + 1
        elif letter == "?":
            out, at = out + "[^/]", at + 1
        elif closing > 0:
            inner = pattern[at + 1 : closing].replace("\\", "\\\\")
            out, at = out + f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]", closing + 1
        else:
            out, at = out + re.escape(letter), at + 1
    return re.compile(out)


def protection_of(repo: Repo, branch: str) -> Protection | None:
    exact = repo.protections.get(branch)
    if exact is not None:
        return exact
    return next((p for name, p in repo.protections.items() if fnmatchcase(branch, name)), None)


def is_protected(repo: Repo, branch: str) -> bool:
    """What a branch's `protected` says: classic protection, or a ruleset that covers it."""
    return protection_of(repo, branch) is not None or bool(effective(repo, f"refs/heads/{branch}"))


# --- the judgement ---------------------------------------------------------------------------------------------------


async def judge(world: World, repo: Repo, caller: Caller, move: Move) -> Refusal | None:
    """None when the move may be made."""
    facts = await _facts(world, repo, move)
    rules: list[str] = []
    for ruleset, rule in effective(repo, move.ref):
        if _bypasses(world, repo, caller, ruleset, merging=move.pull is not None):
            continue
        rules.extend(said for said in _broken(rule, move, facts) if said not in rules)
    protection: list[str] = []
    if move.ref.startswith("refs/heads/"):
        found = protection_of(repo, move.ref.removeprefix("refs/heads/"))
        role = repo.role(caller.user) if caller.kind == "user" and caller.user else "none"
        if found is not None and not (move.created and not found.block_creations):
            protection = list(_unprotected(world, caller, found, move, facts, admin=role == "admin"))
    return Refusal(tuple(rules), tuple(protection)) if rules or protection else None


@dataclass(frozen=True)
class _Facts:
    commits: tuple[CommitObject, ...]  # those that the move brings
    forced: bool
    verified: bool
    approvals: int
    changes_requested: bool
    unresolved: bool
    passed: frozenset[str]  # contexts of checks and statuses that succeeded on the judged head


async def _facts(world: World, repo: Repo, move: Move) -> _Facts:
    shas: list[str] = []
    forced = False
    if not move.deleted:
        forced = not move.created and not await repo.git.is_ancestor(move.before, move.after)
        known = [move.before]
        if move.created:
            known = [sha for _, sha, kind in await repo.git.refs("refs/heads/") if kind == "commit"]
        shas = await repo.git.commits(move.after, *(f"^{sha}" for sha in known))
    commits = tuple([found for sha in shas if (found := await repo.git.commit(sha)) is not None])
    head = move.pull.pull.head_sha if move.pull is not None and move.pull.pull is not None else move.after
    approvals, changes_requested, unresolved = _reviews(world, repo, move.pull)
    return _Facts(
        commits=commits,
        forced=forced,
        verified=all(is_verified(world, one) for one in commits),
        approvals=approvals,
        changes_requested=changes_requested,
        unresolved=unresolved,
        passed=_passed(repo, head),
    )


def _reviews(world: World, repo: Repo, issue: Issue | None) -> tuple[int, bool, bool]:
    if issue is None or issue.pull is None:
        return 0, False, False
    latest: dict[int, str] = {}
    for review in sorted(issue.pull.reviews.values(), key=lambda r: r.id):
        who = world.user(review.user_id)
        counted = review.state in ("APPROVED", "CHANGES_REQUESTED", "DISMISSED")
        if counted and who.id != issue.user_id and ROLES.index(repo.role(who)) >= ROLES.index("write"):
            latest[who.id] = review.state
    states = list(latest.values())
    unresolved = any(not thread.resolved for thread in issue.pull.threads.values())
    return states.count("APPROVED"), "CHANGES_REQUESTED" in states, unresolved


def _passed(repo: Repo, sha: str) -> frozenset[str]:
    latest: dict[str, bool] = {}
    for status in sorted((s for s in repo.statuses if s.sha == sha), key=lambda s: s.id):
        latest[status.context] = status.state == "success"
    for run in sorted((r for r in repo.check_runs.values() if r.head_sha == sha), key=lambda r: r.id):
        latest[run.name] = run.status == "completed" and run.conclusion in ("success", "neutral", "skipped")
    return frozenset(name for name, good in latest.items() if good)


def _bypasses(world: World, repo: Repo, caller: Caller, ruleset: Ruleset, *, merging: bool) -> bool:
    for actor in ruleset.bypass_actors:
        if actor.get("bypass_mode", "always") == "pull_request" and not merging:
            continue
        kind, number = actor.get("actor_type"), actor.get("actor_id")
        if kind == "Integration" and caller.kind == "installation" and number == world.app.id:
            return True
        if caller.kind != "user" or caller.user is None:
            continue
        rank = ROLES.index(repo.role(caller.user))
        needed = "admin" if kind == "OrganizationAdmin" else _BASE_ROLES.get(number or 0)
        if kind in ("RepositoryRole", "OrganizationAdmin") and needed and rank >= ROLES.index(needed):
            return True
        if kind == "User" and number == caller.user.id:
            return True
    return False


# --- rulesets --------------------------------------------------------------------------------------------------------


def _broken(rule: Mapping[str, Any], move: Move, facts: _Facts) -> list[str]:
    kind, wanted = rule["type"], rule.get("parameters") or {}
    plain = {
        "creation": (move.created, "Cannot create ref due to creations being restricted."),
        "update": (not move.created and not move.deleted, "Cannot update this protected ref."),
        "deletion": (move.deleted, "Cannot delete this protected ref."),
        "non_fast_forward": (facts.forced, "Cannot force-push to this branch."),
        "required_linear_history": (
            any(len(one.parents) > 1 for one in facts.commits),
            "This branch must not contain merge commits.",
        ),
        "required_signatures": (not facts.verified, "Commits must have verified signatures."),
    }
    if kind in plain:
        hit, said = plain[kind]
        return [said] if hit else []
    if move.deleted:
        return []
    if kind == "pull_request":
        return _without_review(wanted, move, facts)
    if kind == "required_status_checks":
        return _without_checks(wanted, move, facts)
    return _off_pattern(kind, wanted, move, facts)


def _without_review(wanted: Mapping[str, Any], move: Move, facts: _Facts) -> list[str]:
    if move.pull is None:
        return ["Changes must be made through a pull request."]
    out = []
    count = int(wanted.get("required_approving_review_count", 0))
    if facts.approvals < count:
        plural = "review is" if count == 1 else "reviews are"
        out.append(f"At least {count} approving {plural} required by reviewers with write access.")
    if count and facts.changes_requested:
        out.append("Changes have been requested by a reviewer with write access.")
    if wanted.get("required_review_thread_resolution") and facts.unresolved:
        out.append("A conversation must be resolved before this pull request can be merged.")
    return out


def _without_checks(wanted: Mapping[str, Any], move: Move, facts: _Facts) -> list[str]:
    if move.created and wanted.get("do_not_enforce_on_create"):
        return []
    missing = [
        c["context"] for c in wanted.get("required_status_checks", ()) if c["context"] not in facts.passed
    ]
    if len(missing) == 1:
        return [f'Required status check "{missing[0]}" is expected.']
    return (
        [f"{len(missing)} of {len(wanted['required_status_checks'])} required status checks are expected."]
        if missing
        else []
    )


def _off_pattern(kind: str, wanted: Mapping[str, Any], move: Move, facts: _Facts) -> list[str]:
    name = move.ref.split("/", 2)[2]
    texts: dict[str, tuple[str, list[tuple[str, str]]]] = {
        "commit_message_pattern": (
            "Commit message",
            [(c.sha, c.message.rstrip("\n")) for c in facts.commits],
        ),
        "commit_author_email_pattern": ("Author email", [(c.sha, c.author.email) for c in facts.commits]),
        "committer_email_pattern": ("Committer email", [(c.sha, c.committer.email) for c in facts.commits]),
        "branch_name_pattern": ("Branch name", [("", name)]),
        "tag_name_pattern": ("Tag name", [("", name)]),
    }
    if kind not in texts:
        return []
    what, found = texts[kind]
    out = []
    for sha, text in found:
        if matches(wanted, text):
            continue
        verb = "must not" if wanted.get("negate") else "must"
        where = f"{sha}: " if sha else ""
        out.append(f"{where}{what} {verb} {_OPERATORS[wanted['operator']]}: {wanted['pattern']}")
    return out


def matches(wanted: Mapping[str, Any], text: str) -> bool:
    """Whether a text satisfies a metadata rule's pattern, `negate` counted in."""
    pattern = str(wanted["pattern"])
    met = {
        "starts_with": text.startswith(pattern),
        "ends_with": text.endswith(pattern),
        "contains": pattern in text,
        "regex": wanted["operator"] == "regex" and re.search(pattern, text) is not None,
    }[wanted["operator"]]
    return met != bool(wanted.get("negate"))


# --- classic protection ----------------------------------------------------------------------------------------------


def _unprotected(
    world: World, caller: Caller, found: Protection, move: Move, facts: _Facts, *, admin: bool
) -> Iterable[str]:
    if move.deleted:
        if not found.allow_deletions:
            yield "Cannot delete this protected branch"
        return
    if facts.forced and not found.allow_force_pushes:
        yield "Cannot force-push to this protected branch"
    if admin and not found.enforce_admins:
        return
    if found.lock_branch:
        yield "Cannot change this locked branch"
    if found.restrictions is not None and not _allowed(world, caller, found.restrictions):
        yield f"You're not authorized to push to this branch. Visit {_PROTECTED_DOCS}/ for more information."
    yield from _classic_review(world, caller, found, move, facts)
    checks = (found.required_status_checks or {}).get("checks", ())
    yield from (
        f'Required status check "{c["context"]}" is expected.'
        for c in checks
        if c["context"] not in facts.passed
    )
    if found.required_linear_history and any(len(one.parents) > 1 for one in facts.commits):
        yield "This branch must not contain merge commits."
    if found.required_signatures and not facts.verified:
        yield "Commits must have verified signatures."
    if found.required_conversation_resolution and facts.unresolved:
        yield "A conversation must be resolved before this pull request can be merged."


def _classic_review(
    world: World, caller: Caller, found: Protection, move: Move, facts: _Facts
) -> Iterable[str]:
    wanted = found.required_pull_request_reviews
    if wanted is None:
        return
    allowances = wanted.get("bypass_pull_request_allowances") or {}
    if allowances and _allowed(world, caller, allowances):
        return
    if move.pull is None:
        yield "Changes must be made through a pull request."
        return
    yield from _without_review(
        {"required_approving_review_count": wanted.get("required_approving_review_count", 1)}, move, facts
    )


def _allowed(world: World, caller: Caller, listed: Mapping[str, Iterable[str]]) -> bool:
    if caller.kind == "installation":
        return world.app.slug in listed.get("apps", ())
    login = caller.user.login.lower() if caller.user else ""
    return login in [name.lower() for name in listed.get("users", ())]
