"""What the pages do, for programs: JSON in and out, tokens or a session, and an OpenAPI document that says all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Security
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyCookie, HTTPBearer

from app import choosing, exporting, steering
from app.actionlog.chain import Report
from app.actionlog.export import Format
from app.custody import hooks, provider_keys, settings
from app.custody.hooks import KnownHook
from app.custody.members import DEFAULT
from app.custody.provider_keys import KnownKey
from app.nouns import ApiToken, Erasure, Installation, RunEvent
from app.telling import Sent, facts_of, ping
from app.web import deletion, entries, exports, members, runs, shapes, usage
from app.web.access import NotYoursError, Scope, make_token, remove_token
from app.web.actions import downloaded, looked, narrowed, run_of
from app.web.desk import Desk, Tenant
from app.web.hooks import make_hook
from app.web.journey import Journey
from app.web.names import LARGEST_ID
from app.web.overview import held
from app.web.session import COOKIE
from app.web.tokens import tokens
from app.web.writes import PROBLEM, ApiRoute

MOST = 1_000
BASE = "/api/installations/{tenant}"

_BINARY = {"type": "string", "format": "binary"}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {**PROBLEM, "description": means}
    for status, means in (
        (400, "Something in the request cannot be read, or is not possible."),
        (401, "No token that is known here, and nobody is signed in."),
        (403, "The token may not do this, or the form key is missing."),
        (404, "There is nothing here, or it is not yours."),
        (409, "Not as things stand: the run has ended, or another request is at work there."),
        (429, "Too many calls, or questions about access; Retry-After says when to go on."),
        (503, "The database or GitHub is briefly away."),
    )
}

_DESCRIPTION = """Everything of an installation: what is held, settings, keys, the action log, exports and deletion.

A program shows a token (`Authorization: Bearer mgc_…`), which an administrator makes on the installation's page, with scopes:
`runs`, `log`, `export`, `settings`, `delete`. A browser's session does as well; where it changes something it shows the form key of
`GET /api/session` in the header `X-Form-Key`. Errors are problem+json (RFC 9457). Every look and every download is an entry in
the action log.

What is sent twice is done once: PUT and DELETE by nature, an export while one is being made, a deletion once it has begun. Whoever sends
an `Idempotency-Key` with a write may send it again for 24 hours after no answer came: the same caller, key, method, path and body are
given the same answer, with `Idempotency-Replayed: true`, and nothing is done again. Another request under the same key is answered 422;
409 with `Retry-After` says that the first one is still at work. What is no final answer (401, 403, 429, from 500 on, what is not
yours) is not kept, and may be tried again under the same key. What is shown once, a token or a webhook's secret, is not shown again:
under its key 409 `shown_once` names its id. Where the service died in the middle, the request is done anew from a minute later on; a
token or a webhook may then be there twice, and a ping come twice. Of an installation that is being deleted nothing is kept any more,
answers neither.
"""


def routes(desk: Desk) -> APIRouter:
    bearer = HTTPBearer(auto_error=False, scheme_name="token", description="A token of the installation.")
    cookie = APIKeyCookie(name=COOKIE, auto_error=False, scheme_name="session", description="Signed in.")
    router = APIRouter(
        route_class=ApiRoute, responses=_PROBLEMS, dependencies=[Security(bearer), Security(cookie)]
    )

    @router.get("/api/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        """Of this router alone: the service's other doors are no part of the API."""
        return JSONResponse(
            get_openapi(title="MagiCode", version="1", description=_DESCRIPTION, routes=router.routes)
        )

    for add in (_who, _runs, _usage, _settings, _members, _tokens, _hooks, _log, _exports, _deletion):
        add(router, desk)
    return router


def _who(router: APIRouter, desk: Desk) -> None:
    @router.get("/api/session", operation_id="get_session", tags=["session"])
    async def session(request: Request) -> shapes.SessionShape:
        """Who is signed in, and the form key."""
        found = await desk.gate.session(request)
        return shapes.SessionShape(login=found.person.login, form_key=found.form_key, ends_at=found.ends_at)

    @router.get("/api/installations", operation_id="list_installations", tags=["installation"])
    async def installations(
        request: Request, account: Annotated[str, Query(max_length=100, examples=["octo-org"])] = ""
    ) -> list[shapes.InstallationShape]:
        """Those on the signed-in person's own account; with `account` the one on that account, if they administer it."""
        person = (await desk.gate.session(request)).person
        if not account:
            return [shapes.InstallationShape(**_installation(one)) for one in await desk.access.own(person)]
        try:
            found = await desk.access.named(account, person)
        except NotYoursError:
            return []
        return [shapes.InstallationShape(**_installation(found.installation))]

    @router.get(BASE, operation_id="get_installation", tags=["installation"])
    async def summary(request: Request, tenant: Tenant) -> shapes.SummaryShape:
        """What is held. Any token of the installation may read this."""
        allowed = await desk.calls(request, tenant, None)
        await desk.looks.at(allowed, "overview")
        found = await held(desk.house, tenant)
        return shapes.SummaryShape(
            **_installation(allowed.installation),
            held=dict(found.counts),
            log_since=found.log_since,
            log_head=found.log_head,
        )


def _runs(router: APIRouter, desk: Desk) -> None:
    house = desk.house

    @router.get(f"{BASE}/runs", operation_id="list_runs", tags=["runs"])
    async def look(
        request: Request,
        tenant: Tenant,
        *,
        repository: Annotated[
            str, Query(max_length=200, examples=["1296269"], description="Its id, or OWNER/NAME.")
        ] = "",
        state: Annotated[str, Query(max_length=20, examples=["opened"])] = "",
        verb: Annotated[str, Query(max_length=20, examples=["fix"])] = "",
        beyond: Annotated[UUID | None, Query(description="Go on behind this run.")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = runs.PAGE,
    ) -> shapes.RunsPage:
        """Newest first. Scope `runs`; with `repository`, also the session of somebody who may read it."""
        await runs.require_somebody(desk, request, tenant)
        given = {"repository": repository, "state": state, "verb": verb}
        wanted = await runs.read_wanted(desk, tenant, given)
        await runs.viewed(desk, request, tenant, wanted.repository_id)
        wanted.require_readable()
        found, further = await runs.some(house, tenant, wanted, beyond, limit)
        return shapes.RunsPage(runs=[shapes.RunShape(**facts_of(one)) for one in found], next=further)

    @router.get(f"{BASE}/runs/{{run_id}}", operation_id="get_run", tags=["runs"])
    async def look_at_one(request: Request, tenant: Tenant, run_id: UUID) -> shapes.JourneyShape:
        """Scope `runs`, or the session of somebody who may read its repository."""
        run = await runs.find_for(desk, request, tenant, run_id)
        return _journey(await runs.travelled(house, run))

    @router.post(f"{BASE}/runs/{{run_id}}/stop", operation_id="stop_run", tags=["runs"], status_code=202)
    async def stop(request: Request, tenant: Tenant, run_id: UUID) -> shapes.RunShape:
        """Told once, however often it is asked for. For the session of somebody who may write to its repository."""
        run, session = await runs.find_to_steer(desk, request, tenant, run_id)
        stopped = await steering.stop(house, tenant, run.id, session.person.login)
        return shapes.RunShape(**facts_of(stopped))

    @router.post(f"{BASE}/runs/{{run_id}}/retry", operation_id="retry_run", tags=["runs"], status_code=202)
    async def retry(request: Request, tenant: Tenant, run_id: UUID) -> shapes.RunShape:
        """The new run; the same one, however often it is asked for. For the session of somebody who may write there."""
        run, session = await runs.find_to_steer(desk, request, tenant, run_id)
        return shapes.RunShape(**facts_of(await steering.try_again(house, tenant, run.id, session.person)))


def _usage(router: APIRouter, desk: Desk) -> None:
    @router.get(f"{BASE}/usage", operation_id="get_usage", tags=["usage"])
    async def look(
        request: Request,
        tenant: Tenant,
        days: Annotated[int, Query(ge=1, le=usage.PERIODS[-1], examples=[30])] = usage.USUAL,
    ) -> shapes.UsageShape:
        """What was used, by day and repository, and the budgets. Scope `runs`."""
        allowed = await desk.calls(request, tenant, Scope.RUNS)
        await desk.looks.at(allowed, "usage")
        found = await usage.used(desk.house, tenant, days)
        return shapes.UsageShape(
            days=found.days,
            since=found.since,
            total=shapes.SumShape(**_sum(found.total)),
            by_day=[shapes.DayShape(day=bar.day, **_sum(bar.sum)) for bar in found.cost_bars],
            by_repository=[
                shapes.RepositorySumShape(repository_id=one, **_sum(total))
                for one, total in found.repositories
            ],
            outcomes=dict(found.outcomes),
            opened=found.opened,
            half_seconds=found.half_seconds,
            most_seconds=found.most_seconds,
            budgets=[
                shapes.BudgetShape(
                    setting=one.setting,
                    limit_usd=str(one.limit_usd),
                    spent_usd=str(one.spent_usd),
                    percent=one.percent,
                    alert=one.alert,
                )
                for one in found.budgets
            ],
        )


def _sum(total: usage.Sum) -> Mapping[str, Any]:
    return {**asdict(total), "cost_usd": str(total.cost_usd)}


def _settings(router: APIRouter, desk: Desk) -> None:
    house = desk.house

    @router.get(f"{BASE}/settings", operation_id="get_settings", tags=["settings"])
    async def look(request: Request, tenant: Tenant) -> shapes.SettingsShape:
        """What was chosen, and where code may go. Scope `settings`."""
        await desk.looks.at(await desk.calls(request, tenant, Scope.SETTINGS), "settings")
        found = await choosing.overview(house, tenant)
        shown = settings.shown(found.settings)
        return shapes.SettingsShape(
            settings=[
                shapes.SettingShape(
                    name=one.name, value=shown[one.name], means=one.means, example=one.example
                )
                for one in settings.SETTINGS
            ],
            destinations=[
                shapes.DestinationShape(
                    provider=one.provider,
                    model=one.model,
                    host=one.host,
                    region=one.region,
                    own_key=one.own_key,
                    allowed=found.settings.allows(one),
                )
                for one in found.destinations
            ],
            receipts_fingerprint=found.receipts_fingerprint,
        )

    @router.put(f"{BASE}/settings/{{name}}", operation_id="change_setting", tags=["settings"])
    async def change(
        request: Request, tenant: Tenant, name: str, sent: shapes.NewValue
    ) -> shapes.ChangedShape:
        """One setting, the legal hold among them. Scope `settings`."""
        allowed = await desk.calls(request, tenant, Scope.SETTINGS)
        done = await settings.change(
            house.store,
            house.ledger,
            house.clock,
            installation_id=tenant,
            by=allowed.actor,
            wanted=settings.wanted(f"{settings.find(name).name} {sent.value}"),
        )
        return shapes.ChangedShape(name=done.name, old=done.old, new=done.new)

    @router.get(f"{BASE}/provider-keys", operation_id="list_provider_keys", tags=["settings"])
    async def keys(request: Request, tenant: Tenant) -> list[shapes.KeyShape]:
        """The installation's own keys of model providers, as far as they may be seen. Scope `settings`."""
        await desk.looks.at(await desk.calls(request, tenant, Scope.SETTINGS), "settings")
        return [_key(one) for one in await provider_keys.known_keys(house.store, house.keys, tenant)]

    @router.put(f"{BASE}/provider-keys/{{provider}}", operation_id="put_provider_key", tags=["settings"])
    async def put_key(
        request: Request, tenant: Tenant, provider: str, sent: shapes.NewKey
    ) -> shapes.KeyShape:
        """Checked with the provider and kept, in the place of the last one. Scope `settings`."""
        allowed = await desk.calls(request, tenant, Scope.SETTINGS)
        saved = await provider_keys.put(
            house.store,
            house.keys,
            house.ledger,
            house.clock,
            house.key_check,
            installation_id=tenant,
            by=allowed.actor,
            provider=provider,
            key=sent.key.get_secret_value(),
            base_url=sent.base_url,
        )
        return _key(saved.key, saved.why)

    @router.delete(
        f"{BASE}/provider-keys/{{provider}}",
        operation_id="remove_provider_key",
        tags=["settings"],
        status_code=204,
    )
    async def remove_key(request: Request, tenant: Tenant, provider: str) -> None:
        """Also where there is none. Runs that use it stop before they ask again. Scope `settings`."""
        allowed = await desk.calls(request, tenant, Scope.SETTINGS)
        await provider_keys.remove(
            house.store, house.keys, house.ledger, installation_id=tenant, by=allowed.actor, provider=provider
        )


def _members(router: APIRouter, desk: Desk) -> None:
    house = desk.house

    @router.get(f"{BASE}/members", operation_id="list_members", tags=["members"])
    async def look(request: Request, tenant: Tenant) -> list[shapes.MemberShape]:
        """Those who have a role of their own; of everybody else GitHub decides. Scope `settings`."""
        await desk.looks.at(await desk.calls(request, tenant, Scope.SETTINGS), "members")
        return [
            shapes.MemberShape(
                id=one.id, login=one.login, role=one.role.value, given_by=one.by, given_at=one.since
            )
            for one in await members.known(house, tenant)
        ]

    @router.put(f"{BASE}/members/{{login}}", operation_id="give_role", tags=["members"])
    async def give(
        request: Request, tenant: Tenant, login: str, sent: shapes.NewRole
    ) -> shapes.RoleChangedShape:
        """The role of whoever has this login now, kept by their account's id. For a session alone: a token appoints nobody."""
        by = (await desk.visits(request, tenant)).administrator
        done = await members.give(house, tenant, by, login, sent.role)
        return shapes.RoleChangedShape(login=done.login, old=done.old, new=done.new)

    @router.delete(f"{BASE}/members/{{login}}", operation_id="take_role", tags=["members"])
    async def take(request: Request, tenant: Tenant, login: str) -> shapes.RoleChangedShape:
        """GitHub decides again: of whoever has this login now, else of who had it when the role was given. For a session alone."""
        by = (await desk.visits(request, tenant)).administrator
        done = await members.give(house, tenant, by, login, DEFAULT)
        return shapes.RoleChangedShape(login=done.login, old=done.old, new=done.new)


def _tokens(router: APIRouter, desk: Desk) -> None:
    @router.get(f"{BASE}/tokens", operation_id="list_tokens", tags=["tokens"])
    async def look(request: Request, tenant: Tenant) -> list[shapes.TokenShape]:
        """For a session alone."""
        await desk.looks.at(await desk.calls_as_person(request, tenant), "tokens")
        return [shapes.TokenShape(**_token(one)) for one in await tokens(desk.house, tenant)]

    @router.post(f"{BASE}/tokens", operation_id="make_token", tags=["tokens"], status_code=201)
    async def make(request: Request, tenant: Tenant, sent: shapes.NewToken) -> shapes.MadeToken:
        """For a session alone: a token makes no tokens."""
        allowed = await desk.calls_as_person(request, tenant)
        token, kept = await make_token(desk.house, allowed, frozenset(sent.scopes), timedelta(days=sent.days))
        return shapes.MadeToken(**_token(kept), token=token)

    @router.delete(
        f"{BASE}/tokens/{{token_id}}", operation_id="remove_token", tags=["tokens"], status_code=204
    )
    async def remove(request: Request, tenant: Tenant, token_id: UUID) -> None:
        """Also where there is none. For a session alone."""
        await remove_token(desk.house, await desk.calls_as_person(request, tenant), token_id)


_Filters = {
    "parameters": [
        {"name": name, "in": "query", "schema": {"type": "string"}, "description": means, "example": example}
        for name, means, example in (
            ("since", "The first moment that is in.", "2026-11-20"),
            ("until", "The first moment that is out.", "2026-11-21T14:30:00+01:00"),
            ("repository", "Its id, or OWNER/NAME.", "1296269"),
            ("run", "A run's id.", "3f2b6c1e-8a55-4c9b-9d2e-0c7f6a1b2c3d"),
            ("kind", "An action, or the first part of several.", "model"),
            ("actor", "A login, `magicode` or `token:ID`.", "octocat"),
        )
    ]
}

_DOCUMENT: Mapping[str, Any] = {
    "type": "object",
    "required": ["format", "installation_id", "whole", "filter", "entries"],
    "properties": {
        "format": {"type": "string"},
        "installation_id": {"type": "integer"},
        "whole": {"type": "boolean"},
        "filter": {"type": ["object", "null"]},
        "entries": {"type": "array", "items": shapes.DownloadedEntry.model_json_schema()},
    },
}
"""The one form of a downloaded log that is a JSON document."""


def _hooks(router: APIRouter, desk: Desk) -> None:
    house = desk.house

    @router.get(f"{BASE}/hooks", operation_id="list_hooks", tags=["webhooks"])
    async def look(request: Request, tenant: Tenant) -> list[shapes.HookShape]:
        """Oldest first; of an address its host alone. Scope `settings`."""
        await desk.looks.at(await desk.calls(request, tenant, Scope.SETTINGS), "hooks")
        return [_hook(one) for one in await hooks.known_hooks(house.store, house.keys, tenant)]

    @router.post(f"{BASE}/hooks", operation_id="make_hook", tags=["webhooks"], status_code=201)
    async def make(request: Request, tenant: Tenant, sent: shapes.NewHook) -> shapes.MadeHook:
        """At most five. Nothing is sent to it yet. Scope `settings`."""
        allowed = await desk.calls(request, tenant, Scope.SETTINGS)
        made, secret = await make_hook(
            house, allowed, sent.url.get_secret_value(), [one.value for one in sent.events]
        )
        return shapes.MadeHook(**_hook(made).model_dump(), secret=secret)

    @router.delete(
        f"{BASE}/hooks/{{hook_id}}", operation_id="remove_hook", tags=["webhooks"], status_code=204
    )
    async def remove(request: Request, tenant: Tenant, hook_id: UUID) -> None:
        """Also where there is none. What it was not told yet it is not told any more. Scope `settings`."""
        allowed = await desk.calls(request, tenant, Scope.SETTINGS)
        await hooks.remove(
            house.store, house.ledger, installation_id=tenant, by=allowed.actor, hook_id=hook_id
        )

    @router.post(f"{BASE}/hooks/{{hook_id}}/ping", operation_id="ping_hook", tags=["webhooks"])
    async def send_ping(request: Request, tenant: Tenant, hook_id: UUID) -> shapes.SentShape:
        """Sends an event `ping` once, and waits ten seconds at most for what it answers. Scope `settings`."""
        allowed = await desk.calls(request, tenant, Scope.SETTINGS)
        return _sent(await ping(house, tenant, hook_id, allowed.actor))


def _log(router: APIRouter, desk: Desk) -> None:
    house = desk.house

    @router.get(f"{BASE}/actions", operation_id="list_actions", tags=["action log"], openapi_extra=_Filters)
    async def look(
        request: Request,
        tenant: Tenant,
        after: Annotated[int, Query(ge=0, le=LARGEST_ID, description="Go on behind this entry.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST)] = entries.PAGE,
    ) -> shapes.LogPage:
        """Oldest first, without salts: what is to be verified is downloaded. Scope `log`; with `run`, also the session of
        somebody who may write to that run's repository."""
        seen = await desk.calls_for_log(request, tenant, run_of(request))
        await looked(desk, seen, request)
        asked = await entries.read_question(house, tenant, narrowed(seen, request))
        found, more = await entries.some(house, tenant, asked.only, after, limit)
        return shapes.LogPage(
            entries=[shapes.EntryShape(**one.model_dump(exclude={"salt"})) for one in found],
            next=found[-1].seq if more else None,
            head=str(await house.ledger.head(tenant)),
        )

    @router.get(
        f"{BASE}/actions/download",
        operation_id="download_actions",
        tags=["action log"],
        openapi_extra=_Filters,
        response_class=Response,
        responses={
            200: {
                "description": "The log, streamed; `magicode actions verify` takes all forms but text.",
                "content": {
                    kind: {"schema": _DOCUMENT if form is Format.JSON else {"type": "string"}}
                    for form, kind in entries.TYPES.items()
                },
            }
        },
    )
    async def download(request: Request, tenant: Tenant, format: Format = Format.JSONL) -> Response:  # noqa: A002, ARG001 (the parameter's name in the address; read with the others)
        """All of it, or the part that is asked for. Each download is an entry in the log. Scope `log`."""
        seen = await desk.calls_for_log(request, tenant, run_of(request))
        return await downloaded(desk, seen.allowed, narrowed(seen, request))

    @router.post(f"{BASE}/actions/verify", operation_id="verify_actions", tags=["action log"])
    async def verify(request: Request, tenant: Tenant, sent: shapes.Heads) -> shapes.ReportShape:
        """Recomputes the chain on the server; it takes a while for a long one. Scope `log`."""
        await desk.looks.at(await desk.calls(request, tenant, Scope.LOG), "log")
        anchors = entries.read_anchors(" ".join(sent.heads))
        report: Report | None = None
        async for found in entries.verified(house, tenant, anchors):
            report = None if isinstance(found, int) else found
        assert report is not None
        return shapes.ReportShape(**entries.document(report))


def _exports(router: APIRouter, desk: Desk) -> None:
    house = desk.house

    @router.get(f"{BASE}/exports", operation_id="list_exports", tags=["exports"])
    async def look(request: Request, tenant: Tenant) -> list[shapes.ExportShape]:
        """Newest first. Scope `export`."""
        await desk.looks.at(await desk.calls(request, tenant, Scope.EXPORT), "exports")
        return [_export(one) for one in await exports.known(house, tenant)]

    @router.post(f"{BASE}/exports", operation_id="ask_for_export", tags=["exports"], status_code=202)
    async def ask(request: Request, tenant: Tenant) -> shapes.ExportShape:
        """Asks for one; while one is being made, that one is given. Scope `export`."""
        allowed = await desk.calls(request, tenant, Scope.EXPORT)
        asked = await exporting.ask(house, tenant, allowed.actor)
        return _export(await exports.find(house, tenant, asked.id))

    @router.get(f"{BASE}/exports/{{export_id}}", operation_id="get_export", tags=["exports"])
    async def look_at_one(request: Request, tenant: Tenant, export_id: UUID) -> shapes.ExportShape:
        """Scope `export`."""
        await desk.looks.at(await desk.calls(request, tenant, Scope.EXPORT), "exports")
        return _export(await exports.find(house, tenant, export_id))

    @router.get(
        f"{BASE}/exports/{{export_id}}/download",
        operation_id="download_export",
        tags=["exports"],
        response_class=Response,
        responses={
            200: {"description": "The ZIP, streamed.", "content": {"application/zip": {"schema": _BINARY}}}
        },
    )
    async def download(request: Request, tenant: Tenant, export_id: UUID) -> Response:
        """Each download is an entry in the log. Scope `export`."""
        return await exports.fetched(desk, await desk.calls(request, tenant, Scope.EXPORT), export_id)


def _deletion(router: APIRouter, desk: Desk) -> None:
    @router.post(f"{BASE}/deletion", operation_id="delete_all", tags=["deletion"], status_code=202)
    async def delete(request: Request, tenant: Tenant, sent: shapes.Confirmation) -> shapes.ErasureShape:
        """Destroys all that is held, confirmed by the account's login. `receipt_url` needs no token. Scope `delete`."""
        allowed = await desk.calls(request, tenant, Scope.DELETE)
        return _erasure(await deletion.begin(desk.house, allowed, sent.account))

    @router.get("/api/receipts/{tenant}/{erasure_id}", operation_id="get_receipt", tags=["deletion"])
    async def receipt(tenant: Tenant, erasure_id: UUID) -> shapes.ErasureShape:
        """How far a deletion is, and in the end its receipt. Whoever has the address may see it."""
        return _erasure(await deletion.find(desk.house, tenant, erasure_id))


def _installation(one: Installation) -> dict[str, Any]:
    return {
        "id": one.id,
        "account": one.account_login,
        "account_type": one.account_type,
        "suspended": one.suspended,
        "paused_at": one.paused_at,
    }


def _journey(found: Journey) -> shapes.JourneyShape:
    counted = asdict(found.figures)
    return shapes.JourneyShape(
        **facts_of(found.run),
        stations=[
            shapes.StationShape(name=one.name, standing=one.standing.value, at=one.at, seconds=one.seconds)
            for one in found.stations
        ],
        figures=shapes.FiguresShape(
            **{name: counted[name] for name in shapes.FiguresShape.model_fields if name != "models"},
            models=list(found.figures.models),
        ),
    )


def _key(one: KnownKey, why: str = "") -> shapes.KeyShape:
    return shapes.KeyShape(
        provider=one.provider,
        last_four=one.last_four,
        base_url=one.base_url,
        created_by=one.created_by,
        created_at=one.created_at,
        checked_at=one.checked_at,
        why_unchecked=why,
    )


def _token(one: ApiToken) -> dict[str, Any]:
    return {
        "id": one.id,
        "scopes": one.scopes.split(),
        "created_by": one.created_by,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
    }


def _hook(one: KnownHook) -> shapes.HookShape:
    return shapes.HookShape(
        id=one.id,
        host=one.host,
        events=[RunEvent(event) for event in one.events],
        created_by=one.created_by,
        created_at=one.created_at,
        last_at=one.last_at,
        last_status=one.last_status,
    )


def _sent(one: Sent) -> shapes.SentShape:
    return shapes.SentShape(taken=one.taken, status=one.status, why=one.why)


def _export(one: exports.Known) -> shapes.ExportShape:
    return shapes.ExportShape(
        id=one.export.id,
        state=one.state,
        asked_by=one.export.asked_by,
        asked_at=one.export.asked_at,
        made_at=one.export.made_at,
        expires_at=one.export.expires_at,
        size=one.export.size,
        sha256=one.export.sha256,
        percent=one.export.percent,
    )


def _erasure(found: Erasure) -> shapes.ErasureShape:
    return shapes.ErasureShape(
        id=found.id,
        installation_id=found.installation_id,
        asked_at=found.asked_at,
        step=found.step,
        done=found.receipt is not None,
        receipt_url=f"/api{deletion.address(found)}",
        receipt=None if found.receipt is None else json.loads(found.receipt),
    )
