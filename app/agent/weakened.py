"""Finds, without a model, what weakens tests: deleted ones, and new marks that skip them or let them fail. Pure.

Reads lines, not programs: what it finds is so, and what it does not find may still be. A test that was renamed in its place is none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from app.agent.edits import decode, is_binary
from app.lines import opcodes
from app.nouns import FileEdit

MAX_NAMED = 5
_MAX_LINE = 400
_MAX_BYTES = 400_000


@dataclass(frozen=True, slots=True)
class Row:
    """How tests look in a language. `test` finds a test's beginning, its name in the first group that matched; `off` finds
    what switches one off. `anywhere`: tests stand in the same files as what they test."""

    test: re.Pattern[str]
    off: re.Pattern[str]
    anywhere: bool = False


def weakened_tests(edits: Sequence[FileEdit]) -> tuple[str, ...]:
    """A sentence for each thing found, in the order of the edits."""
    moved: Counter[str] = Counter()
    for edit in edits:
        if (row := _row(edit.path)) is not None:
            moved += _tests(row, _lines(edit.after)) - _tests(row, _lines(edit.before))
    found: list[str] = []
    for edit in edits:
        if edit.before == edit.after:
            continue
        before, after = _lines(edit.before), _lines(edit.after)
        row = _row(edit.path)
        if row is not None and (row.anywhere or is_test_file(edit.path)):
            found += _deleted(edit, row, before, after, moved)
            found += _switched_off(edit.path, row.off, before, after)
        if _SETTINGS.search(edit.path):
            found += _switched_off(edit.path, _LEFT_OUT, before, after)
    return tuple(found)


def is_test_file(path: str) -> bool:
    """By the names that test runners look for."""
    pure = PurePosixPath(path)
    return bool(_TEST_FOLDERS.intersection(part.lower() for part in pure.parts[:-1])) or bool(
        _TEST_NAME.search(pure.name)
    )


def _deleted(
    edit: FileEdit, row: Row, before: Sequence[str], after: Sequence[str], moved: Counter[str]
) -> list[str]:
    """What the file no longer has and `moved`, from which this takes its part, does not hold either."""
    renamed = _renamed(row, before, after) if edit.after is not None else set()
    names: list[str] = []
    for name in (_tests(row, before) - _tests(row, after)).elements():
        if moved[name] > 0:
            moved[name] -= 1
        elif name not in renamed:
            names.append(name)
    if not names:
        return []
    if edit.after is None:
        return [f"Tests deleted: `{edit.path}` is removed with its {_counted(names)}."]
    return [f"Tests deleted: `{edit.path}` no longer has its {_counted(names)}."]


def _counted(names: Sequence[str]) -> str:
    told = ", ".join(f"`{name}`" for name in names[:MAX_NAMED])
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{'test' if len(names) == 1 else 'tests'} {told}{more}"


def _renamed(row: Row, before: Sequence[str], after: Sequence[str]) -> set[str]:
    """Tests in whose very place as many others stand."""
    out: set[str] = set()
    for tag, i1, i2, j1, j2 in opcodes(before, after):
        # What marks a test may stand on the lines above its name.
        old, new = _tests(row, before[max(0, i1 - 3) : i2]), _tests(row, after[max(0, j1 - 3) : j2])
        if tag == "replace" and old.total() == new.total():
            out |= set(old)
    return out


def _switched_off(path: str, off: re.Pattern[str], before: Sequence[str], after: Sequence[str]) -> list[str]:
    had = Counter(line.strip() for line in before if off.search(line))
    new = []
    for number, line in enumerate(after, 1):
        marked = off.search(line)
        if marked is None:
            continue
        if had[line.strip()] > 0:
            had[line.strip()] -= 1
        else:
            new.append((number, marked[0].strip()))
    return [
        f"Tests switched off: `{path}` line {number} adds `{mark[:60]}`." for number, mark in new[:MAX_NAMED]
    ]


def _tests(row: Row, lines: Sequence[str]) -> Counter[str]:
    found = row.test.finditer("\n".join(lines))
    return Counter(next(group for group in one.groups() if group) for one in found)


def _lines(data: bytes | None) -> list[str]:
    if data is None or is_binary(data) or len(data) > _MAX_BYTES:
        return []
    return [line[:_MAX_LINE] for line in decode(data).lines()]


def _row(path: str) -> Row | None:
    return _ROWS.get(_SUFFIXES.get(PurePosixPath(path).suffix.lower(), ""))


# --- the table -------------------------------------------------------------------------------------------------------

_TEST_FOLDERS = frozenset(("test", "tests", "spec", "specs", "__tests__", "testing", "e2e", "androidtest"))
_TEST_NAME = re.compile(
    r"(?i:^test_|^tests?\.|^conftest\.py$|[._-](?:test|tests|spec|cy)\.)|(?:Test|Tests|TestCase|Spec|IT)\.\w+$"
)
_SETTINGS = re.compile(
    r"(?:^|/)(?:pytest\.ini|setup\.cfg|tox\.ini|pyproject\.toml|conftest\.py|package\.json|(?:jest|vitest|karma|playwright)"
    r"\.config\.\w+|phpunit\.xml(?:\.dist)?|Makefile|\.rspec|Cargo\.toml)$"
)
_LEFT_OUT = re.compile(
    r"--deselect\b|--ignore(?:-glob)?[= ]|\bcollect_ignore(?:_glob)?\b|testPathIgnorePatterns|--passWithNoTests|"
    r"\bxfail_strict\s*=\s*false|-k\s*[\"']?not\s|--exclude-group|^[ \t]*test\s*=\s*false"
)


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(parts), re.MULTILINE)


def _below(mark: str, name: str) -> str:
    """A name that stands below a mark, with other marks and comments between them. Bounded, since files are strangers'."""
    return rf"^[ \t]*{mark}[^\n]*\n(?:[ \t]*(?:[@#\[]|//)[^\n]*\n){{0,4}}[ \t]*[^\n(]{{0,200}}?{name}"


_JAVASCRIPT = Row(
    _pattern(
        r"^[ \t]*(?:it|test|specify|Deno\.test)(?:\.(?!skip|only|todo)\w+)*\s*\(\s*[\"'`](.{1,200}?)[\"'`]\s*,",
        r"^[ \t]*(?:it|test)\.each\b.*\(\s*[\"'`](.{1,200}?)[\"'`]\s*,",
    ),
    _pattern(
        r"\b(?:describe|it|test|suite|context|specify)(?:\.\w+)*\.(?:skip|only|todo|failing|fails|fixme|skipIf)\b",
        r"(?<![\w.])x(?:it|describe|test|context|specify)\s*\(",
        r"(?<![\w.])f(?:it|describe)\s*\(\s*[\"'`]",
        r"\bthis\.skip\(\)",
        r"\bskip:\s*(?:true|[\"'`])",
    ),
)
_JVM = Row(
    _pattern(
        _below(
            r"@(?:\w+\.){0,4}(?:Test|ParameterizedTest|RepeatedTest|Property)\b",
            r"(?:\b(\w+)|`([^`\n]{1,200})`)[ \t]*\(",
        ),
        r"^[ \t]*(?:public )?void (test\w+)\(\)",
        r"^[ \t]*(?:test|it|should|property|def)[ (]{1,2}\"([^\"\n]{1,200})\"",
    ),
    _pattern(
        r"@(?:Disabled|Ignore|Ignored|DisabledIf|DisabledOnOs|Pending)\w*\b",
        r"\bassume(?:True|False|That)\s*\(",
        r"\bAssume\.\w+\(",
        r"\benabled\s*=\s*false",
        r"(?<![\w.])x(?:it|test|describe|context|should|given)\s*\(",
    ),
)
_ROWS: Mapping[str, Row] = {
    "python": Row(
        _pattern(r"^[ \t]*(?:async\s+)?def\s+(test\w*)\s*\(", r"^[ \t]*class\s+(Test\w+|\w+Tests?)\b"),
        _pattern(
            r"\bmark\.(?:skip|skipif|xfail)\b",
            r"\bpytest\.(?:skip|xfail|importorskip)\s*\(",
            r"@(?:unittest\.)?(?:skip|skipIf|skipUnless|expectedFailure)\b",
            r"\.skipTest\s*\(",
            r"\braise\s+(?:unittest\.)?SkipTest\b",
            r"\b__test__\s*=\s*False",
        ),
    ),
    "javascript": _JAVASCRIPT,
    "go": Row(
        _pattern(r"^func\s+((?:Test|Benchmark|Fuzz|Example)\w*)\s*\(", r"\bt\.Run\(\s*\"([^\"]{1,200})\""),
        _pattern(r"\b[tbf]\.Skip(?:f|Now)?\s*\(", r"^//go:build\s+ignore\b", r"^//\s*\+build\s+ignore\b"),
    ),
    "rust": Row(
        _pattern(_below(r"#\[(?:\w+::){0,4}(?:test|rstest|test_case|quickcheck)\b", r"\bfn (\w+)")),
        _pattern(r"#\[ignore\b", r"#\[cfg\(any\(\)\)\]", r"#\[cfg_attr\([^\]]*\bignore\b"),
        anywhere=True,
    ),
    "jvm": _JVM,
    "c_sharp": Row(
        _pattern(_below(r"\[(?:Fact|Theory|Test|TestMethod|TestCase)\b", r"\b(\w+)(?:<\w+>)?\(")),
        _pattern(
            r"\[(?:Ignore|Explicit)\b",
            r"\bSkip\s*=\s*[\"$@]",
            r"\bAssert\.(?:Ignore|Inconclusive|Skip)\w*\s*\(",
            r"\bSkip\.If\w*\(",
        ),
    ),
    "ruby": Row(
        _pattern(r"^[ \t]*(?:it|specify|test|scenario|example)\s*\(?\s*[\"'](.{1,200}?)[\"']", r"^[ \t]*def\s+(test_\w+[?!]?)"),
        _pattern(
            r"(?<![\w.:])x(?:it|describe|context|specify|scenario|example)\b",
            r"(?<![\w.:])f(?:it|describe|context|specify|scenario|example)\s+[\"']",
            r"^[ \t]*(?:skip|pending)\b(?!\s*=)",
            r"(?:,\s*:(?:skip|pending|focus)\b|\b(?:skip|pending|focus):\s*(?:true|[\"']))",
        ),
    ),
    "php": Row(
        _pattern(r"\bfunction\s+(test\w+)\s*\(", r"^[ \t]*(?:it|test)\s*\(\s*[\"'](.{1,200}?)[\"']"),
        _pattern(
            r"\bmarkTest(?:Skipped|Incomplete)\s*\(",
            r"->(?:skip|only|todo)\s*\(",
            r"@group\s+(?:skip|ignore|disabled)\b",
            r"\$this->expectNotToPerformAssertions\(",
        ),
    ),
    "swift": Row(
        _pattern(r"^[ \t]*(?:@\w+[^\S\n]+){0,9}func\s+(test\w+)\s*\(", _below(r"@Test\b", r"\bfunc (\w+)")),
        _pattern(r"\bXCTSkip\w*\b", r"\bXCTExpectFailure\b", r"\.disabled\(", r"\bwithKnownIssue\b"),
    ),
    "c": Row(
        _pattern(
            r"^[ \t]*(?:TYPED_)?TEST(?:_F|_P)?\s*\(\s*(\w+\s*,\s*\w+)", r"^[ \t]*(?:TEST_CASE|SCENARIO)\s*\(\s*\"([^\"]{1,200})\""
        ),
        _pattern(
            r"\bGTEST_SKIP\b",
            r"\bTEST(?:_F|_P)?\s*\([^)]*\bDISABLED_\w+",
            r"\"[^\"]*\[(?:!mayfail|!shouldfail|\.[^\]]*)\][^\"]*\"",
            r"\bdoctest::(?:skip|may_fail|should_fail)\b",
            r"\bSKIP\s*\(",
        ),
    ),
    "elixir": Row(
        _pattern(r"^[ \t]*test\s+\"([^\"]{1,200})\""), _pattern(r"@(?:tag|moduletag|describetag)\s+(?::skip|skip:)")
    ),
    "dart": Row(
        _pattern(r"^[ \t]*(?:test|testWidgets)\s*\(\s*[\"'](.{1,200}?)[\"']"),
        _pattern(r"\b(?:skip|solo):\s*(?:true|[\"'])", r"@Skip\b", r"\bmarkTestSkipped\("),
    ),
    "bash": Row(_pattern(r"^[ \t]*@test\s+[\"'](.{1,200}?)[\"']", r"^[ \t]*(test_?\w+)\s*\(\)"), _pattern(r"^[ \t]*skip\b", r"^[ \t]*startSkipping\b")),
}  # fmt: skip
_SUFFIXES = {
    suffix: name
    for name, suffixes in {
        "python": ".py .pyi",
        "javascript": ".js .jsx .ts .tsx .mjs .cjs .mts .cts .vue .svelte",
        "go": ".go",
        "rust": ".rs",
        "jvm": ".java .kt .kts .scala .groovy",
        "c_sharp": ".cs",
        "ruby": ".rb",
        "php": ".php",
        "swift": ".swift",
        "c": ".c .cc .cpp .cxx .h .hpp",
        "elixir": ".exs .ex",
        "dart": ".dart",
        "bash": ".sh .bash .bats",
    }.items()
    for suffix in suffixes.split()
}
