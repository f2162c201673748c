"""The tools: what they show, what they refuse, and that they have no other effect than on the draft."""

from __future__ import annotations

import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.agent.draft import Draft
from app.agent.showing import MAX_OUTPUT
from app.agent.tools import Toolbox
from app.nouns import Snippet, ToolCall, ToolResult

FILES = {
    "README.md": b"# Shop\n",
    "src/total.py": b"def total(price):\n    return price\n",
    "src/deep/tax.py": b"RATE = 1\r\nOTHER = 2\r\n",
    "src/latin.py": b"name = 'caf\xe9'\n",
    "logo.png": b"\x89PNG\0",
    "no_end.txt": b"one\ntwo",
    "empty.txt": b"",
    "hidden.py": "a = 1  # \u202egnp\n".encode(),
    "big.txt": b"".join(b"line %d\n" % n for n in range(1, 5001)),
    "wide.js": b"x" * 200_000,
}


class Hand:
    """Calls tools by name over one draft."""

    def __init__(self, kit: Any, search: Any = None, files: Any = None) -> None:
        self.tree = kit.Tree(files or FILES, {"link": "120000", "sub": "160000", "huge.csv": "100644"})
        self.draft = Draft(self.tree)
        self.box = Toolbox(self.tree, self.draft, search or kit.Places())

    async def call(self, name: str, arguments: Any = None, **given: Any) -> ToolResult:
        made = ToolCall("1", name, given if arguments is None else arguments)
        return (await self.box.run([made]))[0]

    async def ok(self, name: str, **given: Any) -> str:
        result = await self.call(name, **given)
        assert not result.is_error, result.text
        return result.text

    async def no(self, name: str, **given: Any) -> str:
        result = await self.call(name, **given)
        assert result.is_error
        return result.text


@pytest.fixture
def hand(kit: Any) -> Hand:
    return Hand(kit)


def test_every_tool_says_what_it_takes_and_takes_nothing_else(hand: Hand) -> None:
    assert [spec.name for spec in hand.box.specs] == [
        "search",
        "grep",
        "list",
        "read",
        "edit",
        "create",
        "delete",
        "finish",
        "answer",
    ]
    for spec in hand.box.specs:
        Draft202012Validator.check_schema(spec.parameters)
        assert spec.description
        assert spec.parameters["additionalProperties"] is False
        assert set(spec.parameters["required"]) <= set(spec.parameters["properties"])  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("reed", {"path": "a"}, "There is no tool `reed`. The tools are search, grep"),
        ("read", {}, "`path`: Field required"),
        ("read", {"path": "README.md", "lines": 3}, "`lines`: Extra inputs are not permitted"),
        ("read", {"path": "README.md", "start_line": "3"}, "`start_line`: Input should be a valid integer"),
        ("read", {"path": "README.md", "start_line": 0}, "greater than or equal to 1"),
        ("read", {"path": 3}, "It takes: path, start_line, end_line"),
    ],
)
async def test_wrong_calls_are_answered_with_what_is_right(
    hand: Hand, name: str, arguments: Any, says: str
) -> None:
    result = await hand.call(name, arguments)
    assert result.is_error
    assert says in result.text


async def test_arguments_that_are_no_json_object_are_answered_so(hand: Hand) -> None:
    (result,) = await hand.box.run([ToolCall("9", "grep", None, '{"pattern')])
    assert result.is_error
    assert "not a JSON object" in result.text
    assert result.call_id == "9"


# --- read ------------------------------------------------------------------------------------------------------------


async def test_lines_are_numbered_and_the_range_is_said(hand: Hand) -> None:
    assert await hand.ok("read", path="src/total.py") == (
        "     1\tdef total(price):\n     2\t    return price\n[`src/total.py` lines 1-2 of 2]"
    )


async def test_a_long_file_is_shown_in_parts_that_join(hand: Hand) -> None:
    first = await hand.ok("read", path="big.txt")
    assert "read with start_line=501" in first
    assert "   501\tline 501\n" in await hand.ok("read", path="big.txt", start_line=501)
    part = await hand.ok("read", path="big.txt", start_line=10, end_line=11)
    assert part == "    10\tline 10\n    11\tline 11\n[`big.txt` lines 10-11 of 5000]"


async def test_a_line_without_end_does_not_fill_the_prompt(hand: Hand) -> None:
    shown = await hand.ok("read", path="wide.js")
    assert "198,000 characters more" in shown
    assert len(shown) < 3_000


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("logo.png", "binary file of 5 bytes"),
        ("link", "symbolic link"),
        ("sub", "submodule"),
        ("huge.csv", "too large"),
        ("src", "is a folder"),
        ("lib/total.py", "Files of that name: `src/total.py`"),
        ("../etc/passwd", "There is no file"),
        ("/etc/passwd", "There is no file"),
    ],
)
async def test_what_cannot_be_read_is_said_to_be_so(hand: Hand, path: str, says: str) -> None:
    assert says in await hand.no("read", path=path)


async def test_peculiarities_of_a_file_are_noted(hand: Hand) -> None:
    assert "CRLF" in await hand.ok("read", path="src/deep/tax.py")
    assert "no newline at the end" in await hand.ok("read", path="no_end.txt")
    assert "not UTF-8" in await hand.ok("read", path="src/latin.py")
    assert "is empty" in await hand.ok("read", path="empty.txt")
    assert "behind its end" in await hand.no("read", path="no_end.txt", start_line=3)
    assert "before `start_line`" in await hand.no("read", path="no_end.txt", start_line=2, end_line=1)


async def test_invisible_characters_of_a_file_are_announced_and_left_exact(hand: Hand) -> None:
    shown = await hand.ok("read", path="hidden.py")
    assert "U+202E RIGHT-TO-LEFT OVERRIDE" in shown
    assert "# \u202egnp" in shown


# --- list, grep, search ----------------------------------------------------------------------------------------------


async def test_a_folder_shows_its_files_and_counts_what_is_below(hand: Hand) -> None:
    assert await hand.ok("list", path="src/") == "src/deep/ (1 files)\nsrc/latin.py\nsrc/total.py"
    assert "src/ (3 files)" in await hand.ok("list")


async def test_a_glob_lists_paths_at_any_depth(hand: Hand) -> None:
    assert await hand.ok("list", glob="src/**/*.py") == "src/deep/tax.py\nsrc/latin.py\nsrc/total.py"
    assert await hand.ok("list", glob="*.zig") == "No file matches."
    assert "not both" in await hand.no("list", path="src", glob="*.py")
    assert "no folder" in await hand.no("list", path="nowhere")


async def test_grep_finds_lines_in_any_encoding_and_line_end(hand: Hand) -> None:
    assert "src/latin.py:1: name = 'café'" in await hand.ok("grep", pattern="café")
    assert "src/deep/tax.py:1: RATE = 1" in await hand.ok("grep", pattern="^RATE = 1$")
    assert "[1 lines in 1 files match.]" in await hand.ok("grep", pattern="(?i)SHOP", glob="*.md")
    assert "No line of" in await hand.ok("grep", pattern="PNG")


async def test_grep_is_capped_and_says_how_much_it_left_out(hand: Hand) -> None:
    shown = await hand.ok("grep", pattern="line")
    assert shown.count("\nbig.txt:") == 39
    assert '[5,000 lines in 1 files match. 4,960 more in big.txt: glob="/big.txt", skip=40.]' in shown


@pytest.mark.parametrize("pattern", ["(", "(?=x)", r"(a)\1", "a" + "{1000}" * 5])
async def test_grep_says_what_is_wrong_with_a_pattern(hand: Hand, pattern: str) -> None:
    assert "RE2 does not accept" in await hand.no("grep", pattern=pattern)


async def test_no_pattern_makes_grep_hang(kit: Any) -> None:
    hand = Hand(kit, files={"a.txt": b"a" * 100_000 + b"!\n"})
    start = time.process_time()
    await hand.ok("grep", pattern="(a|a)*(a+)+(a*)*$")
    assert time.process_time() - start < 3


async def test_search_shows_the_text_of_each_place_and_skips_places_that_are_gone(kit: Any) -> None:
    places = kit.Places([Snippet("gone.py", 1, 2, "f", 0.9), Snippet("src/total.py", 2, 9, "total", 0.8)])
    hand = Hand(kit, places)
    shown = await hand.ok("search", question="where is the total made", limit=5)
    assert 'path="src/total.py" lines="2-2"' in shown
    assert "     2\t    return price" in shown
    assert "gone.py" not in shown
    assert places.asked == [("where is the total made", 5)]
    assert hand.box.looked_at == ("src/total.py",)


# --- edit, create, delete --------------------------------------------------------------------------------------------


async def test_an_edit_shows_the_lines_around_it(hand: Hand) -> None:
    shown = await hand.ok("edit", path="src/total.py", old="return price", new="return price * 2")
    assert "     2\t    return price * 2" in shown
    assert hand.tree.read("src/total.py") == FILES["src/total.py"]


async def test_a_created_file_can_be_read_listed_found_edited_and_deleted(hand: Hand) -> None:
    await hand.ok("create", path="src/new.py", text="needle = 1\n")
    assert "src/new.py:1:" in await hand.ok("grep", pattern="needle")
    assert "src/new.py" in await hand.ok("list", path="src")
    await hand.ok("edit", path="src/new.py", old="1", new="2")
    assert hand.draft.edits()[0].after == b"needle = 2\n"
    await hand.ok("delete", path="src/new.py")
    assert hand.draft.edits() == ()


async def test_a_deleted_file_is_gone_for_every_tool_and_can_be_made_anew(hand: Hand) -> None:
    await hand.ok("delete", path="README.md")
    assert "was deleted" in await hand.no("read", path="README.md")
    assert "README.md" not in await hand.ok("list")
    await hand.ok("create", path="README.md", text="# New\n")
    (edit,) = hand.draft.edits()
    assert (edit.before, edit.after) == (b"# Shop\n", b"# New\n")


async def test_an_executable_keeps_its_mode(kit: Any) -> None:
    tree = kit.Tree({"run.sh": b"ls\n"}, executable=["run.sh"])
    draft = Draft(tree)
    draft.write("run.sh", b"ls -l\n")
    assert draft.edits()[0].mode == "100755"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("README.md", "exists already"),
        ("src", "is a folder"),
        ("README.md/x", "is not a folder"),
        ("link", "symbolic link"),
        ("huge.csv", "too large"),
        ("link/x", "is not a folder"),
        ("sub/x", "is not a folder"),
        ("../x", "is not a path"),
        ("/x", "is not a path"),
        ("a\\b", "is not a path"),
        ("a\nb", "is not a path"),
    ],
)
async def test_what_cannot_be_created_is_refused(hand: Hand, path: str, says: str) -> None:
    assert says in await hand.no("create", path=path, text="x")
    assert hand.draft.edits() == ()


@pytest.mark.parametrize("text", ["half \ud83d", "nul \0"])
async def test_text_that_no_text_file_can_hold_is_refused(hand: Hand, text: str) -> None:
    await hand.no("create", path="x.txt", text=text)
    await hand.no("edit", path="README.md", old="Shop", new=text)
    assert hand.draft.edits() == ()


async def test_the_results_of_one_turn_share_a_cap(hand: Hand) -> None:
    calls = [ToolCall(str(n), "read", {"path": "wide.js", "start_line": 1}) for n in range(2)]
    calls += [ToolCall(str(n), "read", {"path": "big.txt", "start_line": n}) for n in range(2, 16)]
    results = await hand.box.run(calls)
    assert [result.call_id for result in results] == [str(n) for n in range(16)]
    assert sum(len(result.text) for result in results) < 100_000
    assert "left out here" in results[-1].text


@pytest.mark.parametrize("words", [{"title": " "}, {"title": "t" * 121}, {"title": ""}])
async def test_a_finish_without_a_usable_title_is_sent_back(hand: Hand, words: Any) -> None:
    await hand.ok("delete", path="README.md")
    assert "`title`" in await hand.no("finish", summary="s", checked_how="c", **words)


async def test_long_output_is_trimmed_in_the_middle(kit: Any) -> None:
    hand = Hand(kit, files={f"f{i}.txt": b"match " + b"y" * 500 + b"\n" for i in range(200)})
    shown = await hand.ok("grep", pattern="match")
    assert len(shown) < MAX_OUTPUT + 200
    assert "characters left out here" in shown
    assert shown.endswith("[200 lines in 200 files match.]")
