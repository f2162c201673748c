"""Which files of a tree a file imports, told from its text by the rules of its language and never by running anything."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

_LINES = 400  # imports stand at the top, or a function's; more lines of them are no program
_FAN = 40  # of one name

_PYTHON = re.compile(
    r"^[ \t]{0,40}(?:from[ \t]++(\.{0,6}+[\w.]{0,200}+)[ \t]*+\bimport[ \t]++(\([^)]{1,3000}\)|[^\n#]{1,500})|import[ \t]++([\w., \t]{1,500}))",
    re.MULTILINE,
)
_SCRIPT = re.compile(r"(?:\bfrom|\brequire\(|\bimport\(?)\s{0,9}['\"]([^'\"\n]{1,300})['\"]")
_GO = re.compile(r"^\s{0,9}(?:import )?(?:[\w.]{1,60} )?\"([\w./~-]{1,200})\"\s*$", re.MULTILINE)
_JAVA = re.compile(r"^import (?:static )?([\w.]{1,300})(?:\.\*)?", re.MULTILINE)
_RUST = re.compile(
    r"^\s{0,40}(?:pub(?:\([a-z]{1,9}\))? )?(?:use (?:crate|super|self)::([\w:]{1,200})|mod (\w{1,100});)",
    re.MULTILINE,
)
_RUBY = re.compile(r"^\s{0,40}require(?:_relative)?[ (]['\"]([\w./-]{1,200})['\"]", re.MULTILINE)


class Modules:
    """The files of a tree by the names under which programs import them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        self._by_folder: defaultdict[str, list[str]] = defaultdict(list)
        self._paths = frozenset(paths)
        for path in sorted(self._paths):
            pure = PurePosixPath(path)
            stem = pure.parent.name if pure.stem in ("__init__", "index", "mod") else pure.stem
            self._by_stem[stem].append(path)
            self._by_folder[pure.parent.name].append(path)

    def named(self, dotted: str) -> list[str]:
        """The files of a dotted name: of the longest beginning of it that is a module here. `a.b.C.d` is `…/a/b.py`, or
        `…/a/b/__init__.py`. One word alone is nobody's."""
        parts = [part for part in re.split(r"\.|::|/", dotted) if part]
        for length in range(min(len(parts), 12), 1, -1):
            if found := self._ending(parts[:length]):
                return found
        return []

    def imported(self, path: str, text: str) -> set[str]:
        """The files of the tree that this one imports, without itself."""
        read = _READERS.get(PurePosixPath(path).suffix.lower())
        return set(read(self, path, text)) - {path} if read is not None else set()

    def _ending(self, parts: list[str]) -> list[str]:
        """Files whose path without its suffix ends with these parts."""
        tail = "/" + "/".join(parts)
        return [
            path for path in self._by_stem.get(parts[-1], ())[:_FAN] if f"/{_module(path)}".endswith(tail)
        ]

    def _exact(self, base: str, suffixes: Iterable[str]) -> Iterator[str]:
        for suffix in suffixes:
            if base + suffix in self._paths:
                yield base + suffix
                return

    def _python(self, path: str, text: str) -> Iterator[str]:
        for number, found in enumerate(_PYTHON.finditer(text)):
            if number == _LINES:
                return
            if found[3]:
                for name in found[3].split(","):
                    yield from self._absolute(path, name.split(" as ")[0].strip())
                continue
            names = [name.split(" as ")[0].strip() for name in found[2].strip("() \n\t").split(",")[:60]]
            module = found[1]
            if module.startswith("."):
                up = len(module) - len(module.lstrip("."))
                base = posixpath.normpath("/".join([posixpath.dirname(path) or ".", *[".."] * (up - 1)]))
                inner = module.lstrip(".").replace(".", "/")
                base = posixpath.normpath(posixpath.join(base, inner)) if inner else base
                yield from self._python_names(base, names)
            else:
                for one in self._absolute(path, module):
                    yield one
                    if one.endswith("/__init__.py"):
                        yield from self._python_names(posixpath.dirname(one), names)

    def _python_names(self, base: str, names: Iterable[str]) -> Iterator[str]:
        """Submodules by their names; the package or module itself for any other name."""
        itself = list(self._exact(base, (".py", ".pyi", "/__init__.py")))
        for name in names:
            yield from list(self._exact(f"{base}/{name}", (".py", ".pyi", "/__init__.py"))) or itself

    def _absolute(self, path: str, dotted: str) -> list[str]:
        """Of several files that end alike the one nearest to the importer; one word must stand where packages do."""
        parts = [part for part in dotted.split(".") if part]
        if not parts:
            return []
        found = self._ending(parts)
        if len(parts) == 1:
            found = [
                one
                for one in found
                if _module(one).count("/") <= 1 or _module(one).startswith(("src/", "lib/"))
            ]
        return sorted(found, key=lambda one: (-_shared(one, path), len(one)))[:1]

    def _script(self, path: str, text: str) -> Iterator[str]:
        for number, found in enumerate(_SCRIPT.finditer(text)):
            if number == _LINES:
                return
            name = found[1]
            if name.startswith("."):
                base = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
                stem = re.sub(r"\.[cm]?jsx?$", "", base)
                yield from self._exact(base, ("",)) if base in self._paths else self._exact(stem, _SCRIPTS)
            elif name.startswith(("@/", "~/")):
                yield from self._ending(re.sub(r"\.[cm]?[jt]sx?$", "", name[2:]).split("/"))[:1]

    def _go(self, _path: str, text: str) -> Iterator[str]:
        head = text[: text.find("\nfunc ")] if "\nfunc " in text else text
        for found in _GO.finditer(head[:20_000]):
            parts = found[1].split("/")
            for one in self._by_folder.get(parts[-1], ())[: _FAN * 2]:
                folder = posixpath.dirname(one)
                if (
                    one.endswith(".go")
                    and not one.endswith("_test.go")
                    and f"/{found[1]}".endswith(f"/{folder}")
                ):
                    yield one

    def _java(self, _path: str, text: str) -> Iterator[str]:
        for number, found in enumerate(_JAVA.finditer(text)):
            if number == _LINES:
                return
            yield from self.named(found[1])[:1]

    def _rust(self, path: str, text: str) -> Iterator[str]:
        for number, found in enumerate(_RUST.finditer(text)):
            if number == _LINES:
                return
            if found[2]:
                folder = posixpath.dirname(path)
                inner = (
                    folder
                    if PurePosixPath(path).stem in ("lib", "main", "mod")
                    else f"{folder}/{PurePosixPath(path).stem}"
                )
                yield from self._exact(f"{inner}/{found[2]}".lstrip("/"), (".rs", "/mod.rs"))
            else:
                parts = [part for part in found[1].split("::") if part]
                for length in range(len(parts), 0, -1):
                    near = [one for one in self._ending(parts[:length]) if one.endswith(".rs")]
                    if near:
                        yield max(near, key=lambda one: (_shared(one, path), -len(one)))
                        break

    def _ruby(self, _path: str, text: str) -> Iterator[str]:
        for found in _RUBY.finditer(text[:20_000]):
            yield from self._ending(
                [part for part in found[1].split("/") if part not in (".", "..")] or [""]
            )[:1]


_SCRIPTS = (
    ".ts",
    ".tsx",
    ".js",
    ".jsx",
    ".mjs",
    ".cjs",
    ".vue",
    ".svelte",
    ".d.ts",
    "/index.ts",
    "/index.tsx",
    "/index.js",
)
_READERS: Mapping[str, Callable[[Modules, str, str], Iterator[str]]] = {
    **dict.fromkeys((".py", ".pyi"), Modules._python),
    **dict.fromkeys(
        (".js", ".jsx", ".ts", ".tsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte"), Modules._script
    ),
    **dict.fromkeys((".java", ".kt", ".kts", ".scala"), Modules._java),
    ".go": Modules._go,
    ".rs": Modules._rust,
    ".rb": Modules._ruby,
}


def _module(path: str) -> str:
    pure = PurePosixPath(path)
    return str(pure.parent) if pure.stem in ("__init__", "index", "mod") else str(pure.with_suffix(""))


def _shared(one: str, other: str) -> int:
    """How many leading folders two paths share."""
    count = 0
    for mine, yours in zip(one.split("/")[:-1], other.split("/")[:-1], strict=False):
        if mine != yours:
            break
        count += 1
    return count
