"""The client that the service uses reads every answer of the simulator, and it validates strictly."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from githubkit import AppAuthStrategy, GitHub, TokenAuthStrategy
from githubkit.exception import RequestFailed

from infra.simulator.serve import Running


@asynccontextmanager
async def as_app(sim: Running) -> AsyncIterator[GitHub[AppAuthStrategy]]:
    auth = AppAuthStrategy(sim.world.app.id, sim.world.app.private_key_pem)
    async with GitHub(auth, base_url=sim.base_url, trust_env=False) as client:
        yield client


async def test_githubkit_reads_the_app_its_installations_and_a_token(sim: Running) -> None:
    async with as_app(sim) as client:
        rest = client.rest
        app = (await rest.apps.async_get_authenticated()).parsed_data
        assert app is not None
        assert app.slug == "magicode"
        assert [one.id for one in (await rest.apps.async_list_installations()).parsed_data] == [
            sim.installation_id
        ]
        assert (await rest.apps.async_get_installation(sim.installation_id)).parsed_data.app_id == app.id
        assert (
            await rest.apps.async_get_repo_installation("octo", "sample")
        ).parsed_data.id == sim.installation_id
        token = (await rest.apps.async_create_installation_access_token(sim.installation_id)).parsed_data
        assert token.permissions is not None
        assert (await rest.apps.async_list_webhook_deliveries()).parsed_data == []
        assert (await rest.apps.async_get_webhook_config_for_app()).parsed_data.content_type == "json"


async def test_githubkit_reads_and_writes_git(sim: Running) -> None:
    async with as_app(sim) as app:
        minted = await app.rest.apps.async_create_installation_access_token(sim.installation_id)
    token = TokenAuthStrategy(minted.parsed_data.token)
    async with GitHub(token, base_url=sim.base_url, trust_env=False) as client:
        rest, git = client.rest, client.rest.git
        at = ("octo", "sample")
        assert (await rest.repos.async_get(*at)).parsed_data.default_branch == "main"
        assert (await rest.apps.async_list_repos_accessible_to_installation()).parsed_data.total_count == 2
        branch = (await rest.repos.async_get_branch(*at, "main")).parsed_data
        tree = (await git.async_get_tree(*at, branch.commit.sha, recursive="1")).parsed_data
        assert {row.path for row in tree.tree} >= {"README.md", "src/code.py"}
        content = base64.b64encode(b"new").decode()
        blob = (await git.async_create_blob(*at, content=content, encoding="base64")).parsed_data
        rows = [{"path": "new.txt", "mode": "100644", "type": "blob", "sha": blob.sha}]
        made = (await git.async_create_tree(*at, base_tree=tree.sha, tree=rows)).parsed_data  # type: ignore[arg-type]
        sent = {"message": "New", "tree": made.sha, "parents": [branch.commit.sha]}
        commit = (await git.async_create_commit(*at, data=sent)).parsed_data  # type: ignore[arg-type]
        assert commit.verification.verified
        await git.async_create_ref(*at, ref="refs/heads/work", sha=commit.sha)
        with pytest.raises(RequestFailed) as refused:
            await git.async_create_ref(*at, ref="refs/heads/work", sha=commit.sha)
        assert refused.value.response.status_code == 422
        told = (await rest.repos.async_compare_commits(*at, "main...work")).parsed_data
        assert told.ahead_by == 1
        assert (await rest.repos.async_get_commit(*at, "work")).parsed_data.sha == commit.sha
        assert (await rest.repos.async_get_branch_rules(*at, "work")).parsed_data == []
        permission = (await rest.repos.async_get_collaborator_permission_level(*at, "rita")).parsed_data
        assert permission.permission == "read"
        await rest.apps.async_revoke_installation_access_token()


async def test_githubkit_reads_rules_and_protection(sim: Running) -> None:
    async with GitHub(TokenAuthStrategy(sim.tokens["ada"]), base_url=sim.base_url, trust_env=False) as client:
        repos, at = client.rest.repos, ("octo", "sample")
        await repos.async_create_repo_ruleset(
            *at,
            data={
                "name": "all",
                "enforcement": "active",
                "conditions": {"ref_name": {"include": ["~ALL"], "exclude": []}},
                "rules": [
                    {"type": "deletion"},
                    {"type": "commit_message_pattern", "parameters": {"operator": "regex", "pattern": "."}},
                ],
            },
        )
        rules = (await repos.async_get_branch_rules(*at, "none-yet")).parsed_data
        assert [rule.type for rule in rules] == ["deletion", "commit_message_pattern"]
        assert len((await repos.async_get_repo_rulesets(*at)).parsed_data) == 1
        await repos.async_update_branch_protection(
            *at,
            "main",
            data={
                "required_status_checks": {"strict": True, "contexts": ["ci"]},
                "enforce_admins": True,
                "required_pull_request_reviews": {"required_approving_review_count": 1},
                "restrictions": {"users": ["ada"], "teams": [], "apps": ["magicode"]},
            },
        )
        told = (await repos.async_get_branch_protection(*at, "main")).parsed_data
        assert told.required_status_checks
        assert (await repos.async_get_branch(*at, "main")).parsed_data.protected
