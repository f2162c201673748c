"""Who calls, and what they may: JWTs, installation tokens, users' roles."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest

from infra.simulator.auth import new_private_key
from infra.simulator.serve import Running

SAMPLE = "/repos/octo/sample"
TOKENS = "/app/installations/{}/access_tokens"


def refused(answer: httpx.Response, status: int, message: str) -> None:
    assert (answer.status_code, answer.json()["message"]) == (status, message)


async def mint(sim: Running, **asked: Any) -> httpx.Response:
    return await sim.app_client().post(TOKENS.format(sim.installation_id), json=asked)


# --- the App's own token ---------------------------------------------------------------------------------------------


async def test_the_app_is_known_by_its_id_and_by_its_client_id(sim: Running) -> None:
    for issuer in (str(sim.world.app.id), sim.world.app.client_id):
        answer = await sim.client(token=sim.app_jwt(iss=issuer)).get("/app")
        assert answer.status_code == 200
        assert answer.json()["slug"] == "magicode"


@pytest.mark.parametrize(
    ("claims", "status", "message"),
    [
        (
            {"exp": 0},
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        ),
        (
            {"exp": "later"},
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        ),
        ({"exp": 700}, 401, "'Expiration time' claim ('exp') is too far in the future"),
        (
            {"iat": 300},
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        ),
        (
            {"iat": None},
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        ),
        ({"iss": None}, 401, "Missing 'issuer' claim ('iss') in assertion"),
        ({"iss": "999"}, 404, "Integration not found"),
    ],
)
async def test_a_jwt_with_a_wrong_claim_is_refused(
    sim: Running, claims: dict[str, Any], status: int, message: str
) -> None:
    now = int(sim.world.now().timestamp())
    moved = {k: v + now if k in ("exp", "iat") and isinstance(v, int) and v else v for k, v in claims.items()}
    said: dict[str, Any] = {"iat": now - 30, "exp": now + 500, "iss": str(sim.world.app.id), **moved}
    token = jwt.encode(
        {k: v for k, v in said.items() if v is not None}, sim.world.app.private_key_pem, "RS256"
    )
    refused(await sim.client(token=token).get("/app"), status, message)


async def test_a_jwt_signed_with_another_key_or_algorithm_is_refused(sim: Running) -> None:
    now = int(sim.world.now().timestamp())
    claims = {"iat": now - 30, "exp": now + 500, "iss": str(sim.world.app.id)}
    forged = [
        jwt.encode(claims, new_private_key(), "RS256"),
        jwt.encode(claims, "x" * 40, "HS256"),
        jwt.encode(claims, None, "none"),
    ]
    for token in forged:
        refused(await sim.client(token=token).get("/app"), 401, "A JSON web token could not be decoded")


async def test_only_the_apps_jwt_opens_the_apps_routes(sim: Running) -> None:
    clients = [sim.client(None), sim.client("ada"), await sim.installation_client()]
    for client in clients:
        for path in ("/app", "/app/installations", "/app/hook/deliveries"):
            refused(await client.get(path), 401, "A JSON web token could not be decoded")


async def test_the_apps_jwt_does_not_open_a_repository(sim: Running) -> None:
    refused(await sim.app_client().get(SAMPLE), 404, "Not Found")


async def test_the_apps_installations_are_told(sim: Running) -> None:
    client = sim.app_client()
    listed = (await client.get("/app/installations")).json()
    assert [one["id"] for one in listed] == [sim.installation_id]
    one = (await client.get(f"{SAMPLE}/installation")).json()
    assert (one["id"], one["account"]["login"]) == (sim.installation_id, "octo")
    assert (await client.get("/orgs/octo/installation")).json()["id"] == sim.installation_id
    assert (await client.get("/users/octo/installation")).status_code == 404
    assert (await client.get("/app/installations/1")).status_code == 404


# --- installation tokens ---------------------------------------------------------------------------------------------


async def test_an_installation_token_is_long_and_ends_after_an_hour(sim: Running) -> None:
    answer = (await mint(sim)).json()
    assert answer["token"].startswith("ghs_")
    assert 450 < len(answer["token"]) < 600
    client = sim.client(token=answer["token"])
    assert (await client.get(SAMPLE)).status_code == 200
    sim.world.clock_offset += timedelta(minutes=59)
    assert (await client.get(SAMPLE)).status_code == 200
    sim.world.clock_offset += timedelta(minutes=2)
    refused(await client.get(SAMPLE), 401, "Bad credentials")


async def test_a_token_reaches_only_the_repositories_it_was_narrowed_to(sim: Running) -> None:
    second = sim.world.repository("octo/second")
    assert second is not None
    client = await sim.installation_client(repository_ids=[second.id])
    assert (await client.get("/repos/octo/second")).status_code == 200
    refused(await client.get(SAMPLE), 404, "Not Found")
    listed = (await client.get("/installation/repositories")).json()
    assert [repo["id"] for repo in listed["repositories"]] == [second.id]
    by_name = await mint(sim, repositories=["second"])
    assert [repo["name"] for repo in by_name.json()["repositories"]] == ["second"]


async def test_a_token_does_only_what_it_was_narrowed_to(sim: Running) -> None:
    client = await sim.installation_client({"contents": "read"})
    sha = (await client.get(f"{SAMPLE}/branches/main")).json()["commit"]["sha"]
    answer = await client.post(f"{SAMPLE}/git/refs", json={"ref": "refs/heads/x", "sha": sha})
    refused(answer, 403, "Resource not accessible by integration")
    refused(await client.get(f"{SAMPLE}/issues"), 403, "Resource not accessible by integration")
    only_issues = await sim.installation_client({"issues": "write"})
    refused(
        await only_issues.get(f"{SAMPLE}/contents/README.md"), 403, "Resource not accessible by integration"
    )
    assert (await only_issues.get(SAMPLE)).status_code == 200  # metadata comes with every permission


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"permissions": {"administration": "read"}},
            "The permissions requested are not granted to this installation.",
        ),
        (
            {"permissions": {"checks": "write"}},
            "The permissions requested are not granted to this installation.",
        ),
        (
            {"permissions": {"workflows": "write"}},
            "The permissions requested are not granted to this installation.",
        ),
        (
            {"repository_ids": [1]},
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        ),
        (
            {"repositories": ["nothing"]},
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        ),
    ],
)
async def test_a_token_for_more_than_was_granted_is_not_minted(
    sim: Running, asked: dict[str, Any], message: str
) -> None:
    refused(await mint(sim, **asked), 422, message)


async def test_a_revoked_token_is_none(sim: Running) -> None:
    client = await sim.installation_client()
    assert (await client.delete("/installation/token")).status_code == 204
    refused(await client.get(SAMPLE), 401, "Bad credentials")


async def test_a_suspended_installation_gets_no_token_and_its_tokens_stop(sim: Running) -> None:
    client, app = await sim.installation_client(), sim.app_client()
    path = f"/app/installations/{sim.installation_id}/suspended"
    assert (await app.put(path)).status_code == 204
    refused(await client.get(SAMPLE), 403, "This installation has been suspended")
    refused(await mint(sim), 403, "This installation has been suspended")
    assert (await app.delete(path)).status_code == 204
    assert (await client.get(SAMPLE)).status_code == 200
    await sim.world.settled()
    assert [d.action for d in sim.world.deliveries if d.event == "installation"] == ["suspend", "unsuspend"]


async def test_a_removed_installation_is_gone(sim: Running) -> None:
    client, app = await sim.installation_client(), sim.app_client()
    path = f"/app/installations/{sim.installation_id}"
    assert (await app.delete(path)).status_code == 204
    refused(await client.get(SAMPLE), 401, "Bad credentials")
    refused(await app.get(path), 404, "Not Found")


# --- people ----------------------------------------------------------------------------------------------------------


async def test_people_act_as_themselves_and_apps_have_no_user(sim: Running) -> None:
    assert (await sim.client("wim").get("/user")).json()["login"] == "wim"
    refused(
        await (await sim.installation_client()).get("/user"), 403, "Resource not accessible by integration"
    )
    refused(await sim.client(None).get("/user"), 401, "Requires authentication")
    refused(await sim.client(token="ghp_nothing").get("/user"), 401, "Bad credentials")


async def test_a_reader_cannot_write_and_a_writer_cannot_administer(sim: Running) -> None:
    body = {"message": "m", "content": "YQ=="}
    refused(await sim.client("rita").put(f"{SAMPLE}/contents/n", json=body), 404, "Not Found")
    assert (await sim.client("wim").put(f"{SAMPLE}/contents/n", json=body)).status_code == 201
    denied = await sim.client("wim").post(f"{SAMPLE}/rulesets", json={"name": "x", "enforcement": "active"})
    refused(denied, 403, "Must have admin rights to Repository.")


async def test_a_private_repository_is_hidden_from_strangers_and_a_public_one_is_read_by_all(
    sim: Running,
) -> None:
    refused(await sim.client(None).get(SAMPLE), 404, "Not Found")
    assert (await sim.client().patch(SAMPLE, json={"private": False})).json()["visibility"] == "public"
    assert (await sim.client(None).get(f"{SAMPLE}/contents/README.md")).status_code == 200
    refused(await sim.client(None).put(f"{SAMPLE}/contents/n", json={}), 401, "Requires authentication")


async def test_permission_of_a_collaborator_follows_the_role(sim: Running) -> None:
    client = await sim.installation_client({"metadata": "read"})
    for role, told in (
        ("pull", "read"),
        ("triage", "read"),
        ("push", "write"),
        ("maintain", "write"),
        ("admin", "admin"),
    ):
        await sim.client().put(f"{SAMPLE}/collaborators/newcomer", json={"permission": role})
        answer = (await client.get(f"{SAMPLE}/collaborators/newcomer/permission")).json()
        assert answer["permission"] == told
    await sim.client().delete(f"{SAMPLE}/collaborators/newcomer")
    answer = (await client.get(f"{SAMPLE}/collaborators/newcomer/permission")).json()
    assert answer["permission"] == "none"
    assert (await client.get(f"{SAMPLE}/collaborators/nobody-at-all/permission")).status_code == 404


# --- the state of a repository ---------------------------------------------------------------------------------------


async def test_an_archived_repository_is_read_only(sim: Running) -> None:
    client = await sim.installation_client()
    await sim.client().patch(SAMPLE, json={"archived": True})
    assert (await client.get(f"{SAMPLE}/contents/README.md")).status_code == 200
    answer = await client.put(f"{SAMPLE}/contents/n", json={"message": "m", "content": "YQ=="})
    refused(answer, 403, "Repository was archived so is read-only.")
    assert (await sim.client().patch(SAMPLE, json={"archived": False})).json()["archived"] is False


async def test_a_renamed_repository_redirects_and_is_found_by_its_id(sim: Running) -> None:
    client = await sim.installation_client()
    number = (await sim.client().patch(SAMPLE, json={"name": "renamed"})).json()["id"]
    moved = await client.get(f"{SAMPLE}/branches/main")
    assert moved.status_code == 301
    assert moved.headers["location"] == f"{sim.base_url}/repositories/{number}/branches/main"
    assert (await client.get(moved.headers["location"])).json()["name"] == "main"
    assert (await client.post(f"{SAMPLE}/git/refs", json={})).status_code == 307
    assert (await client.get(f"/api/v3/repositories/{number}")).json()["full_name"] == "octo/renamed"


async def test_a_deleted_repository_is_gone_for_everyone(sim: Running) -> None:
    client = await sim.installation_client()
    assert (await sim.client().delete("/repos/octo/second")).status_code == 204
    refused(await client.get("/repos/octo/second"), 404, "Not Found")


# --- the wire --------------------------------------------------------------------------------------------------------


async def test_broken_json_and_json_that_is_no_object_are_400(sim: Running) -> None:
    client = sim.client()
    refused(await client.post(f"{SAMPLE}/git/refs", content=b"{"), 400, "Problems parsing JSON")
    refused(await client.post(f"{SAMPLE}/git/refs", content=b"[]"), 400, "Body should be a JSON object")
    refused(
        await client.post(f"{SAMPLE}/git/refs", json={"ref": 1}),
        422,
        "Invalid request.\n\nFor 'properties/ref', 1 is not a string.",
    )


async def test_an_unknown_route_or_version_is_refused(sim: Running) -> None:
    client = sim.client()
    refused(await client.get("/nothing/here"), 404, "Not Found")
    assert (await client.get(SAMPLE, headers={"X-GitHub-Api-Version": "1999-01-01"})).status_code == 400
    assert (await client.get(SAMPLE, headers={"User-Agent": ""})).status_code == 403


async def test_an_etag_makes_the_second_reading_free(sim: Running) -> None:
    client = sim.client()
    first = await client.get(SAMPLE)
    again = await client.get(SAMPLE, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["x-ratelimit-used"] == first.headers["x-ratelimit-used"]
    await client.patch(SAMPLE, json={"description": "changed"})
    assert (await client.get(SAMPLE, headers={"If-None-Match": first.headers["etag"]})).status_code == 200


async def test_lists_are_paged_with_links(sim: Running) -> None:
    client = sim.client()
    sha = (await client.get(f"{SAMPLE}/branches/main")).json()["commit"]["sha"]
    for n in range(5):
        await client.post(f"{SAMPLE}/git/refs", json={"ref": f"refs/heads/b{n}", "sha": sha})
    names, url = [], f"{SAMPLE}/branches?per_page=2"
    while url:
        answer = await client.get(url)
        names += [one["name"] for one in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
    assert names == ["b0", "b1", "b2", "b3", "b4", "main"]
    last = await client.get(f"{SAMPLE}/branches?per_page=2&page=3")
    assert set(last.links) == {"first", "prev"}
    many = await client.get(f"{SAMPLE}/branches?per_page=1000")
    assert "link" not in many.headers
