"""Each guard of the publisher, and what must and must not pass it."""

from __future__ import annotations

import base64
import random
import string
import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.change import Policy, guards, verify, verify_publication
from app.errors import RefusedError
from app.nouns import FileEdit, Rule
from app.repofile import RepoFile

FILES = {
    "src/a.py": b"x = 1\n",
    "src/b.py": b"y = 1\n",
    "README.md": b"# hi\n",
    "run.sh": b"#!/bin/sh\n",
    "logo.png": b"\x89PNG\0\1",
}
OTHERS = {"link": "120000", "libs/sub": "160000"}


def tree(kit: Any) -> Any:
    return kit.Tree(FILES, OTHERS, executable=["run.sh"])


def reason(kit: Any, *edits: FileEdit, policy: Policy | None = None, where: Any = None) -> str | None:
    try:
        verify(kit.patch(*edits), where or tree(kit), policy or Policy())
    except RefusedError as error:
        return error.reason
    return None


def change(path: str, after: bytes | None, mode: str = "100644") -> FileEdit:
    return FileEdit(path, FILES[path], after, mode)


def test_a_plain_change_passes_and_is_counted(kit: Any) -> None:
    made = verify(kit.patch(change("src/a.py", b"x = 2\nz = 3\n"), kit.new("src/c.py")), tree(kit), Policy())
    assert (made.added_lines, made.removed_lines) == (3, 1)
    assert made.title == "Fix it"
    assert made.spending.turns == 3


GIT_NAMES = [
    ".git/config", ".GIT/config", "a/.Git/hooks/x", "git~1/config", "GIT~1/config", "GI7EBA~1", ".git./config", ".git /config",
    ".git . ./config", ".git::$INDEX_ALLOCATION/config", ".git:stream", ".gi\u200ct/config", "\u200d.git/config", ".g\ufeffit/x",
    ".gi\u0074\u2060/x", "\uff0egit/config", ".\uff47it/config", "\u2024git/config", ".github/workflows/ci.yml", "x/.github/a",
    ".GitHub/dependabot.yml", ".gitmodules", "a/.gitattributes", ".gitignore", ".g\ufe0fit/x", ".git\u0130~".replace("\u0130~", "ignore"),
    ".GIT\u00adHUB/x", " .git/config", ".g\u034fit/config", ".\u017fit".replace("\u017fit", "git") + "/x",
]  # fmt: skip


@pytest.mark.parametrize("path", GIT_NAMES)
def test_nothing_is_written_to_git_or_github_however_it_is_spelled(kit: Any, path: str) -> None:
    assert reason(kit, kit.new(path)) == "path_git"


@pytest.mark.parametrize(
    "path", ["src/git.py", "digit/x", "legit.git.md", "git/readme.md", "src/gi.py", "a.git", "github/x.py"]
)
def test_names_that_only_sound_like_git_pass(kit: Any, path: str) -> None:
    assert reason(kit, kit.new(path)) is None


OUTSIDE = [
    "",
    "/etc/passwd",
    "../x",
    "a/../x",
    "a/../../x",
    "./a",
    "a//b",
    "a/",
    "..\\x",
    "a\\b",
    "C:/x",
    "c:x",
    "a/.. /b",
    "a/.../b",
    "a/ /b",
    "a/. ./b",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_outside_the_tree_is_refused(kit: Any, path: str) -> None:
    assert reason(kit, kit.new(path)) == "path_outside"


@pytest.mark.parametrize(
    "path",
    [
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\x1b[2Kb",
        "a\u2028b",
        "a\ud800b",
        "a\u200bb.py",
        "a\u202egpj.exe",
        "a\U000e0041",
    ],
)
def test_characters_that_nobody_sees_are_refused_in_new_names(kit: Any, path: str) -> None:
    assert reason(kit, kit.new(path)) == "path_characters"


def test_a_file_that_already_has_a_joiner_in_its_name_may_be_changed(kit: Any) -> None:
    where = kit.Tree({"👩\u200d💻.md": b"a\n", "b": b"b\n"})
    assert reason(kit, FileEdit("👩\u200d💻.md", b"a\n", b"c\n"), where=where) is None


@pytest.mark.parametrize(
    "path", ["CODEOWNERS", "docs/CODEOWNERS", "codeowners", "CodeOwners.", "CODE\u200bOWNERS", "codeowners/x"]
)
def test_code_owners_are_not_ours_to_change(kit: Any, path: str) -> None:
    assert reason(kit, kit.new(path)) == "path_codeowners"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("link", "path_link"),
        ("link/x", "path_link"),
        ("libs/sub", "path_submodule"),
        ("libs/sub/x", "path_submodule"),
    ],
)
def test_links_and_submodules_are_neither_changed_nor_entered(kit: Any, path: str, said: str) -> None:
    assert reason(kit, kit.new(path)) == said


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("SRC/c.py", "path_collision"),
        ("src/A.py", "path_collision"),
        ("readme.md", "path_collision"),
        ("src", "path_conflict"),
        ("README.md/x", "path_conflict"),
        ("src/c.py", None),
    ],
)
def test_new_names_do_not_collide_with_those_there_are(kit: Any, path: str, said: str | None) -> None:
    assert reason(kit, kit.new(path)) == said


def test_two_new_names_do_not_collide_with_each_other(kit: Any) -> None:
    assert reason(kit, kit.new("x/é.py"), kit.new("x/e\u0301.py")) == "path_collision"
    assert reason(kit, kit.new("new"), kit.new("new/x")) == "path_conflict"


def test_a_file_may_be_renamed_in_case_alone(kit: Any) -> None:
    assert reason(kit, change("README.md", None), kit.new("readme.md")) is None


def test_a_repository_that_collides_with_itself_may_still_be_changed(kit: Any) -> None:
    where = kit.Tree({"a.py": b"1\n", "A.py": b"2\n"})
    assert reason(kit, FileEdit("a.py", b"1\n", b"3\n"), kit.new("b.py"), where=where) is None


def test_what_the_repository_denies_is_refused_with_the_pattern_and_the_file(kit: Any) -> None:
    policy = Policy(RepoFile(deny=("src/*.py", "*.lock")))
    with pytest.raises(RefusedError, match=r"`src/a.py` is denied by `src/\*.py` in `.github/magicode.yml`"):
        verify(kit.patch(change("src/a.py", b"x = 2\n")), tree(kit), policy)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (FileEdit("src/a.py", b"other\n", b"x\n"), "base_differs"),
        (FileEdit("src/a.py", None, b"x\n"), "base_differs"),
        (FileEdit("src/zz.py", b"x\n", b"y\n"), "base_differs"),
        (FileEdit("src/a.py", b"x = 1\n", b"x = 2\n", "100755"), "mode_changed"),
        (FileEdit("run.sh", b"#!/bin/sh\n", b"#!/bin/sh\nls\n"), "mode_changed"),
        (FileEdit("run.sh", b"#!/bin/sh\n", b"#!/bin/sh\nls\n", "100755"), None),
        (FileEdit("new.sh", None, b"x\n", "100755"), "mode_changed"),
        (FileEdit("new", None, b"/etc/passwd", "120000"), "mode_changed"),
        (FileEdit("logo.png", FILES["logo.png"], b"\x89PNG\0\2"), "binary"),
        (FileEdit("src/a.py", b"x = 1\n", b"x = 1\n" * 2000 + b"\0"), "binary"),
        (FileEdit("logo.png", FILES["logo.png"], None), None),
        (FileEdit("src/a.py", b"x = 1\n", b"x = 1\n"), "nothing_changed"),
    ],
)
def test_an_edit_is_of_the_bytes_mode_and_kind_that_the_tree_has(
    kit: Any, edit: FileEdit, said: str | None
) -> None:
    assert reason(kit, edit) == said


def test_a_file_that_the_workspace_could_not_hold_is_not_overwritten(kit: Any) -> None:
    where = kit.Tree(FILES, {"huge.csv": "100644"})
    assert reason(kit, kit.new("huge.csv"), where=where) == "base_unreadable"


def test_nothing_at_all_and_one_file_twice_are_refused(kit: Any) -> None:
    assert reason(kit) == "nothing_changed"
    assert reason(kit, kit.new("a"), kit.new("a", "y\n")) == "path_twice"


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Policy(max_files=1), "too_many_files"),
        (Policy(RepoFile(max_files=1)), "too_many_files"),
        (Policy(max_file_bytes=9), "file_too_large"),
        (Policy(max_total_bytes=19), "change_too_large"),
        (Policy(max_changed_lines=3), "too_many_lines"),
        (Policy(RepoFile(max_changed_lines=3)), "too_many_lines"),
        (Policy(RepoFile(max_changed_lines=4, max_files=2), max_file_bytes=10, max_total_bytes=20), None),
    ],
)
def test_each_size_is_limited(kit: Any, policy: Policy, said: str | None) -> None:
    two = [kit.new("n/a", "1234\n6789\n"), kit.new("n/b", "1234\n6789\n")]
    assert reason(kit, *two, policy=policy) == said


def test_the_repository_cannot_raise_a_limit() -> None:
    policy = Policy(RepoFile(max_files=900, max_changed_lines=90_000))
    assert (policy.files, policy.changed_lines) == (50, 3_000)


def test_removing_or_emptying_most_of_the_repository_is_refused(kit: Any) -> None:
    gone = [FileEdit(p, d, None, "100755" if p == "run.sh" else "100644") for p, d in FILES.items()]
    assert reason(kit, *gone) == "deletes_everything"
    assert reason(kit, *gone[:3]) == "deletes_everything"
    assert reason(kit, *gone[:2]) is None
    assert (
        reason(kit, *[change(p, b"") for p in ("src/a.py", "src/b.py", "README.md")]) == "deletes_everything"
    )


DICE = random.Random(7)


def rnd(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "a1B2" + "".join(DICE.choice(alphabet) for _ in range(length - 4))


# Each is put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "openssh key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "pgp key": "-----BEGIN " + "PGP PRIVATE KEY BLOCK-----",
    "aws": "AKIA" + "Q3EG7XK2LMNP4RST",
    "github classic": "ghp" + "_" + rnd(36),
    "github installation, old": "ghs" + "_" + rnd(36),
    "github installation, new": "ghs_123456_eyJ" + rnd(40) + "." + "eyJ" + rnd(300) + "." + rnd(120),
    "github oauth": "gho" + "_" + rnd(36),
    "github refresh": "ghr" + "_" + rnd(76),
    "github fine-grained": "github" + "_pat_" + rnd(82),
    "slack": "xox" + "b-1234567890-" + rnd(24),
    "google": "AIza" + rnd(35),
    "stripe": "sk" + "_live_" + rnd(24),
    "anthropic": "sk-" + "ant-api03-" + rnd(90),
    "openai": "sk-" + "proj-" + rnd(60),
    "openai old": "sk-" + rnd(48),
    "jwt": "eyJ" + rnd(20) + ".eyJ" + rnd(40) + "." + rnd(43),
    "assignment": 'api_key = "' + "q8Zr3TnW5yKc1LxV7bHd2MfJ" + '"',
    "json": '"client_secret": "' + "q8Zr3TnW5yKc1LxV7bHd2MfJ" + '"',
    "hexadecimal": "PASSWORD: '" + "9f86d081884c7d659a2feaa0c55ad015" + "'",
    "url": "postgres://admin:" + "q8Zr3TnW5yKc" + "@db.internal:5432/x",
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_an_added_line_is_refused_and_not_repeated(kit: Any, name: str) -> None:
    edit = change("src/a.py", b"x = 1\nvalue = '" + SECRETS[name].encode() + b"'\n")
    with pytest.raises(RefusedError) as caught:
        verify(kit.patch(edit), tree(kit), Policy())
    assert caught.value.reason == "secret"
    assert "`src/a.py`, line 2" in caught.value.message
    assert SECRETS[name] not in caught.value.message


def pieces(name: str) -> dict[str, str]:
    """The same secret as programs hide it."""
    secret = SECRETS[name]
    half = len(secret) // 2
    a, b = secret[:half], secret[half:]
    return {
        "added strings": f"x = '{a}' + '{b}'\n",
        "neighbouring strings": f"x = (\n    '{a}'\n    '{b}'\n)\n",
        "a list": f"x = ''.join(['{a}', '{b}'])\n",
        "a continued line": f"x = '{a}\\\n{b}'\n",
        "base64": f"x = '{base64.b64encode(secret.encode()).decode()}'\n",
        "base64 of base64's other alphabet": f"x = '{base64.urlsafe_b64encode(b'?>' + secret.encode()).decode()}'\n",
        "hexadecimal": f"x = '{secret.encode().hex()}'\n",
        "escapes": "x = '" + "".join(f"\\x{ord(one):02x}" for one in secret) + "'\n",
        "invisible characters": f"x = '{a}\u200b{b}'\n",
    }


@pytest.mark.parametrize("how", sorted(pieces("aws")))
@pytest.mark.parametrize(
    "name", ["aws", "github fine-grained", "github installation, new", "anthropic", "stripe"]
)
def test_a_secret_in_pieces_or_encoded_is_refused(kit: Any, name: str, how: str) -> None:
    assert reason(kit, kit.new("src/c.py", pieces(name)[how])) == "secret"


def test_a_secret_in_pieces_that_the_file_held_already_is_no_news(kit: Any) -> None:
    old = pieces("aws")["added strings"].encode()
    where = kit.Tree({"a.py": old, "b.py": b"1\n"})
    assert reason(kit, FileEdit("a.py", old, b"y = 1\n" + old.replace(b"x =", b"z =")), where=where) is None
    assert reason(kit, FileEdit("b.py", b"1\n", old), where=where) == "secret"


HARMLESS = [
    'api_key = os.environ["API_KEY"]',
    'password = "your-password-goes-here-123"',
    'token = "example-token-1234567890abc"',
    'SECRET_NAME = "projects/shop/secrets/database"',
    'access_token_url = "https://login.invalid/oauth2/v2/token"',
    "AKIAIOSFODNN7EXAMPLE",
    'sha = "da39a3ee5e6b4b0d3255bfef95601890afd80709"',
    "integrity: sha512-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "postgres://user:password@db.invalid/shop",
    "postgres://postgres:Passw0rd-for-tests@localhost:5432/shop",
    "https://${USER}:${PASSWORD}@host.invalid",
    "-----BEGIN PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----",
    "def risk_assessment_for_the_whole_department(): ...",
    'token_description = "How the token is made from the key"',
]


@pytest.mark.parametrize("line", HARMLESS)
def test_what_only_resembles_a_secret_passes(kit: Any, line: str) -> None:
    assert reason(kit, kit.new("src/c.py", line + "\n")) is None


def test_a_secret_that_the_file_held_already_is_no_news(kit: Any) -> None:
    old = f"a = '{SECRETS['aws']}'\n".encode()
    where = kit.Tree({"a.py": old, "b.py": b"1\n"})
    assert reason(kit, FileEdit("a.py", old, b"if True:\n    " + old), where=where) is None
    assert reason(kit, FileEdit("b.py", b"1\n", old), where=where) == "secret"


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\U000e0041"])
def test_characters_that_turn_a_line_round_are_refused_unless_the_file_had_them(
    kit: Any, character: str
) -> None:
    assert reason(kit, kit.new("src/c.py", f"x = 1  # {character}\n")) == "deceptive_characters"
    where = kit.Tree({"a.py": f"{character}\n".encode(), "b.py": b"1\n"})
    edit = FileEdit("a.py", f"{character}\n".encode(), f"{character} more\n".encode())
    assert reason(kit, edit, where=where) is None


def test_emoji_and_other_scripts_may_be_added(kit: Any) -> None:
    assert reason(kit, kit.new("src/c.py", "x = '👩\u200d💻 नमस्ते می\u200cخواهم'\n")) is None


def pattern(kind: str, operator: str, text: str, *, negate: bool = False) -> Rule:
    return Rule(kind, {"operator": operator, "pattern": text, "negate": negate, "name": "house rule"})


def publication(
    branch: str = "magicode/issue-7",
    *,
    message: str = "Fix it",
    protected: bool = False,
    base: str = "main",
    branch_rules: Any = (),
    base_rules: Any = (),
) -> str | None:
    try:
        verify_publication(
            branch=branch, branch_rules=branch_rules, branch_protected=protected, base=base, base_rules=base_rules,
            base_protected=True, commit_message=message,
        )  # fmt: skip
    except RefusedError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "magicode",
        "magicode/",
        "Magicode/issue-7",
        "x/magicode/issue-7",
        "magicode/../main",
        "magicode/a b",
        "magicode/a\nb",
        "magicode/issue-7\n",
    ],
)
def test_only_our_own_branches_are_written(name: str) -> None:
    assert publication(name) == "branch_name"


def test_our_branch_passes_unless_it_is_protected_or_the_base() -> None:
    assert publication() is None
    assert publication("magicode/issue-7-2") is None
    assert publication(protected=True) == "branch_protected"
    assert publication(base="magicode/issue-7") == "branch_name"


@pytest.mark.parametrize(
    ("operator", "text", "fits"),
    [
        ("starts_with", "Fix", True), ("starts_with", "fix", False), ("ends_with", "#7", True), ("ends_with", "7 ", False),
        ("contains", "the total", True), ("contains", "The total", False), ("regex", r"^Fix .*#\d+$", True), ("regex", r"^\w+\(.*\):", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("negate", [False, True])
def test_commit_message_rules_are_obeyed(operator: str, text: str, fits: bool, negate: bool) -> None:
    rule = pattern("commit_message_pattern", operator, text, negate=negate)
    expected = None if fits is not negate else "rule_commit_message_pattern"
    assert publication(message="Fix the total #7", branch_rules=[rule]) == expected
    assert publication(message="Fix the total #7", base_rules=[rule]) == expected


def test_branch_name_rules_hold_for_our_branch_alone() -> None:
    rule = pattern("branch_name_pattern", "starts_with", "feature/")
    assert publication(branch_rules=[rule]) == "rule_branch_name_pattern"
    assert publication(base_rules=[rule]) is None


def test_email_rules_hold_where_the_address_is_known() -> None:
    rule = pattern("commit_author_email_pattern", "ends_with", "@corp.invalid")
    guards.commit_rules("m", [rule])
    with pytest.raises(RefusedError, match=r"@corp\.invalid"):
        guards.commit_rules("m", [rule], author_email="bot@users.noreply.github.com")


@pytest.mark.parametrize(("operator", "text"), [("regex", "("), ("regex", r"(?=x)"), ("sounds_like", "x")])
def test_a_rule_that_cannot_be_read_is_a_refusal_and_not_a_pass(operator: str, text: str) -> None:
    assert publication(branch_rules=[pattern("commit_message_pattern", operator, text)]) == "rule_unreadable"


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("file_path_restriction", {"restricted_file_paths": ["src/**/*.py"]}, "rule_file_path_restriction"),
        ("file_path_restriction", {"restricted_file_paths": ["docs/**"]}, None),
        (
            "file_extension_restriction",
            {"restricted_file_extensions": ["*.PY"]},
            "rule_file_extension_restriction",
        ),
        ("file_extension_restriction", {"restricted_file_extensions": [".jar"]}, None),
        ("max_file_path_length", {"max_file_path_length": 7}, "rule_max_file_path_length"),
        ("max_file_path_length", {"max_file_path_length": 8}, None),
        ("max_file_size", {"max_file_size": 1}, None),
        ("deletion", {}, None),
    ],
)
def test_push_rules_are_obeyed(kit: Any, kind: str, parameters: Any, said: str | None) -> None:
    assert reason(kit, change("src/a.py", b"x = 2\n"), policy=Policy(rules=[Rule(kind, parameters)])) == said


def test_a_cost_limit_of_the_repository_does_not_loosen_anything(kit: Any) -> None:
    assert reason(kit, kit.new(".github/x"), policy=Policy(RepoFile(max_cost_usd=Decimal(9)))) == "path_git"


# --- properties ------------------------------------------------------------------------------------------------------

IGNORED = "\u200b\u200c\u200d\u200e\u202e\u2060\ufeff\u00ad"
DISGUISES = st.lists(st.sampled_from([*IGNORED, ""]), min_size=5, max_size=5)
FOLDERS = st.lists(st.sampled_from(["a", "src", "docs"]), max_size=3)


@given(
    FOLDERS,
    DISGUISES,
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.sampled_from(["", ".", " ", ". .", "::$INDEX_ALLOCATION", ":x"]),
    FOLDERS,
)
def test_no_spelling_of_git_passes(
    before: list[str], hidden: list[str], upper: list[bool], tail: str, behind: list[str]
) -> None:
    name = (
        "".join(h + (c.upper() if u else c) for h, c, u in zip(hidden, ".git", upper, strict=False))
        + hidden[4]
        + tail
    )
    path = "/".join([*before, name, *behind])

    def check() -> None:
        guards.path_form(path)
        guards.git_internals(path)

    with pytest.raises(RefusedError):
        check()


@given(st.text(max_size=40) | st.text(st.sampled_from("./\\ gitGIT~1:\u200d"), max_size=16))
def test_a_path_that_passes_stays_in_the_tree_and_out_of_git(path: str) -> None:
    try:
        guards.path_form(path)
        guards.git_internals(path)
    except RefusedError:
        return
    parts = path.split("/")
    assert not path.startswith("/")
    assert "\\" not in path
    for part in parts:
        # As Windows and macOS read it: case-insensitive, composed, without trailing dots, spaces, streams, ignorables.
        seen = "".join(c for c in part if unicodedata.category(c) != "Cf").split(":")[0].rstrip(". ").lower()
        assert seen not in ("", ".", "..", ".git", "git~1", ".gitmodules", ".github")
