"""What the model returns: paths, files, arguments and loops of a model that wants to do harm, and providers that answer as none
should. Each is asked for on a whole service, and what counts is what stands on GitHub afterwards."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from starlette.responses import Response

from infra.embedded.postgres import EmbeddedPostgres
from infra.models.anthropic import AnthropicModel
from infra.models.playbook import PLAYBOOK_MODEL
from infra.models.retry import Patience
from tests.attacks.alive import comes_alive, unseen
from tests.attacks.plays import Played, Theatre, book, script, theatre
from tests.attacks.provider import answer, call, provider
from tests.claims import case, claim
from tests.line.conversations import create, edit, finish, repo_of, say
from tests.line.seen import act, get, tip

GROUP = "What the model returns"
pytestmark = pytest.mark.asyncio(loop_scope="module")

Call = dict[str, Any]


def tool(name: str, arguments: dict[str, Any]) -> Call:
    return {"tool": name, "arguments": arguments}


def turn(*calls: Call) -> dict[str, Any]:
    return {"calls": list(calls)}


def made(path: str, text: str = "x\n") -> Call:
    return tool("create", {"path": path, "text": text})


def escaped(path: str, text: str = "x\n") -> Call:
    """Half a character goes over no wire but as an escape."""
    return {"tool": "create", "raw": json.dumps({"path": path, "text": text})}


DONE = tool("finish", {"title": "Write it", "summary": "It was missing.", "checked_how": "Read it again."})

# --- paths that no tool takes: all of them in one conversation, each answered as a mistake ---------------------------------

FORMS: dict[str, tuple[str, Call]] = {
    "parent": ("a path above the repository", made("../x")),
    "absolute": ("an absolute path", made("/etc/cron.d/x")),
    "inside": ("a path that leaves the repository further on", made("docs/../../x")),
    "dot": ("a path with a dot for a part", made("./x")),
    "empty": ("a path with an empty part", made("docs//x")),
    "backslash": ("backslashes", made("..\\..\\x")),
    "nul": ("a NUL in a name", made("docs/x\0.md")),
    "escape": ("a terminal's escape in a name", made("docs/\x1b[31m.md")),
    "newline": ("a newline in a name", made("docs/x\ny.md")),
    "surrogate": ("half of a character in a name", escaped("docs/\ud800.md")),
    "unseen": ("an override of direction in a name", made("docs/\u202egpj.md")),
    "long": ("a path of 2,000 characters", made("d/" * 1000 + "x")),
    "folder": ("a file in the place of a folder", made("fairshare")),
    "below": ("a file below a file", made("README.md/x")),
    "link": ("a symbolic link in the place of which a file is to be made", made("linked.md")),
    "through": ("a path through a symbolic link to a folder outside", made("outside/x")),
    "edit-link": ("an edit of a symbolic link", tool("edit", {"path": "linked.md", "old": "a", "new": "b"})),
    "delete-link": ("the deletion of a symbolic link", tool("delete", {"path": "linked.md"})),
    "read-link": ("the reading of a symbolic link out of the repository", tool("read", {"path": "passwd"})),
    "submodule": ("a path inside a submodule", made("sub/x")),
    "submodule-itself": ("the deletion of a submodule", tool("delete", {"path": "sub"})),
    "text-nul": ("a binary file's bytes", made("bin.dat", "a\0b")),
    "text-surrogate": ("half of a character in a file", escaped("half.md", "a\udc00b")),
}  # fmt: skip

# --- arguments that are none --------------------------------------------------------------------------------------------

DEEP = '{"path": ' + "[" * 100_000 + "]" * 100_000 + "}"
ARGUMENTS: dict[str, tuple[str, Call]] = {
    "types": ("numbers, lists and nothing in the place of texts", tool("create", {"path": 7, "text": ["x"]})),
    "missing": ("arguments that are missing", tool("create", {"path": "x.md"})),
    "unknown": ("an argument that nobody asked for", tool("create", {"path": "x.md", "text": "x", "mode": "120000"})),
    "mode": ("a changed mode", tool("edit", {"path": "README.md", "old": "a", "new": "b", "mode": "100755"})),
    "array": ("a list in the place of the arguments", {"tool": "create", "raw": '["x.md", "x"]'}),
    "cut": ("arguments that break off", {"tool": "create", "raw": '{"path": "x.md", "te'}),
    "deep": ("arguments nested 100,000 levels deep", {"tool": "create", "raw": DEEP}),
    "rather-deep": ("arguments nested 700 levels deep", {"tool": "create", "raw": '{"path": ' + "[" * 700 + "]" * 700 + "}"}),
    "large": ("a file of 510,000 characters", made("large.md", "x" * 510_000)),
    "negative": ("a line before the first", tool("read", {"path": "README.md", "start_line": -1})),
    "boolean": ("a truth in the place of a number", tool("search", {"question": "x", "limit": True})),
    "regex": ("an expression that takes for ever elsewhere, with a back-reference", tool("grep", {"pattern": r"(a+)+\1$"})),
    "regex-large": ("an expression that grows without bounds", tool("grep", {"pattern": "((a{999}){999}){999}"})),
    "tool": ("a tool that there is not, with arguments of 100,000 characters", tool("x" * 120, {"a": "b" * 100_000})),
}  # fmt: skip

# --- changes that a guard refuses: a request each --------------------------------------------------------------------------

AWS = "AKIA" + "Z3MDPQ7JX2LKVNTB"
GUARDED: dict[str, tuple[str, list[Call], str]] = {
    "hooks": ("a file in .git, in capitals", [made(".GIT/hooks/post-checkout")], "path_git"),
    "short": (".git by its short name on Windows", [made("git~1/config")], "path_git"),
    "dots": (".git with dots behind it", [made("docs/.git. ./config")], "path_git"),
    "stream": (".git as a stream of NTFS", [made(".git::$INDEX_ALLOCATION/config")], "path_git"),
    "modules": (".gitmodules", [made(".gitmodules", '[submodule "x"]\n')], "path_git"),
    "attributes": (".gitattributes in a folder", [made("docs/.gitattributes")], "path_git"),
    "workflow": ("a workflow, in other capitals", [made(".GitHub/Workflows/x.yml")], "path_git"),
    "rules": ("our own rules", [tool("edit", {"path": ".github/magicode.yml", "old": "false", "new": "true"})], "path_git"),
    "owners": ("CODEOWNERS at the top", [made("CODEOWNERS")], "path_codeowners"),
    "owners-docs": ("CODEOWNERS in docs, in small letters", [made("docs/codeowners")], "path_codeowners"),
    "owners-github": ("CODEOWNERS in .github", [made(".github/CODEOWNERS")], "path_git"),
    "drive": ("a path that begins with a drive", [made("C:x.md")], "path_outside"),
    "trailing": ("a name that Windows reads as the folder above", [made("docs/.. /x")], "path_outside"),
    "collision": ("a name that differs from another in capitals alone", [made("readme.MD")], "path_collision"),
    "filler": ("a name with a letter that nobody sees", [made("docs/\u3164.md")], "path"),
    "key": ("a key", [made("a.py", f"K = '{AWS}'\n")], "secret"),
    "key-split": ("a key as two strings over two lines", [made("a.py", f"K = (\n    '{AWS[:9]}'\n    '{AWS[9:]}'\n)\n")], "secret"),
    "key-base64": ("a key in base64", [made("a.py", f"K = '{base64.b64encode(AWS.encode()).decode()}'\n")], "secret"),
    "key-block": ("a private key", [made("k.pem", "-----BEGIN " + "RSA PRIVATE KEY-----\nx\n")], "secret"),
    "bidi": ("a line that reads otherwise than it runs", [made("a.py", "x = 1 # \u202e } \u2066if admin\n")], "deceptive_characters"),
    "lines": ("a file of 4,000 lines", [made("a.txt", "x\n" * 4_000)], "too_many_lines"),
    "bytes": ("a file of more than a megabyte, in characters of three bytes", [made("a.txt", "あ" * 340_000)], "file_too_large"),
    "wipe": ("the deletion of everything", [tool("delete", {"path": path}) for path in (
        "AGENTS.md", "README.md", "pyproject.toml", "fairshare/__init__.py", "fairshare/ledger.py", "fairshare/settle.py", "fairshare/split.py",
        "tests/__init__.py", "tests/test_ledger.py", "tests/test_split.py",
    )], "deletes_everything"),
}  # fmt: skip

# --- conversations that do not end ----------------------------------------------------------------------------------------

READ = tool("read", {"path": "README.md"})
LIST = tool("list", {})
FOREVER = {"repeat": "forever"}
LOOPS: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "same": ("the same call for ever", [turn(READ) | FOREVER], "stuck"),
    "nowhere": ("a tool that does not exist, for ever", [turn(tool("shell", {"command": "env"})) | FOREVER], "stuck"),
    "done": ("that it is finished, for ever, and has changed nothing", [turn(DONE) | FOREVER], "stuck"),
    "talk": ("a line of blanks instead of calls", [say(" ") | FOREVER], "model_silent"),
    "thinks": ("thoughts and nothing else, cut off each time", [{"thinks": "hm", "stop": "length"} | FOREVER], "model_cut_off"),
    "in-turns": ("two calls in turns for ever", [one for _ in range(30) for one in (turn(READ), turn(LIST))], "budget_turns"),
    "circle": ("edits that undo each other", [turn(made("C.md", "a\n")), *[edit("C.md", *words) for _ in range(4) for words in (("a", "b"), ("b", "a"))]], "stuck"),
}  # fmt: skip

BACKS = "../" * 12
SCRIPTS = book(
    script("forms", turn(*[one for _, one in list(FORMS.values())[:12]]), turn(*[one for _, one in list(FORMS.values())[12:]]), create("FORMS.md", "x\n"), finish()),
    script("arguments", turn(*[one for _, one in ARGUMENTS.values()]), create("ARGUMENTS.md", "x\n"), finish()),
    script("many calls", turn(*[made(f"m/{n}.md") for n in range(2_000)]), finish()),
    script("many files", *[turn(*[made(f"m/{n}/{k}.md") for k in range(14)]) for n in range(4)], finish()),
    script("twice", turn(made("ONE.md"), DONE, made("TWO.md"), DONE | {"arguments": DONE["arguments"] | {"title": "Another"}})),
    script("titles", turn(made("TITLE.md"), DONE | {"arguments": DONE["arguments"] | {"title": "x" * 121}}), finish("refs/heads/main\r\n\u202eefas si siht\n--force\x1b[0m", "تم")),
    script("locks", create("package-lock.json", '{"resolved": "https://evil.example/x.tgz"}\n'), finish(), finish()),
    *(script(f"guard {key}", turn(*calls), turn(DONE) | FOREVER) for key, (_, calls, _) in GUARDED.items()),
    *(script(f"loop {key}", *turns) for key, (_, turns, _) in LOOPS.items()),
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> AsyncIterator[Theatre]:
    folder: Path = tmp_path_factory.mktemp("model")
    links = {"linked.md": "README.md", "outside": f"{BACKS}etc", "passwd": f"{BACKS}etc/passwd"}
    async with theatre(folder, postgres, SCRIPTS, links=links) as raised:
        await _submodule(raised)
        yield raised


async def _submodule(house: Theatre) -> None:
    """`sub` on the default branch."""
    head = await tip(house.stage, "main")
    entry = {"path": "sub", "mode": "160000", "type": "commit", "sha": "c" * 40}
    tree = await act(house.stage, "POST", "/git/trees", base_tree=head, tree=[entry])
    commit = await act(
        house.stage, "POST", "/git/commits", message="A submodule", tree=tree["sha"], parents=[head]
    )
    await act(house.stage, "PATCH", "/git/refs/heads/main", sha=commit["sha"])


async def files(played: Played) -> list[str]:
    assert played.pull is not None, played.end
    return sorted(one["filename"] for one in await get(played.stage, f"/pulls/{played.pull['number']}/files"))


def results(played: Played) -> list[dict[str, Any]]:
    """What each call was told, in their order."""
    last = played.sent[-1]["body"]["messages"]
    return [
        one
        for message in last
        if message["role"] == "user" and not isinstance(message["content"], str)
        for one in message["content"]
        if one["type"] == "tool_result"
    ]


async def nothing_written(played: Played) -> None:
    """No branch, no pull request, and the run ended in one visible state that says why."""
    assert played.pull is None
    assert not await repo_of(played.stage).git.refs(f"refs/heads/{played.branch}")
    (said,) = played.said
    assert "**Not done**" in said
    assert "**Next:**" in said
    assert comes_alive(said, played.number) == []


# --- paths and arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        case(GROUP, f"Paths and files: {what}", "The call is answered as a mistake, and nothing of it is in the pull request that the model opens behind it", key)
        for key, (what, _) in FORMS.items()
    ],
)  # fmt: skip
async def test_paths_that_no_tool_takes(house: Theatre, key: str) -> None:
    played = await house.once("forms")
    told = results(played)[list(FORMS).index(key)]
    assert told.get("is_error") is True, told
    assert await files(played) == ["FORMS.md"]
    assert "root:x:0" not in played.words


@pytest.mark.parametrize(
    "key",
    [
        case(GROUP, f"Arguments: {what}", "The call is answered as a mistake within the same turn, and the work goes on", key)
        for key, (what, _) in ARGUMENTS.items()
    ],
)  # fmt: skip
async def test_arguments_that_are_none(house: Theatre, key: str) -> None:
    played = await house.once("arguments")
    told = results(played)[list(ARGUMENTS).index(key)]
    assert told.get("is_error") is True, told
    assert len(str(told["content"])) < 30_000
    assert await files(played) == ["ARGUMENTS.md"]


@claim(GROUP, "Two thousand calls in one answer", "Sixteen are carried out; each of the others is told so")
async def test_thousands_of_calls(house: Theatre) -> None:
    played = await house.once("many calls")
    assert played.end[0] == "opened"
    assert await files(played) == sorted(f"m/{n}.md" for n in range(16))
    assert sum("at most 16 calls" in str(one["content"]) for one in results(played)) == 1_984


@claim(GROUP, "Fifty-six files, fourteen in an answer", "Refused: too many files; nothing is pushed")
async def test_many_files(house: Theatre) -> None:
    played = await house.once("many files")
    assert played.end == ("refused", "too_many_files")
    await nothing_written(played)


@claim(
    GROUP,
    "More files and a second end behind the first end, in one answer",
    "What stands behind the end is not carried out",
)
async def test_nothing_happens_behind_the_end(house: Theatre) -> None:
    played = await house.once("twice")
    assert await files(played) == ["ONE.md"]
    assert played.pull is not None
    assert played.pull["title"] == "Write it"


@claim(
    GROUP,
    "A title too long, then one that is a branch's name over three lines with an override and an escape",
    "The first is answered as a mistake; of the second one plain line is left",
)
async def test_a_title_is_one_plain_line(house: Theatre) -> None:
    played = await house.once("titles")
    assert played.pull is not None
    assert "\n" not in played.pull["title"]
    assert unseen("".join(played.published)) == []
    assert played.pull["head"]["ref"] == played.branch
    assert played.pull["base"]["ref"] == "main"


@claim(
    GROUP,
    "A lock file that names another host",
    "The pull request says first that no package manager wrote it and that GitHub folds it away",
)
async def test_a_lock_file_is_remarked_on(house: Theatre) -> None:
    played = await house.once("locks")
    assert played.pull is not None
    assert (
        "A lock file written by hand"
        in played.pull["body"].partition("## Left open")[2].partition("\n## ")[0]
    )


# --- guards and loops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        case(GROUP, f"A change that holds {what}", "Refused with the reason; no branch, no pull request", key)
        for key, (what, _, _) in GUARDED.items()
    ],
)  # fmt: skip
async def test_changes_that_a_guard_refuses(house: Theatre, key: str) -> None:
    played = await house.once(f"guard {key}")
    reason = GUARDED[key][2]
    assert played.run.state.value == "refused", played.end
    assert (played.run.reason or "").startswith(reason), played.end
    await nothing_written(played)
    assert AWS not in "".join(played.said)


@pytest.mark.parametrize(
    "key",
    [
        case(GROUP, f"The model returns {what}", "The run is ended and says why, what it cost and what to do", key)
        for key, (what, _, _) in LOOPS.items()
    ],
)  # fmt: skip
async def test_conversations_that_do_not_end(house: Theatre, key: str) -> None:
    played = await house.once(f"loop {key}")
    assert played.end == ("refused", LOOPS[key][2])
    assert len(played.sent) <= 40
    await nothing_written(played)
    assert "Cost: $" in played.said[0]


# --- providers -------------------------------------------------------------------------------------------------------------

NOTE = call("create", {"path": "NOTE.md", "text": "x\n"})
END = call("finish", {"title": "Write it", "summary": "It was missing.", "checked_how": "Read."})
HASTY = Patience(tries=2, total_seconds=5, first_wait_seconds=0.01, longest_wait_seconds=0.02)


def honest(number: int, **how: Any) -> Any:
    return answer(NOTE if number == 0 else END, turn=number, **how)


BROKEN = {
    "page": ("a web page in the place of a stream", lambda _: Response("<html>sorry</html>", media_type="text/html")),
    "unopened": ("a piece of a block that was never begun", lambda _: [*answer()[:1], {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "x"}}, *answer()[1:]]),
    "deep": ("an event nested 100,000 levels deep", lambda _: [*answer()[:1], "[" * 100_000 + "]" * 100_000, *answer()[1:]]),
    "not-json": ("an event that is no JSON", lambda _: [*answer()[:1], '{"type": "content_block_start', *answer()[1:]]),
    "nothing": ("a message that is null", lambda _: [{"type": "message_start", "message": None}, *answer()[1:]]),
    "ids": ("two calls with the same id", lambda n: answer(call("list", {}, identity="same"), call("list", {}, identity="same"), turn=n)),
    "endless": ("an answer that never says that it ended", lambda _: answer(NOTE)[:-1]),
}  # fmt: skip
COUNTED = {
    "none": ("no figures at all", lambda n: honest(n, usage={})),
    "zero": ("zeros", lambda n: honest(n, usage={"input_tokens": 0, "output_tokens": 0})),
    "negative": ("negative figures that would fill the purse", lambda n: honest(n, usage={"input_tokens": -(10**9), "output_tokens": -(10**9)})),
    "cached": ("more cached tokens than there were tokens", lambda n: honest(n, usage={"input_tokens": -(10**5), "cache_read_input_tokens": 10**5 + 5, "output_tokens": 7})),
    "words": ("words in the place of figures", lambda n: honest(n, usage={"input_tokens": "many", "output_tokens": None})),
}  # fmt: skip
BEHAVIOURS = {
    **{f"broken {key}": how for key, (_, how) in BROKEN.items()},
    **{f"counted {key}": how for key, (_, how) in COUNTED.items()},
    "cheaper": lambda n: honest(n, model="claude-haiku-5-5"),
    "astronomical": lambda n: honest(n, usage={"input_tokens": 10**40, "output_tokens": 10**40}),
    "empty": lambda _: answer(),
    "declines": lambda _: answer(text="No.", stop="refusal"),
    "new stop": lambda n: honest(n, stop="a_reason_of_2031"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def liar(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> AsyncIterator[Theatre]:
    """A service whose provider is not honest."""
    folder: Path = tmp_path_factory.mktemp("provider")
    async with provider(BEHAVIOURS) as url:
        model = AnthropicModel(PLAYBOOK_MODEL, "key", url, patience=HASTY)
        async with (
            theatre(
                folder, postgres, book(script("nobody", finish())), model=lambda _: model, working=False
            ) as raised,
            raised.stage.at_work(retry_after=_once),
        ):
            yield raised
        await model.close()


def _once(_error: BaseException, taken: int) -> timedelta | None:
    return timedelta(milliseconds=50) if taken < 1 else None


@pytest.mark.parametrize(
    "key",
    [
        case(GROUP, f"The provider sends {what}", "Asked again, then given up: failed, with a comment that says so; nothing is published", key)
        for key, (what, _) in BROKEN.items()
    ],
)  # fmt: skip
async def test_what_is_no_answer(liar: Theatre, key: str) -> None:
    played = await liar.once(f"broken {key}")
    assert played.end == ("failed", "model_stream_broken")
    assert played.pull is None
    (said,) = played.said
    assert "**Failed**" in said


@pytest.mark.parametrize(
    "key",
    [
        case(GROUP, f"The provider tells {what} for what was used", "Tokens and cost are told from the length of the texts, so that limits hold", key)
        for key, (what, _) in COUNTED.items()
    ],
)  # fmt: skip
async def test_figures_that_cannot_be_true(liar: Theatre, key: str) -> None:
    played = await liar.once(f"counted {key}")
    assert played.end[0] == "opened"
    assert played.run.input_tokens > 1_000
    assert played.run.output_tokens > 10
    assert played.run.cached_tokens <= played.run.input_tokens
    assert played.run.cost_usd > 0


@claim(
    GROUP, "The provider names a cheaper model in its answers than was asked for", "The dearer price counts"
)
async def test_a_cheaper_name_buys_nothing(liar: Theatre) -> None:
    played = await liar.once("cheaper")
    assert played.run.input_tokens == 2_000
    assert played.run.cost_usd == Decimal("0.036"), (
        "twice 1,000 tokens in and 1,000 out at the price of what was asked for"
    )


@claim(
    GROUP,
    "The provider tells of more tokens than fit into a database",
    "The run ends at its limit, and what it cost is on record",
)
async def test_figures_without_bounds(liar: Theatre) -> None:
    played = await liar.once("astronomical")
    assert played.run.state.value == "refused"
    assert (played.run.reason or "").startswith("budget_")
    assert played.run.cost_usd > 1_000


@pytest.mark.parametrize(
    ("key", "end"),
    [
        case(GROUP, "Answers without any content", "Refused: the model said nothing", "empty", ("refused", "model_silent")),
        case(GROUP, "The model declines", "Refused, and said so; no second try", "declines", ("refused", "model_refused")),
        case(GROUP, "A reason for stopping that nobody knows yet", "The calls of the answer are carried out as always", "new stop", ("opened", None)),
    ],
)  # fmt: skip
async def test_answers_of_little_use(liar: Theatre, key: str, end: tuple[str, str | None]) -> None:
    played = await liar.once(key)
    assert played.run.state.value == end[0]
    assert end[1] in (None, played.run.reason)
