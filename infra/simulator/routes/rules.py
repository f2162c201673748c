"""Rulesets, the rules that hold for a branch, and classic branch protection.

https://docs.github.com/rest/repos/rules · https://docs.github.com/rest/branches/branch-protection
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from infra.simulator.answers import ApiError, invalid_field, not_found, unprocessable
from infra.simulator.call import Body, Call, endpoint
from infra.simulator.protection import effective
from infra.simulator.shapes_people import api, app, user, web
from infra.simulator.state import Protection, Repo, Ruleset, stamp

_PLAIN = ("creation", "deletion", "non_fast_forward", "required_linear_history", "required_signatures")
_PATTERNS = (
    "commit_message_pattern",
    "commit_author_email_pattern",
    "committer_email_pattern",
    "branch_name_pattern",
    "tag_name_pattern",
)
_OPERATORS = ("starts_with", "ends_with", "contains", "regex")
_ACTORS = ("Integration", "OrganizationAdmin", "RepositoryRole", "Team", "DeployKey", "User")

# --- rulesets --------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/rules/branches/{branch}")
async def rules_of_branch(call: Call) -> Response:
    """Answers for branches that do not exist yet; rulesets that are not active are left out."""
    repo = call.repo("metadata")
    found = effective(repo, f"refs/heads/{call.text('branch')}")
    return call.page(found, lambda row: _effective(repo, *row))


def _effective(repo: Repo, ruleset: Ruleset, rule: Mapping[str, Any]) -> dict[str, Any]:
    source = {"ruleset_source_type": "Repository", "ruleset_source": repo.full_name, "ruleset_id": ruleset.id}
    return {**rule, **source}


@endpoint("GET", "/repos/{owner}/{repo}/rulesets")
async def list_rulesets(call: Call) -> Response:
    repo = call.repo("metadata")
    return call.page(repo.rulesets.values(), lambda one: _shape(call, repo, one))


@endpoint("POST", "/repos/{owner}/{repo}/rulesets")
async def create_ruleset(call: Call) -> Response:
    repo = call.repo("administration", "write", role="admin")
    body = await call.body()
    now = call.world.now()
    made = Ruleset(
        id=call.world.next_id(),
        name=body.string("name"),
        target=body.string_or("target", "branch"),
        enforcement=body.string("enforcement"),
        conditions=_conditions(body.object_or("conditions", {})),
        rules=[_rule(rule) for rule in body.list_or("rules", [])],
        bypass_actors=_bypass(body.list_or("bypass_actors", [])),
        created_at=now,
        updated_at=now,
    )
    _check(repo, made)
    repo.rulesets[made.id] = made
    return call.answer(_shape(call, repo, made, whole=True), 201)


@endpoint("GET", "/repos/{owner}/{repo}/rulesets/{ruleset_id}")
async def get_ruleset(call: Call) -> Response:
    repo = call.repo("metadata")
    return call.answer(_shape(call, repo, _found(call, repo), whole=True))


@endpoint("PUT", "/repos/{owner}/{repo}/rulesets/{ruleset_id}")
async def update_ruleset(call: Call) -> Response:
    repo = call.repo("administration", "write", role="admin")
    old, body = _found(call, repo), await call.body()
    made = Ruleset(
        id=old.id,
        name=body.string_or("name", old.name),
        target=body.string_or("target", old.target),
        enforcement=body.string_or("enforcement", old.enforcement),
        conditions=_conditions(body.object_or("conditions", old.conditions)),
        rules=[_rule(rule) for rule in body.list_or("rules", old.rules)],
        bypass_actors=_bypass(body.list_or("bypass_actors", old.bypass_actors)),
        created_at=old.created_at,
        updated_at=call.world.now(),
    )
    _check(repo, made)
    repo.rulesets[made.id] = made
    return call.answer(_shape(call, repo, made, whole=True))


@endpoint("DELETE", "/repos/{owner}/{repo}/rulesets/{ruleset_id}")
async def delete_ruleset(call: Call) -> Response:
    repo = call.repo("administration", "write", role="admin")
    del repo.rulesets[_found(call, repo).id]
    return call.nothing()


def _found(call: Call, repo: Repo) -> Ruleset:
    found = repo.rulesets.get(call.number("ruleset_id"))
    if found is None:
        raise not_found()
    return found


def _shape(call: Call, repo: Repo, one: Ruleset, *, whole: bool = False) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "id": one.id,
        "name": one.name,
        "target": one.target,
        "source_type": "Repository",
        "source": repo.full_name,
        "enforcement": one.enforcement,
        "node_id": one.node_id,
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.updated_at),
        "_links": {
            "self": {"href": f"{api(call.world, repo)}/rulesets/{one.id}"},
            "html": {"href": f"{web(call.world, repo)}/rules/{one.id}"},
        },
    }
    if whole:
        shape |= {"conditions": one.conditions, "rules": one.rules}
        if call.caller.kind == "user" and call.role_in(repo) == "admin":
            shape["bypass_actors"] = one.bypass_actors
    return shape


def _check(repo: Repo, one: Ruleset) -> None:
    if one.target not in ("branch", "tag"):
        raise unprocessable(f"Invalid request.\n\n{one.target} is not a target that is served here.")
    if one.enforcement not in ("disabled", "active", "evaluate"):
        raise unprocessable(f"Invalid request.\n\n{one.enforcement} is not a possible enforcement.")
    if not one.name.strip():
        raise invalid_field("Ruleset", "name", "missing_field")
    if any(other.name == one.name and other.id != one.id for other in repo.rulesets.values()):
        raise ApiError(422, "Validation Failed", errors=["Name must be unique"])


def _conditions(sent: Mapping[str, Any]) -> dict[str, Any]:
    named = sent.get("ref_name") or {}
    include, exclude = named.get("include", []), named.get("exclude", [])
    for pattern in [*include, *exclude]:
        known = pattern in ("~ALL", "~DEFAULT_BRANCH") or str(pattern).startswith(
            ("refs/heads/", "refs/tags/")
        )
        if not isinstance(pattern, str) or not known:
            raise ApiError(422, "Validation Failed", errors=[f"Invalid target patterns: '{pattern}'"])
    return {"ref_name": {"include": list(include), "exclude": list(exclude)}}


def _bypass(sent: list[Any]) -> list[dict[str, Any]]:
    for actor in sent:
        if not isinstance(actor, dict) or actor.get("actor_type") not in _ACTORS:
            raise ApiError(422, "Validation Failed", errors=["Bypass actors are invalid"])
    return [{"actor_id": None, "bypass_mode": "always", **actor} for actor in sent]


def _rule(sent: Any) -> dict[str, Any]:
    """A rule with all its parameters. A kind that is not enforced here is refused rather than quietly kept."""
    if not isinstance(sent, dict) or not isinstance(sent.get("type"), str):
        raise ApiError(422, "Validation Failed", errors=["Invalid rule"])
    kind, given = sent["type"], sent.get("parameters") or {}
    if kind in _PLAIN:
        return {"type": kind}
    if kind == "update":
        return {
            "type": kind,
            "parameters": {"update_allows_fetch_and_merge": bool(given.get("update_allows_fetch_and_merge"))},
        }
    if kind == "pull_request":
        return {"type": kind, "parameters": _pull_request(given)}
    if kind == "required_status_checks":
        return {"type": kind, "parameters": _status_checks(given)}
    if kind in _PATTERNS:
        return {"type": kind, "parameters": _pattern(kind, given)}
    raise ApiError(422, "Validation Failed", errors=[f"Invalid rule '{kind}': "])


def _pull_request(given: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "dismiss_stale_reviews_on_push",
        "require_code_owner_review",
        "require_last_push_approval",
        "required_review_thread_resolution",
    )
    return {
        "required_approving_review_count": int(given.get("required_approving_review_count", 0)),
        **{name: bool(given.get(name)) for name in names},
        "allowed_merge_methods": list(given.get("allowed_merge_methods", ("merge", "squash", "rebase"))),
    }


def _status_checks(given: Mapping[str, Any]) -> dict[str, Any]:
    checks = given.get("required_status_checks")
    if (
        not isinstance(checks, list)
        or not checks
        or not all(isinstance(c, dict) and c.get("context") for c in checks)
    ):
        raise ApiError(422, "Validation Failed", errors=["Invalid rule 'required_status_checks': "])
    return {
        "strict_required_status_checks_policy": bool(given.get("strict_required_status_checks_policy")),
        "do_not_enforce_on_create": bool(given.get("do_not_enforce_on_create")),
        "required_status_checks": [
            {
                "context": str(c["context"]),
                **({"integration_id": c["integration_id"]} if c.get("integration_id") else {}),
            }
            for c in checks
        ],
    }


def _pattern(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    operator, pattern = given.get("operator"), given.get("pattern")
    try:
        good = (
            operator in _OPERATORS
            and isinstance(pattern, str)
            and bool(re.compile(pattern) if operator == "regex" else 1)
        )
    except re.error:
        good = False
    if not good:
        raise ApiError(422, "Validation Failed", errors=[f"Invalid rule '{kind}': "])
    return {
        "operator": operator,
        "pattern": pattern,
        "negate": bool(given.get("negate")),
        "name": str(given.get("name", "")),
    }


# --- classic protection ----------------------------------------------------------------------------------------------

_PROTECTION = "/repos/{owner}/{repo}/branches/{branch}/protection"


async def _branch(call: Call, level: str) -> tuple[Repo, str]:
    repo = call.repo("administration", level, role="admin")
    name = call.text("branch")
    if await repo.git.branch(name) is None:
        raise ApiError(404, "Branch not found")
    return repo, name


@endpoint("GET", _PROTECTION)
async def get_protection(call: Call) -> Response:
    repo, name = await _branch(call, "read")
    found = repo.protections.get(name)
    if found is None:
        raise ApiError(404, "Branch not protected")
    return call.answer(_protection(call, repo, name, found))


@endpoint("PUT", _PROTECTION)
async def set_protection(call: Call) -> Response:
    repo, name = await _branch(call, "write")
    body = await call.body()
    for required in (
        "required_status_checks",
        "enforce_admins",
        "required_pull_request_reviews",
        "restrictions",
    ):
        if required not in body:
            raise unprocessable(f'Invalid request.\n\n"{required}" wasn\'t supplied.')
    old = repo.protections.get(name)
    made = Protection(
        required_status_checks=_classic_checks(body.object_or("required_status_checks", None)),
        enforce_admins=body.boolean_or("enforce_admins", False),
        required_pull_request_reviews=_classic_reviews(body.object_or("required_pull_request_reviews", None)),
        restrictions=_people(body.object_or("restrictions", None)),
        required_linear_history=body.boolean_or("required_linear_history", False),
        allow_force_pushes=body.boolean_or("allow_force_pushes", False),
        allow_deletions=body.boolean_or("allow_deletions", False),
        block_creations=body.boolean_or("block_creations", False),
        required_conversation_resolution=body.boolean_or("required_conversation_resolution", False),
        required_signatures=old.required_signatures if old else False,
        lock_branch=body.boolean_or("lock_branch", False),
        allow_fork_syncing=body.boolean_or("allow_fork_syncing", False),
    )
    repo.protections[name] = made
    return call.answer(_protection(call, repo, name, made))


@endpoint("DELETE", _PROTECTION)
async def remove_protection(call: Call) -> Response:
    repo, name = await _branch(call, "write")
    if repo.protections.pop(name, None) is None:
        raise ApiError(404, "Branch not protected")
    return call.nothing()


@endpoint("POST", _PROTECTION + "/required_signatures")
async def require_signatures(call: Call) -> Response:
    return await _set_signatures(call, needed=True)


@endpoint("DELETE", _PROTECTION + "/required_signatures")
async def spare_signatures(call: Call) -> Response:
    await _set_signatures(call, needed=False)
    return call.nothing()


async def _set_signatures(call: Call, *, needed: bool) -> Response:
    repo, name = await _branch(call, "write")
    found = repo.protections.get(name)
    if found is None:
        raise ApiError(404, "Branch not protected")
    found.required_signatures = needed
    url = f"{api(call.world, repo)}/branches/{name}/protection/required_signatures"
    return call.answer({"url": url, "enabled": needed})


def _classic_checks(sent: dict[str, Any] | None) -> dict[str, Any] | None:
    if sent is None:
        return None
    body = Body(sent)
    checks = [{"context": name, "app_id": None} for name in body.strings_or("contexts", [])]
    checks += [{"context": c["context"], "app_id": c.get("app_id")} for c in body.list_or("checks", [])]
    return {"strict": body.boolean_or("strict", False), "checks": checks}


def _classic_reviews(sent: dict[str, Any] | None) -> dict[str, Any] | None:
    if sent is None:
        return None
    body = Body(sent)
    count = body.integer_or("required_approving_review_count", 1)
    if not 0 <= count <= 6:
        raise unprocessable(
            f"Invalid request.\n\nFor 'required_approving_review_count', {count} is not between 0 and 6."
        )
    return {
        "required_approving_review_count": count,
        "dismiss_stale_reviews": body.boolean_or("dismiss_stale_reviews", False),
        "require_code_owner_reviews": body.boolean_or("require_code_owner_reviews", False),
        "require_last_push_approval": body.boolean_or("require_last_push_approval", False),
        "bypass_pull_request_allowances": _people(body.object_or("bypass_pull_request_allowances", None)),
    }


def _people(sent: dict[str, Any] | None) -> dict[str, list[str]] | None:
    if sent is None:
        return None
    body = Body(sent)
    return {kind: body.strings_or(kind, []) for kind in ("users", "teams", "apps")}


def _protection(call: Call, repo: Repo, name: str, found: Protection) -> dict[str, Any]:
    url = f"{api(call.world, repo)}/branches/{name}/protection"
    shape: dict[str, Any] = {
        "url": url,
        "required_signatures": {"url": f"{url}/required_signatures", "enabled": found.required_signatures},
        "enforce_admins": {"url": f"{url}/enforce_admins", "enabled": found.enforce_admins},
    }
    for flag in (
        "required_linear_history",
        "allow_force_pushes",
        "allow_deletions",
        "block_creations",
        "required_conversation_resolution",
        "lock_branch",
        "allow_fork_syncing",
    ):
        shape[flag] = {"enabled": getattr(found, flag)}
    if found.required_status_checks is not None:
        checks = found.required_status_checks["checks"]
        shape["required_status_checks"] = {
            "url": f"{url}/required_status_checks",
            "contexts_url": f"{url}/required_status_checks/contexts",
            "strict": found.required_status_checks["strict"],
            "contexts": [check["context"] for check in checks],
            "checks": checks,
        }
    if found.required_pull_request_reviews is not None:
        reviews = {
            k: v
            for k, v in found.required_pull_request_reviews.items()
            if k != "bypass_pull_request_allowances"
        }
        shape["required_pull_request_reviews"] = {"url": f"{url}/required_pull_request_reviews", **reviews}
    if found.restrictions is not None:
        shape["restrictions"] = _restrictions(call, url, found.restrictions)
    return shape


def _restrictions(call: Call, url: str, listed: Mapping[str, list[str]]) -> dict[str, Any]:
    found = [who for name in listed["users"] if (who := call.world.user_by_login(name)) is not None]
    apps = [app(call.world, call.world.app)] if call.world.app.slug in listed["apps"] else []
    return {
        "url": f"{url}/restrictions",
        "users_url": f"{url}/restrictions/users",
        "teams_url": f"{url}/restrictions/teams",
        "apps_url": f"{url}/restrictions/apps",
        "users": [user(call.world, who) for who in found],
        "teams": [],
        "apps": apps,
    }


endpoints = [
    rules_of_branch,
    list_rulesets,
    create_ruleset,
    get_ruleset,
    update_ruleset,
    delete_ruleset,
    get_protection,
    set_protection,
    remove_protection,
    require_signatures,
    spare_signatures,
]
