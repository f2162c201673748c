"""Which files are passed over, and why: by their names, by what the repository says of them, and by their content.

The repository speaks through `.gitattributes` (`linguist-generated`, `linguist-vendored`, also taken back with a `-`) and
through `.magicodeignore`, which is written like `.gitignore`; both count in any folder, for what is below it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import re2

MAX_FILE_BYTES = 512 << 10
IGNORE_FILE = ".magicodeignore"
ATTRIBUTES_FILE = ".gitattributes"


class Reason(StrEnum):
    """Why a file has no chunks."""

    IGNORED = "ignored"
    """A line of `.magicodeignore` matches it."""
    VENDORED = "vendored"
    """It is somebody else's: in a folder for dependencies, or `linguist-vendored`."""
    GENERATED = "generated"
    """A program wrote it: its name or its first lines say so, or `linguist-generated`."""
    LOCK = "lock"
    """It pins versions of dependencies."""
    MINIFIED = "minified"
    """Its lines are too long to be a person's."""
    BINARY = "binary"
    """Not text, or text that holds data, such as tables and pictures."""
    LFS_POINTER = "lfs_pointer"
    """It stands for a file that Git LFS keeps elsewhere."""
    VERY_LARGE = "very_large"
    """More than 512 KiB."""
    EMPTY = "empty"
    """Nothing is written in it."""


_VENDORED = frozenset(
    [
        "node_modules",
        "bower_components",
        "jspm_packages",
        "vendor",
        "_vendor",
        "vendored",
        "third_party",
        "third-party",
        "thirdparty",
        "3rdparty",
        "site-packages",
        "dist-packages",
        ".venv",
        ".yarn",
        ".mvn",
        "Pods",
        "Carthage",
        "Godeps",
    ]
)
_VENDORED_NAME = re.compile(r"^(jquery([.-][\w.]*)?\.js|gradlew(\.bat)?|mvnw(\.cmd)?)$")
_LOCKS = frozenset(
    [
        "package-lock.json",
        "npm-shrinkwrap.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "bun.lock",
        "bun.lockb",
        "deno.lock",
        "go.sum",
        "go.work.sum",
        "Gopkg.lock",
        "Cargo.lock",
        "Gemfile.lock",
        "poetry.lock",
        "uv.lock",
        "pixi.lock",
        "Pipfile.lock",
        "composer.lock",
        "pdm.lock",
        "conda-lock.yml",
        "mix.lock",
        "rebar.lock",
        "flake.lock",
        "Podfile.lock",
        "Cartfile.resolved",
        "Package.resolved",
        "packages.lock.json",
        "paket.lock",
        "project.assets.json",
        "pubspec.lock",
        "gradle.lockfile",
        ".terraform.lock.hcl",
        "MODULE.bazel.lock",
    ]
)
_GENERATED_FOLDERS = frozenset(["__generated__", "__snapshots__"])
_GENERATED_NAME = re.compile(
    r"([.-]min\.(js|mjs|cjs|css)|\.bundle\.js|\.(js|css|mjs|cjs|ts)\.map|\.snap"
    r"|_pb2(_grpc)?\.pyi?|\.pb(\.gw|\.validate|\.json)?\.go|\.pb\.(cc|h|dart|swift)|_pb\.(js|d\.ts|rb)|_generated\.go"
    r"|\.generated\.\w+|\.g\.(dart|cs)|\.g\.i\.cs|\.freezed\.dart|\.designer\.(cs|vb))$|^zz_generated\.",
    re.IGNORECASE,
)
_GENERATED_WITHIN = 2048
_GENERATED_SAYS = re.compile(
    rb"@generated\b|(code|auto-?|automatically)\s?generated.{0,200}do not (edit|modify)",
    re.IGNORECASE | re.DOTALL,
)
_NOT_TEXT = re.compile(
    r"\.(png|jpe?g|gif|ico|icns|webp|avif|bmp|tiff?|psd|svg|pdf|docx?|xlsx?|pptx?|woff2?|ttf|otf|eot|zip|gz|tgz|bz2|xz|zst|7z|"
    r"jar|aar|war|whl|nupkg|so|dylib|dll|exe|o|a|lib|class|pyc|wasm|mp[34]|mov|avi|webm|wav|flac|ogg|npz|npy|pkl|parquet|"
    r"arrow|sqlite3?|db|bin|dat|csv|tsv)$",
    re.IGNORECASE,
)
_MINIFIED_LINE = 5000
_LFS = b"version https://git-lfs.github.com/spec/"

_ATTRIBUTES = {"linguist-vendored": Reason.VENDORED, "linguist-generated": Reason.GENERATED}
_MAX_RULE_FILES = 200
_MAX_RULE_BYTES = 128 << 10
_PATTERNS_AT_ONCE = 50
_MAX_PATTERN = 300
_MAX_STARS = 10  # in one pattern
_MAX_ALL_STARS = 1000  # in one tree: what a path costs grows with them
_MAX_PATH = 1024

_Said = tuple[Any, bool]
"""A compiled expression and what is so of the paths that it matches. `re2` has no types."""
_ByFolder = Mapping[str, Sequence[_Said]]


@dataclass(frozen=True, slots=True)
class Rules:
    """One tree's rules; `Rules()` has those by name and content alone."""

    _ignored: _ByFolder = field(default_factory=dict)
    _attributes: Mapping[Reason, _ByFolder] = field(default_factory=dict)

    @classmethod
    def of(cls, read: Callable[[str], bytes | None], paths: Iterable[str]) -> Rules:
        """The rules of the tree with these files. `read` answers a file's content, None where it cannot."""
        ignored: dict[str, Sequence[_Said]] = {}
        attributes: dict[Reason, dict[str, Sequence[_Said]]] = {reason: {} for reason in _ATTRIBUTES.values()}
        stars = _Stars(_MAX_ALL_STARS)
        for path in _rule_files(paths):
            content = (read(path) or b"")[:_MAX_RULE_BYTES]
            lines = content.decode("latin-1").replace("\r\n", "\n").split("\n")  # git matches bytes
            folder, name = _folder(path), PurePosixPath(path).name
            if name == IGNORE_FILE:
                ignored[folder] = _compiled(stars.few(_ignore_lines(lines)))
                continue
            for attribute, reason in _ATTRIBUTES.items():
                if found := _compiled(stars.few(_attribute_lines(lines, attribute))):
                    attributes[reason][folder] = found
        return cls(ignored, attributes)

    def reason(self, path: str, size: int | None) -> Reason | None:
        """Why a file is passed over without reading it; None where it is to be read."""
        pure = PurePosixPath(path)
        vendored, generated = self._says(Reason.VENDORED, path), self._says(Reason.GENERATED, path)
        if vendored is None:
            vendored = bool(_VENDORED.intersection(pure.parts[:-1]) or _VENDORED_NAME.match(pure.name))
        if generated is None:
            folder = _GENERATED_FOLDERS.intersection(pure.parts[:-1])
            generated = bool(folder or _GENERATED_NAME.search(pure.name))
        reasons = (
            (Reason.IGNORED, _last_word(self._ignored, path)),
            (Reason.VENDORED, vendored),
            (Reason.LOCK, pure.name in _LOCKS),
            (Reason.GENERATED, generated),
            (Reason.BINARY, _NOT_TEXT.search(pure.name)),
            (Reason.VERY_LARGE, size is not None and size > MAX_FILE_BYTES),
        )
        return next((reason for reason, so in reasons if so), None)

    def reason_of(self, path: str, content: bytes) -> Reason | None:
        """As `reason`, for a file that has been read."""
        by_name = self.reason(path, len(content))
        if by_name is not None:
            return by_name
        told = self._says(Reason.GENERATED, path) is None and _GENERATED_SAYS.search(
            content[:_GENERATED_WITHIN]
        )
        lines = content.count(b"\n") + 1
        long = len(content) / lines > 300 and max(map(len, content.split(b"\n"))) > _MINIFIED_LINE
        reasons = (
            (Reason.LFS_POINTER, content.startswith(_LFS) and len(content) < 1024),
            (Reason.BINARY, b"\0" in content[:8000]),  # git's own rule
            (Reason.EMPTY, not content.strip()),
            (Reason.GENERATED, told),
            (Reason.MINIFIED, long),
        )
        return next((reason for reason, so in reasons if so), None)

    def _says(self, reason: Reason, path: str) -> bool | None:
        return _last_word(self._attributes.get(reason, {}), path)


BY_NAME = Rules()
"""The rules of a tree that says nothing itself."""


def left_out_by_name(path: str, size: int | None) -> str | None:
    return BY_NAME.reason(path, size)


@dataclass(slots=True)
class _Stars:
    """Lets patterns through while a path's matching stays quick."""

    left: int

    def few(self, lines: Iterable[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
        for expression, so in lines:
            stars = expression.count("*")
            if stars <= _MAX_STARS and stars < self.left:
                self.left -= stars + 1
                yield expression, so


def _rule_files(paths: Iterable[str]) -> Sequence[str]:
    """The highest ones, if there are too many."""
    found = [path for path in paths if path.endswith((IGNORE_FILE, ATTRIBUTES_FILE))]
    named = [path for path in found if PurePosixPath(path).name in (IGNORE_FILE, ATTRIBUTES_FILE)]
    return sorted(named, key=lambda path: (path.count("/"), path))[:_MAX_RULE_FILES]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _last_word(said: _ByFolder, path: str) -> bool | None:
    """What the deepest folder's last matching line says."""
    if not said:
        return None
    folder = path
    while folder:
        folder = _folder(folder)
        if folder in said:
            below = path[len(folder) + 1 :] if folder else path
            text = below.encode("utf-8", "replace")[:_MAX_PATH]
            for expression, so in said[folder]:
                if expression.fullmatch(text):
                    return so
    return None


def _ignore_lines(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    for line in lines:
        pattern = _without_trailing_blanks(line)
        if not pattern or pattern.startswith("#"):
            continue
        ignored = not pattern.startswith("!")
        pattern = pattern if ignored else pattern[1:]
        folder_only = pattern.endswith("/")
        expression = _expression(pattern.rstrip("/"))
        if expression:
            yield expression + ("/.*" if folder_only else "(?:/.*)?"), ignored


def _without_trailing_blanks(line: str) -> str:
    """All but one that a backslash keeps."""
    left = line.rstrip(" \t")
    return line[: len(left) + 1] if left.endswith("\\") else left


def _attribute_lines(lines: Iterable[str], attribute: str) -> Iterator[tuple[str, bool]]:
    for line in lines:
        told = re.match(r'[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s"]\S*))[ \t]+(.*)', line[: 2 * _MAX_PATTERN])
        if told is None or told[0].lstrip().startswith(("#", "[attr]", "!")):
            continue
        pattern = told[1] if told[1] is not None else told[2]
        values = [said for word in told[3].split() if (said := _value(word, attribute)) is not None]
        expression = "" if pattern.endswith("/") else _expression(pattern)
        if values and expression:
            yield expression, values[-1]


def _value(word: str, attribute: str) -> bool | None:
    name, _, value = word.partition("=")
    if name.lstrip("-!") != attribute or name.startswith("!"):
        return None
    return not name.startswith("-") and value.lower() not in ("false", "0", "no")


def _expression(pattern: str) -> str:
    """git's glob as a regular expression; empty for what is none."""
    if not pattern or len(pattern) > _MAX_PATTERN:
        return ""
    anchored = "/" in pattern
    pattern = pattern.removeprefix("/")
    out = "" if anchored else "(?:.*/)?"
    at = 0
    while at < len(pattern):
        part = _GLOB.match(pattern, at)
        if part is None:  # a bracket or a backslash without its other half
            return ""
        starts = pattern[at - 1] == "/" if at else anchored
        out += _translated(part[0], starts, part.end() == len(pattern))
        at = part.end()
    return out


_GLOB = re.compile(r"/\*\*$|\*\*+/|\*+|\?|\\.|\[[!^]?\]?(?:[^\]\\]|\\.)*\]|[^\\\[]", re.DOTALL)
_IN_BRACKETS = re.compile(r"\\?(.)", re.DOTALL)


def _translated(part: str, at_start: bool, at_end: bool) -> str:
    if part.startswith("["):
        negated = part[1] in "!^"
        inner = _IN_BRACKETS.sub(_literal, part[2 if negated else 1 : -1])
        return f"[^/{inner}]" if negated else f"[{inner}]"
    if part.endswith("**/"):
        return "(?:.*/)?" if at_start else "[^/]*/"
    if part == "/**" or (part == "**" and at_start and at_end):
        return f"{part[:-2]}.+"
    if part[0] in "*?":
        return "[^/]*" if part[0] == "*" else "[^/]"
    return re.escape(part[-1])


def _literal(found: re.Match[str]) -> str:
    return f"\\{found[1]}" if found[1] in "[]\\^&~" or found[0] == "\\-" else found[1]


def _compiled(lines: Iterable[tuple[str, bool]]) -> Sequence[_Said]:
    """Last line first, neighbours that say the same together."""
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    options.encoding = re2.Options.Encoding.LATIN1
    out: list[_Said] = []
    for so, together in groupby(reversed(list(lines)), key=lambda line: line[1]):
        expressions = [expression for expression, _ in together]
        for start in range(0, len(expressions), _PATTERNS_AT_ONCE):
            out += [(each, so) for each in _joined(expressions[start : start + _PATTERNS_AT_ONCE], options)]
    return tuple(out)


def _joined(expressions: Sequence[str], options: Any) -> list[Any]:
    """One expression for all; each for itself where one of them is none, and that one left out."""
    try:
        return [re2.compile("|".join(f"(?:{each})" for each in expressions).encode("latin-1"), options)]
    except re2.error:
        if len(expressions) == 1:
            return []
        return [one for each in expressions for one in _joined([each], options)]
