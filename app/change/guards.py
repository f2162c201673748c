"""One plain function for each thing that a change may not do. What they refuse, nobody's text can allow.

Each raises RefusedError with a stable reason and a message that names the path and the remedy; none changes anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import re2

from app.change import secretscan
from app.change.diff import added_lines, count, is_binary
from app.change.policy import Policy
from app.errors import RefusedError
from app.nouns import FileEdit, Rule
from app.patterns import PathPatterns, kind_of
from app.ports import Workspace
from app.repofile import PATH as REPOFILE_PATH
from app.repofile import RepoFile

BRANCH_PREFIX = "magicode/"
MAX_PATH_BYTES = 1024
_SHORT_NAME = re.compile(
    r"gi[a-z0-9]{0,4}~[0-9]+"
)  # how NTFS may shorten .git and .gitmodules: git~1, gi7eba~1
_LINK, _SUBMODULE, _FILE = "120000", "160000", "100644"
_MEGABYTE = 1024 * 1024


def refuse(reason: str, message: str) -> RefusedError:
    return RefusedError(message, reason=reason)


# --- paths -----------------------------------------------------------------------------------------------------------


def path_form(path: str) -> None:
    """Refuses what is not a plain relative path: absolute, `..`, empty parts, backslash, NUL, control characters."""
    shown = repr(path)[:200]
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise refuse("path_outside", f"{shown} is not a path inside the repository. Ask for files inside it.")
    if "\\" in path or re.match(r"[A-Za-z]:", path):
        raise refuse(
            "path_outside", f"{shown} reads as a Windows path and could lead outside. Use forward slashes."
        )
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in path):
        raise refuse("path_characters", f"{shown} holds control characters. Give the file a plain name.")
    if any(plain_name(part) == "" for part in path.split("/")):
        raise refuse(
            "path_outside", f"{shown} has a part that some systems read as `.` or `..`. Give it a plain name."
        )
    if len(path.encode("utf-8")) > MAX_PATH_BYTES:
        raise refuse(
            "path_too_long", f"{shown} is longer than {MAX_PATH_BYTES:,} bytes. Give it a shorter name."
        )


def git_internals(path: str) -> None:
    """Refuses `.git*` at any depth (so `.github/`, `.gitmodules`, `.gitattributes` too), however it is spelled.

    The other spellings are those that file systems read as the same name: case, trailing dots and spaces, short names
    and streams on NTFS, ignorable characters on HFS+ (https://github.com/git/git/blob/master/path.c, is_ntfs_dotgit,
    and utf8.c, is_hfs_dotgit), and look-alikes that normal form KC makes equal.
    """
    for part in path.split("/"):
        plain = plain_name(part)
        if plain.startswith(".git") or _SHORT_NAME.fullmatch(plain):
            raise refuse(
                "path_git",
                f"`{path}` is git's or GitHub's own (`{part}`). MagiCode never writes there; change it yourself.",
            )


def code_owners(path: str) -> None:
    """Refuses CODEOWNERS in any folder: who has to review is not ours to change."""
    if any(plain_name(part) == "codeowners" for part in path.split("/")):
        raise refuse("path_codeowners", f"`{path}` says who has to review. Change it yourself.")


def hidden_characters(path: str, workspace: Workspace) -> None:
    """Refuses new names with characters that nobody sees; a file that already has such a name may be changed."""
    if workspace.entry(path) is None and any(_ignorable(c) for c in path):
        raise refuse("path_characters", f"{path!r} holds invisible characters. Give the file a plain name.")


def links_and_submodules(path: str, workspace: Workspace) -> None:
    """Refuses to change a symbolic link or a submodule, or to write below one."""
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        here = "/".join(parts[:end])
        entry = workspace.entry(here)
        if entry is None:
            continue
        if entry.mode == _LINK:
            raise refuse(
                "path_link", f"`{here}` is a symbolic link. MagiCode does not change or follow links."
            )
        if entry.mode == _SUBMODULE:
            raise refuse("path_submodule", f"`{here}` is a submodule. Ask in its own repository.")
        if end < len(parts):
            raise refuse(
                "path_conflict", f"`{here}` is a file, so `{path}` cannot be inside it. Choose another name."
            )


def collisions(edits: Sequence[FileEdit], workspace: Workspace) -> None:
    """Refuses new paths that differ from others only in case or normal form, or that are a folder already."""
    removed = {edit.path for edit in edits if edit.after is None}
    taken: dict[str, str] = {}
    folders: set[str] = set()
    created = [edit.path for edit in edits if edit.before is None]
    if not created:
        return
    for path in [*(e.path for e in workspace.entries() if e.path not in removed), *created]:
        for name in _with_parents(path):
            other = taken.setdefault(_folded(name), name)
            if other != name:
                if path not in created:
                    continue  # the repository collides with itself; that is not this change's doing
                raise refuse(
                    "path_collision",
                    f"`{name}` and `{other}` are the same name where case does not count. Choose another name.",
                )
        folders.update(_with_parents(path)[:-1])
    for path in created:
        if path in folders:
            raise refuse("path_conflict", f"`{path}` is a folder already. Choose another name.")


def denied(path: str, repofile: RepoFile) -> None:
    """Refuses what the repository's own file denies."""
    pattern = repofile.denied_by(path)
    if pattern is not None:
        raise refuse(
            "path_denied",
            f"`{path}` is denied by `{pattern}` in `{REPOFILE_PATH}`. Change it yourself, or that line.",
        )


def left_alone(path: str, kinds: Sequence[str]) -> None:
    """Refuses what is of a kind that the installation's settings keep from every change."""
    kind = kind_of(path, kinds)
    if kind is not None:
        raise refuse(
            "path_denied",
            f"`{path}` is one of the `{kind}`, which this installation's settings have me leave alone (`leave-alone`). Change it "
            "yourself, or ask an administrator.",
        )


# --- contents --------------------------------------------------------------------------------------------------------


def something(edits: Sequence[FileEdit]) -> None:
    """Refuses a change without an edit, an edit without a difference, and two edits of one file."""
    if not edits:
        raise refuse("nothing_changed", "The proposal changes nothing. Say more exactly what to change.")
    paths = [edit.path for edit in edits]
    for edit in edits:
        if edit.before == edit.after:
            raise refuse("nothing_changed", f"The proposal leaves `{edit.path}` as it is. Ask again.")
        if paths.count(edit.path) > 1:
            raise refuse("path_twice", f"The proposal holds `{edit.path}` twice. Ask again.")


def base(edit: FileEdit, workspace: Workspace) -> None:
    """Refuses an edit that was made of other bytes than the commit holds."""
    try:
        held = workspace.read(edit.path) if workspace.entry(edit.path) is not None else None
    except KeyError as error:
        raise refuse(
            "base_unreadable", f"`{edit.path}` is too large to be read here. Change it yourself."
        ) from error
    if edit.before != held:
        raise refuse(
            "base_differs", f"The proposal was not made from `{edit.path}` as it is at the base. Ask again."
        )


def mode(edit: FileEdit, workspace: Workspace) -> None:
    """Refuses a changed file mode, and new files that are anything but plain ones."""
    entry = workspace.entry(edit.path)
    if edit.mode != (entry.mode if entry is not None else _FILE):
        raise refuse("mode_changed", f"The proposal changes the mode of `{edit.path}`. Change it yourself.")


def binary(edit: FileEdit) -> None:
    """Refuses to write bytes that git takes for binary, or that hold a NUL at all. Removing them is allowed."""
    if edit.after is not None and (b"\0" in edit.after or is_binary(edit.before)):
        raise refuse(
            "binary", f"`{edit.path}` is a binary file. MagiCode changes text alone; change it yourself."
        )


def sizes(edits: Sequence[FileEdit], policy: Policy) -> None:
    """Refuses too many files, too many lines, too large a file, too much in all."""
    if len(edits) > policy.files:
        raise refuse(
            "too_many_files",
            f"The proposal changes {len(edits):,} files; {policy.files:,} are allowed. Ask for less.",
        )
    for edit in edits:
        if edit.after is not None and len(edit.after) > policy.max_file_bytes:
            raise refuse(
                "file_too_large",
                f"`{edit.path}` would have {len(edit.after):,} bytes; {policy.max_file_bytes:,} are allowed. Split it.",
            )
    total = sum(len(edit.after) for edit in edits if edit.after is not None)
    if total > policy.max_total_bytes:
        raise refuse(
            "change_too_large",
            f"The changed files have {total:,} bytes; {policy.max_total_bytes:,} are allowed. Ask for less.",
        )
    lines = sum(sum(count(edit)) for edit in edits)
    if lines > policy.changed_lines:
        raise refuse(
            "too_many_lines",
            f"The proposal changes {lines:,} lines; {policy.changed_lines:,} are allowed. Ask for a smaller step.",
        )


def wipe_out(edits: Sequence[FileEdit], workspace: Workspace) -> None:
    """Refuses to remove or empty all files, or more than half of four or more."""
    total = len(workspace.entries())
    gone = sum(1 for edit in edits if edit.before and not edit.after)
    left = total - gone + sum(1 for edit in edits if edit.before is None and edit.after)
    if gone and (left <= 0 or (total >= 4 and left * 2 < total)):
        raise refuse(
            "deletes_everything",
            f"The proposal removes or empties {gone:,} of {total:,} files. If that is meant, do it yourself.",
        )


def secrets(edit: FileEdit) -> None:
    """Refuses added lines with what looks like a key, whole or in pieces. A secret that the file held already is not news."""
    if edit.after is None:
        return
    lines = added_lines(edit)
    known = edit.before or b""
    # All added lines at once, so that each form is looked for once, and line by line only where one was found.
    added = "\n".join(_text(line) for _, line in lines)
    for number, line in lines if secretscan.find(added) else ():
        for what, secret in secretscan.find(_text(line)):
            if secret.encode("utf-8") not in known:
                raise refuse(
                    "secret",
                    f"`{edit.path}`, line {number}, would hold what looks like {what}. "
                    "Keep it out of the code (an environment variable, a secret store), and revoke it if it is real.",
                )
    hidden = secretscan.disguised(added)
    held = {secret for _, secret in secretscan.disguised(_text(known))} if hidden else set()
    for what, secret in hidden:
        if secret not in held and secret.encode("utf-8") not in known:
            raise refuse(
                "secret",
                f"`{edit.path}` would hold what becomes {what} when its pieces are put together. Keep it out of the code.",
            )


def deceptive_characters(edit: FileEdit) -> None:
    """Refuses added characters that make a line read otherwise than it runs: direction overrides and tag characters.

    https://trojansource.codes (CVE-2021-42574). Those that the file held already are not news.
    """
    known = _text(edit.before or b"")
    for number, line in added_lines(edit):
        found = next((c for c in _text(line) if _deceives(c) and c not in known), None)
        if found is not None:
            raise refuse(
                "deceptive_characters",
                f"`{edit.path}`, line {number}, would hold U+{ord(found):04X}, which makes text read otherwise than it is. "
                "Write it as an escape.",
            )


# --- GitHub's rules --------------------------------------------------------------------------------------------------


def branch(name: str, *, base: str, protected: bool) -> None:
    """Refuses every head branch but our own, unprotected ones."""
    if name == base:
        raise refuse(
            "branch_name", f"`{name}` is the base branch itself. MagiCode only writes to a branch of its own."
        )
    if not name.startswith(BRANCH_PREFIX) or not re.fullmatch(r"magicode/[a-z0-9][a-z0-9-]*", name):
        raise refuse(
            "branch_name",
            f"`{name}` is not a branch of MagiCode's (`{BRANCH_PREFIX}…`). Nothing was written.",
        )
    if protected:
        raise refuse(
            "branch_protected",
            f"`{name}` is protected. Take `{BRANCH_PREFIX}*` out of the protection if MagiCode may work here.",
        )


def branch_rules(name: str, rules: Iterable[Rule]) -> None:
    """Refuses a branch whose name a `branch_name_pattern` rule does not allow."""
    _patterns("branch_name_pattern", name, "The branch name", rules)


def commit_rules(message: str, rules: Iterable[Rule], *, author_email: str | None = None) -> None:
    """Refuses a commit that `commit_message_pattern` or the e-mail rules do not allow.

    https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-rulesets/available-rules-for-rulesets
    """
    rules = list(rules)
    _patterns("commit_message_pattern", message, "The commit message", rules)
    if author_email is not None:
        _patterns("commit_author_email_pattern", author_email, "The author's e-mail address", rules)
        _patterns("committer_email_pattern", author_email, "The committer's e-mail address", rules)


def push_rules(edits: Sequence[FileEdit], rules: Iterable[Rule]) -> None:
    """Refuses files that a push rule restricts: by path, extension, length of the path or size."""
    for rule in rules:
        check = _PUSH_RULES.get(rule.type)
        if check is None:
            continue
        for edit in edits:
            said = check(edit, rule.parameters)
            if said is not None:
                raise refuse(
                    f"rule_{rule.type}", f"A rule of this repository does not allow `{edit.path}`: {said}."
                )


def matches(operator: str, pattern: str, text: str) -> bool:
    """GitHub's four operators. Raises RefusedError for a regular expression or an operator that cannot be read."""
    simple: dict[str, Callable[[str], bool]] = {
        "starts_with": text.startswith,
        "ends_with": text.endswith,
        "contains": text.__contains__,
    }
    if operator in simple:
        return simple[operator](pattern)
    if operator != "regex":
        raise refuse(
            "rule_unreadable", f"A rule uses the operator `{operator}`, which MagiCode does not know."
        )
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.search(pattern, text, options) is not None
    except re2.error as error:
        raise refuse(
            "rule_unreadable", f"A rule's pattern `{pattern}` cannot be read as RE2, GitHub's own."
        ) from error


def _patterns(kind: str, text: str, subject: str, rules: Iterable[Rule]) -> None:
    for rule in rules:
        if rule.type != kind:
            continue
        operator, pattern = str(rule.parameters.get("operator")), str(rule.parameters.get("pattern", ""))
        negate = rule.parameters.get("negate") is True
        if matches(operator, pattern, text) is negate:
            name = rule.parameters.get("name")
            called = f" (“{name}”)" if name else ""
            raise refuse(
                f"rule_{kind}",
                f"{subject} `{text.splitlines()[0] if text else ''}` breaks a rule of this repository{called}: it must "
                f"{'not ' if negate else ''}{_WORDS.get(operator, operator)} `{pattern}`. Change the rule, or exempt MagiCode.",
            )


_WORDS = {"starts_with": "start with", "ends_with": "end with", "contains": "contain", "regex": "match"}


def _restricted_path(edit: FileEdit, parameters: Any) -> str | None:
    # GitHub reads these as fnmatch patterns; .gitignore's reading of them restricts no less.
    paths = [str(one) for one in parameters.get("restricted_file_paths", ())]
    try:
        restricted = PathPatterns(paths)
    except ValueError:
        return "its restricted paths cannot be read"
    return None if restricted.match(edit.path) is None else "its path is restricted"


def _restricted_extension(edit: FileEdit, parameters: Any) -> str | None:
    ends = [str(one).lower().lstrip("*.") for one in parameters.get("restricted_file_extensions", ())]
    found = next((end for end in ends if end and edit.path.lower().endswith(f".{end}")), None)
    return f"files ending in .{found} are restricted" if found else None


def _long_path(edit: FileEdit, parameters: Any) -> str | None:
    most = int(parameters.get("max_file_path_length", len(edit.path)))
    return (
        f"its path has {len(edit.path)} characters and {most} are allowed" if len(edit.path) > most else None
    )


def _large_file(edit: FileEdit, parameters: Any) -> str | None:
    size = len(edit.after or b"")
    most = int(parameters.get("max_file_size", size))
    return f"it has {size:,} bytes and {most} MB are allowed" if size > most * _MEGABYTE else None


_PUSH_RULES: dict[str, Callable[[FileEdit, Any], str | None]] = {
    "file_path_restriction": _restricted_path,
    "file_extension_restriction": _restricted_extension,
    "max_file_path_length": _long_path,
    "max_file_size": _large_file,
}


# --- names as file systems read them ---------------------------------------------------------------------------------


def plain_name(part: str) -> str:
    """One part of a path as the most forgetful file system reads it."""
    seen = "".join(c for c in part if not _ignorable(c))
    folded = unicodedata.normalize("NFKC", seen).casefold()
    return "".join(c for c in folded if not _ignorable(c)).partition(":")[0].strip().rstrip(" .")


def _ignorable(character: str) -> bool:
    # HFS+ ignores format characters; variation selectors and fillers are as invisible in a review.
    point = ord(character)
    filler = point in (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0) or 0x180B <= point <= 0x180F
    selector = 0xFE00 <= point <= 0xFE0F or 0xE0000 <= point <= 0xE0FFF or 0xFFF0 <= point <= 0xFFF8
    return filler or selector or unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn")


def _deceives(character: str) -> bool:
    point = ord(character)
    return 0x202A <= point <= 0x202E or 0x2066 <= point <= 0x2069 or 0xE0000 <= point <= 0xE007F


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _with_parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
