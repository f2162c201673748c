"""The adapter against a GitHub on a real socket, backed by real git."""

from __future__ import annotations

import asyncio
import gzip
import io
import tarfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.errors import (
    AlreadyExistsError,
    DeniedError,
    GoneError,
    InvalidError,
    MissingError,
    TransientError,
)
from app.nouns import TreeChange
from infra.github.app import CONCURRENT, GitHubApp


async def test_the_app_knows_its_name_and_where_it_is_installed(desk: Any) -> None:
    assert await desk.app.app_slug() == "magicode"
    installed = await desk.app.installations()
    assert [(one.id, one.account_login, one.suspended) for one in installed] == [
        (desk.installation, "octo", False)
    ]
    assert await desk.app.installed(desk.installation)
    assert not await desk.app.installed(desk.installation + 1)


async def test_a_reader_is_given_one_repository_whole(desk: Any) -> None:
    async with desk.reader() as reader:
        repository = await reader.repository()
    assert (repository.id, repository.full_name) == (desk.repository_id, "octo/sample")
    assert repository.default_branch == "main"
    assert repository.private
    assert repository.has_issues


async def test_a_renamed_repository_is_found_by_its_id(desk: Any) -> None:
    desk.sim.world.repositories[desk.repository_id].name = "renamed"
    async with desk.reader() as reader:
        assert (await reader.repository()).full_name == "octo/renamed"
        assert (await reader.branch("main")).name == "main"


async def test_a_repository_without_the_app_is_missing(desk: Any) -> None:
    with pytest.raises(MissingError) as missing:
        async with desk.app.reader(desk.installation, 987_654_321):
            pass
    assert missing.value.reason == "repository_missing"


async def test_an_installation_that_is_gone_is_missing(desk: Any) -> None:
    with pytest.raises(MissingError) as missing:
        async with desk.app.reader(987_654_321, desk.repository_id):
            pass
    assert missing.value.reason == "installation_missing"


async def test_the_token_is_revoked_at_the_end_whatever_happens(desk: Any) -> None:
    class BoomError(Exception):
        pass

    with pytest.raises(BoomError):
        async with desk.reader():
            raise BoomError
    assert desk.requests[-1] == ("DELETE", "/installation/token", 204)

    reading = asyncio.Event()

    async def work() -> None:
        async with desk.reader():
            reading.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    async with asyncio.timeout(60):
        await reading.wait()
    desk.requests.clear()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.requests == [("DELETE", "/installation/token", 204)]


async def test_an_issue_and_all_its_comments_are_read(desk: Any) -> None:
    number = await desk.issue()
    desk.sim.world.limits.content_per_minute = 1_000
    for count in range(120):
        await desk.by_hand("POST", f"/issues/{number}/comments", body=f"number {count}")
    async with desk.reader() as reader:
        issue = await reader.issue(number)
        comments = await reader.issue_comments(number)
        one = await reader.issue_comment(comments[5].id)
    assert (issue.title, issue.body, issue.state, issue.is_pull_request) == (
        "Total is wrong",
        "It is.",
        "open",
        False,
    )
    assert issue.author.login == "ada"
    assert [comment.body for comment in comments] == [f"number {count}" for count in range(120)]
    assert one == comments[5]


async def test_permissions_are_githubs_own_answer(desk: Any) -> None:
    async with desk.reader() as reader:
        assert await reader.permission("ada") == "admin"
        assert await reader.permission("wim") == "write"
        assert await reader.permission("rita") == "read"
        assert await reader.permission("nobody-at-all") == "none"


async def test_a_permission_is_of_the_account_that_asked_and_not_of_its_name(desk: Any) -> None:
    wim = desk.sim.account("wim").id
    async with desk.reader() as reader:
        assert await reader.permission("wim", wim) == "write"
        assert await reader.permission("wim", wim + 1) == "none"


async def test_a_commits_tree_and_blobs_are_read_exactly(desk: Any) -> None:
    async with desk.reader() as reader:
        head = await reader.branch("main")
        commit = await reader.commit(head.sha)
        tree = await reader.tree(head.sha)
        found = {entry.path: entry for entry in tree.entries}
        assert tree.sha == commit.tree_sha
        assert {path: entry.mode for path, entry in found.items()} == {
            "README.md": "100644",
            "link": "120000",
            "run.sh": "100755",
            "src/deep/er/note.txt": "100644",
            "src/total.py": "100644",
        }
        assert await reader.blob(found["src/deep/er/note.txt"].sha) == b"caf\xe9 \xff\n"
    assert commit.message.strip() == "First"
    assert not head.protected


async def test_an_archive_is_streamed(desk: Any) -> None:
    async with desk.reader() as reader:
        head = await reader.branch("main")
        content = b"".join([chunk async for chunk in reader.archive(head.sha)])
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as tar:
        names = {member.name.partition("/")[2] for member in tar.getmembers() if member.isfile()}
    assert names == {"README.md", "run.sh", "src/total.py", "src/deep/er/note.txt"}


async def test_what_is_not_there_is_missing(desk: Any) -> None:
    async with desk.reader() as reader:
        for ask in (
            reader.branch("nowhere"), reader.issue(999), reader.issue_comment(1), reader.pull_request(999),
            reader.commit("0" * 40), reader.blob("0" * 40),
        ):  # fmt: skip
            with pytest.raises(MissingError):
                await ask


async def test_rules_answer_for_a_branch_that_does_not_exist_yet(desk: Any) -> None:
    await desk.by_hand(
        "POST", "/rulesets", name="ours", target="branch", enforcement="active",
        conditions={"ref_name": {"include": ["refs/heads/magicode/**/*"], "exclude": []}},
        rules=[{"type": "creation"}, {"type": "commit_message_pattern", "parameters": {"operator": "starts_with", "pattern": "x"}}],
    )  # fmt: skip
    async with desk.reader() as reader:
        rules = {rule.type: rule.parameters for rule in await reader.rules("magicode/issue-1")}
        assert await reader.rules("main") == []
    assert rules["creation"] == {}
    assert rules["commit_message_pattern"]["pattern"] == "x"


async def _commit(reader: Any, writer: Any, message: str = "Change") -> Any:
    base = await reader.commit((await reader.branch("main")).sha)
    blob = await writer.create_blob(b"\x00\xff new\n")
    tree = await writer.create_tree(
        base.tree_sha, [TreeChange("src/new.bin", "100755", blob), TreeChange("README.md", "100644", None)]
    )
    return await writer.create_commit(message, tree, [base.sha])


async def test_a_change_is_written_exactly(desk: Any) -> None:
    async with desk.reader() as reader, desk.writer() as writer:
        commit = await _commit(reader, writer)
        await writer.create_ref("magicode/issue-1", commit.sha)
        with pytest.raises(AlreadyExistsError):
            await writer.create_ref("magicode/issue-1", commit.sha)
        tree = {entry.path: entry for entry in (await reader.tree(commit.sha)).entries}
        assert (await reader.branch("magicode/issue-1")).sha == commit.sha
        assert tree["src/new.bin"].mode == "100755"
        assert await reader.blob(tree["src/new.bin"].sha) == b"\x00\xff new\n"
        assert "README.md" not in tree
        seen = await reader.commit(commit.sha)
    assert seen.verified == commit.verified
    assert seen.author_login in (None, "magicode[bot]")


async def test_a_branch_moves_forward_only(desk: Any) -> None:
    async with desk.reader() as reader, desk.writer() as writer:
        first = await _commit(reader, writer, "one")
        await writer.create_ref("magicode/issue-1", first.sha)
        next_ = await writer.create_commit("two", first.tree_sha, [first.sha])
        await writer.update_ref("magicode/issue-1", next_.sha)
        aside = await _commit(reader, writer, "aside")
        with pytest.raises(InvalidError) as refused:
            await writer.update_ref("magicode/issue-1", aside.sha)
        assert refused.value.reason == "not_fast_forward"
        with pytest.raises((MissingError, InvalidError)):
            await writer.update_ref("magicode/issue-9", aside.sha)


async def test_a_branch_is_removed_once(desk: Any) -> None:
    async with desk.reader() as reader, desk.writer() as writer:
        await writer.create_ref("magicode/issue-1", (await _commit(reader, writer, "one")).sha)
        await writer.delete_ref("magicode/issue-1")
        with pytest.raises(MissingError):
            await reader.branch("magicode/issue-1")
        with pytest.raises((MissingError, InvalidError)) as gone:
            await writer.delete_ref("magicode/issue-1")
        assert gone.value.reason == "missing"


async def test_a_pull_request_goes_from_draft_to_ready(desk: Any) -> None:
    async with desk.reader() as reader, desk.writer() as writer:
        commit = await _commit(reader, writer)
        await writer.create_ref("magicode/issue-1", commit.sha)
        asked = {"title": "T", "body": "B", "head": "magicode/issue-1", "base": "main", "draft": True}
        pull = await writer.create_pull_request(**asked)
        assert (pull.draft, pull.state, pull.merged, pull.head_sha) == (True, "open", False, commit.sha)
        assert pull.head_repository_id == desk.repository_id
        with pytest.raises(AlreadyExistsError):
            await writer.create_pull_request(**asked)
        await writer.mark_ready(pull)
        updated = await writer.update_pull_request(pull.number, body="C")
        assert (updated.draft, updated.title, updated.body) == (False, "T", "C")
        assert await reader.pull_requests(head_branch="magicode/issue-1") == [
            await reader.pull_request(pull.number)
        ]
        assert await reader.pull_requests(head_branch="magicode/issue-1", state="closed") == []
        assert await reader.pull_requests(head_branch="other") == []
        assert (await reader.issue(pull.number)).is_pull_request
        await desk.by_hand("PATCH", f"/pulls/{pull.number}", state="closed")
        (closed,) = await reader.pull_requests(head_branch="magicode/issue-1")
        assert (closed.state, closed.merged) == ("closed", False)


async def test_a_pull_request_without_commits_is_refused(desk: Any) -> None:
    async with desk.reader() as reader, desk.writer() as writer:
        await writer.create_ref("magicode/issue-1", (await reader.branch("main")).sha)
        with pytest.raises(InvalidError) as refused:
            await writer.create_pull_request(
                title="T", body="", head="magicode/issue-1", base="main", draft=True
            )
    assert refused.value.reason == "no_commits"


async def test_checks_and_statuses_are_counted_together(desk: Any) -> None:
    async with desk.reader() as reader:
        sha = (await reader.branch("main")).sha
        assert (await reader.checks(sha)).total == 0
        await desk.by_hand("POST", f"/statuses/{sha}", state="pending", context="slow")
        await desk.by_hand("POST", f"/statuses/{sha}", state="failure", context="red")
        await desk.by_hand("POST", f"/statuses/{sha}", state="success", context="green")
        checks = await reader.checks(sha)
    assert (checks.pending, checks.failed, checks.passed) == (1, 1, 1)


async def test_comments_and_reactions_are_written(desk: Any) -> None:
    number = await desk.issue()
    async with desk.reader() as reader, desk.writer(issues="write") as writer:
        made = await writer.create_comment(number, "one")
        assert made.author.login == "magicode[bot]"
        assert made.author.type == "Bot"
        changed = await writer.update_comment(made.id, "two")
        assert (changed.id, changed.body) == (made.id, "two")
        for _ in range(2):
            await writer.react("eyes", comment_id=made.id, number=number)
            await writer.react("eyes", comment_id=None, number=number)
        assert [comment.body for comment in await reader.issue_comments(number)] == ["two"]
    found = await desk.by_hand("GET", f"/issues/comments/{made.id}/reactions")
    assert [one["content"] for one in found] == ["eyes"]


async def test_a_token_can_do_only_what_it_was_narrowed_to(desk: Any) -> None:
    number = await desk.issue()
    async with desk.writer(issues="write") as writer:
        with pytest.raises(DeniedError) as refused:
            await writer.create_blob(b"x")
        assert refused.value.reason == "permission_not_granted"
        assert (await writer.create_comment(number, "may")).body == "may"


async def test_an_archived_repository_is_not_written_to(desk: Any) -> None:
    number = await desk.issue()
    await desk.by_hand("PATCH", "", archived=True)
    async with desk.reader() as reader, desk.writer() as writer:
        assert (await reader.repository()).archived
        with pytest.raises(DeniedError) as refused:
            await writer.create_comment(number, "x")
    assert refused.value.reason == "archived"


async def test_issues_that_are_switched_off_are_gone(desk: Any) -> None:
    number = await desk.issue()
    await desk.by_hand("PATCH", "", has_issues=False)
    async with desk.reader() as reader:
        with pytest.raises(GoneError) as gone:
            await reader.issue(number)
    assert gone.value.reason == "no_issues"


async def test_another_apps_key_is_refused(desk: Any) -> None:
    from infra.simulator.auth import new_private_key

    stranger = GitHubApp(
        app_id=desk.sim.world.app.id, private_key=new_private_key(), api_url=desk.sim.base_url
    )
    with pytest.raises(TransientError) as refused:
        await stranger.app_slug()
    assert refused.value.reason == "token_refused"
    await stranger.aclose()


async def test_a_token_revoked_from_outside_is_minted_again(desk: Any) -> None:
    async with desk.reader() as reader:
        await reader.repository()
        desk.sim.world.tokens.clear()
        desk.requests.clear()
        assert (await reader.branch("main")).name == "main"
    assert sum(route.endswith("/access_tokens") for _, route, _ in desk.requests) == 1


async def test_a_truncated_tree_is_walked_folder_by_folder(desk: Any) -> None:
    async with desk.reader() as reader:
        head = await reader.branch("main")
        whole = await reader.tree(head.sha)
        desk.sim.world.truncate_trees_over = 4
        desk.requests.clear()
        walked = await reader.tree(head.sha)
    assert set(walked.entries) == set(whole.entries)
    assert sum(route.endswith("/git/trees/{tree_sha}") for _, route, _ in desk.requests) > 2


async def test_a_read_is_tried_again_and_a_write_is_not(desk: Any) -> None:
    number = await desk.issue()
    async with desk.reader() as reader, desk.writer() as writer:
        await reader.repository()
        await writer.create_comment(number, "first")
        desk.requests.clear()
        desk.fault(kind="status", status=502, times=3)
        assert (await reader.issue(number)).number == number
        assert [status for _, _, status in desk.requests] == [502, 502, 502, 200]
        desk.requests.clear()
        desk.fault(kind="status", status=502, method="POST")
        with pytest.raises(TransientError) as away:
            await writer.create_comment(number, "second")
        assert away.value.reason == "github_unavailable"
        assert [status for _, _, status in desk.requests] == [502]
        assert len(await reader.issue_comments(number)) == 1


async def test_a_read_that_fails_too_often_is_transient(desk: Any) -> None:
    async with desk.reader() as reader:
        await reader.repository()
        desk.fault(kind="status", status=503, times=4)
        with pytest.raises(TransientError):
            await reader.branch("main")
        assert (await reader.branch("main")).name == "main"


@pytest.mark.parametrize(("kind", "written"), [("drop_before", 0), ("drop_after", 1)])
async def test_a_dropped_connection_leaves_the_write_to_be_looked_for(
    desk: Any, kind: str, written: int
) -> None:
    number = await desk.issue()
    async with desk.reader() as reader, desk.writer() as writer:
        await writer.create_comment(number, "first")
        desk.fault(kind=kind, method="POST", route="/comments")
        with pytest.raises(TransientError) as away:
            await writer.create_comment(number, "second")
        assert away.value.reason == "network"
        assert len(await reader.issue_comments(number)) == 1 + written


async def test_a_secondary_limit_says_how_long_to_wait(desk: Any) -> None:
    number = await desk.issue()
    async with desk.writer(issues="write") as writer:
        desk.fault(kind="secondary_limit", seconds=60, route="/comments")
        with pytest.raises(TransientError) as limited:
            await writer.create_comment(number, "x")
    assert limited.value.reason == "rate_limited"
    assert limited.value.retry_after == timedelta(seconds=60)


async def test_a_long_limit_is_not_waited_out_in_place(desk: Any) -> None:
    number = await desk.issue()
    async with desk.reader() as reader:
        await reader.repository()
        desk.requests.clear()
        desk.fault(kind="secondary_limit", seconds=600)
        with pytest.raises(TransientError):
            await reader.issue(number)
        assert len(desk.requests) == 1


async def missed(desk: Any, count: int) -> None:
    """So many deliveries that reached nobody; people may not make as many issues in a minute."""
    await desk.issue()
    await desk.sim.world.settled()
    world = desk.sim.world
    first = world.deliveries[0]
    world.deliveries += [replace(first, id=world.next_id(), guid=str(uuid4())) for _ in range(count - 1)]


async def test_every_attempt_to_reach_us_is_listed_newest_first_over_all_pages(desk: Any) -> None:
    start = datetime.now(UTC) - timedelta(minutes=1)
    await missed(desk, 120)
    found = await desk.app.deliveries(start)
    assert len(found) >= 120
    assert [one.id for one in found] == sorted((one.id for one in found), reverse=True)
    assert {one.event for one in found} == {"issues"}
    assert not any(one.acknowledged or one.redelivery for one in found)
    assert len({one.guid for one in found}) == len(found)


async def test_the_list_of_attempts_is_read_no_further_back_than_asked(desk: Any) -> None:
    await missed(desk, 105)
    newest = desk.sim.world.deliveries[-1]
    for one in desk.sim.world.deliveries[:-1]:
        one.delivered_at -= timedelta(hours=1)
    desk.requests.clear()
    found = await desk.app.deliveries(datetime.now(UTC) - timedelta(minutes=10))
    assert [one.guid for one in found] == [newest.guid]
    assert [route for _, route, _ in desk.requests] == ["/app/hook/deliveries"]


async def test_another_attempt_has_the_same_guid(desk: Any) -> None:
    await desk.issue()
    await desk.sim.world.settled()
    since = datetime.now(UTC) - timedelta(minutes=1)
    (first,) = await desk.app.deliveries(since)
    await desk.app.redeliver(first.id)
    await desk.sim.world.settled()
    again, same = await desk.app.deliveries(since)
    assert same == first
    assert (again.guid, again.redelivery) == (first.guid, True)
    with pytest.raises(MissingError):
        await desk.app.redeliver(first.id + 10_000)


async def test_many_tokens_that_are_refused_at_once_do_not_wait_for_each_other(desk: Any) -> None:
    number = await desk.issue()
    async with desk.reader() as reader:
        await reader.repository()
        for token in [one for one in desk.sim.world.tokens.values() if one.installation_id]:
            del desk.sim.world.tokens[token.value]
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(reader.issue(number) for _ in range(3 * CONCURRENT)))
    assert {one.number for one in found} == {number}
