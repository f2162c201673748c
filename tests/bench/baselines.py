"""What any retrieval has to beat: BM25, and a plain sentence model over fixed windows. They share no code with the product.

BM25 (k1 1.2, b 0.75) over files with their paths, identifiers whole and split by case and underscore, no stop words;
functions are ranked by the same over path, name and text of each. Windows: 40 lines, none overlapping, each below its
file's path; a file is as near as its nearest window, and functions come in the order of the windows that hold them.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scoring import Question, Ranking
from trees import Blob, GitTree

K1, B = 1.2, 0.75
WINDOW_LINES = 40
FUNCTIONS = 200
"""So many functions are ranked; nothing looks further down."""

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]{2,}")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_DEF = re.compile(r"^([ \t]*)(?:async[ \t]+)?(def|class)[ \t]+([A-Za-z_]\w*)")

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Function:
    """`name` is qualified by its classes; lines are 1-based and inclusive."""

    name: str
    start_line: int
    end_line: int


def words(text: str) -> list[str]:
    """Lower-cased identifiers, and the parts of those that have several."""
    out = []
    for word in _WORD.findall(text):
        out.append(word.lower())
        parts = _PART.findall(word)
        if len(parts) > 1:
            out.extend(part.lower() for part in parts)
    return out


def functions_of(content: bytes) -> list[Function]:
    """Functions and methods of a Python file, without those inside of functions. What this Python cannot parse (the old
    `print x`) is read by its indentation."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", " ").lstrip("\ufeff")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _by_indentation(text.split("\n"))
    found: list[Function] = []
    waiting: list[tuple[ast.AST, str]] = [(module, "")]
    while waiting:
        node, outer = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
                found.append(Function(f"{outer}{child.name}", first, child.end_lineno or child.lineno))
            elif isinstance(child, ast.ClassDef):
                waiting.append((child, f"{outer}{child.name}."))
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                waiting.append((child, outer))
    return sorted(found, key=lambda one: one.start_line)


def _by_indentation(lines: Sequence[str]) -> list[Function]:
    found: list[Function] = []
    around: list[
        tuple[int, str, bool, int]
    ] = []  # indentation, qualified name, whether a function, first line
    last = 0

    def close(down_to: int) -> None:
        while around and around[-1][0] >= down_to:
            _, name, is_function, first = around.pop()
            if is_function and not any(holder[2] for holder in around):
                found.append(Function(name, first, last))

    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        matched = _DEF.match(line)
        if matched:
            indent = len(matched[1].expandtabs())
            close(indent)
            name = f"{around[-1][1]}.{matched[3]}" if around else matched[3]
            around.append((indent, name, matched[2] == "def", number))
        last = number
    close(0)
    return sorted(found, key=lambda one: one.start_line)


class Texts:
    """What the baselines read of a tree's files, kept by path and content from one tree of a repository to the next."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str], Counter[str]] = {}
        self._functions: dict[tuple[str, str], list[tuple[Function, Counter[str]]]] = {}

    def file(self, tree: GitTree, blob: Blob) -> Counter[str]:
        held = self._files.get((blob.path, blob.sha))
        if held is None:
            held = Counter(words(blob.path))
            held.update(words(tree.read(blob.path).decode("utf-8", "replace")))
            self._files[(blob.path, blob.sha)] = held
        return held

    def functions(self, tree: GitTree, blob: Blob) -> list[tuple[Function, Counter[str]]]:
        held = self._functions.get((blob.path, blob.sha))
        if held is None:
            content = tree.read(blob.path)
            lines = content.decode("utf-8", "replace").split("\n")
            held = [
                (one, Counter(words("\n".join([blob.path, one.name, *lines[one.start_line - 1 : one.end_line]]))))
                for one in functions_of(content)
            ]  # fmt: skip
            self._functions[(blob.path, blob.sha)] = held
        return held

    def forget_all_but(self, blobs: Sequence[Blob]) -> None:
        kept = {(blob.path, blob.sha) for blob in blobs}
        self._files = {key: held for key, held in self._files.items() if key in kept}
        self._functions = {key: held for key, held in self._functions.items() if key in kept}


def bm25(question: str, documents: Sequence[Mapping[str, int]]) -> list[float]:
    """A score for each document; terms count as often as the question has them."""
    lengths = [sum(document.values()) for document in documents]
    average = sum(lengths) / len(lengths) if lengths and sum(lengths) else 1.0
    shape = [K1 * (1 - B + B * length / average) for length in lengths]
    scores = [0.0] * len(documents)
    for word, times in Counter(words(question)).items():
        held = [(row, count) for row, document in enumerate(documents) if (count := document.get(word))]
        weight = times * math.log(1 + (len(documents) - len(held) + 0.5) / (len(held) + 0.5))
        for row, count in held:
            scores[row] += weight * count * (K1 + 1) / (count + shape[row])
    return scores


def by_words(texts: Texts, question: Question, tree: GitTree, candidates: Sequence[Blob]) -> Ranking:
    texts.forget_all_but(candidates)
    scores = bm25(question.text, [texts.file(tree, blob) for blob in candidates])
    files = [candidates[row].path for row in _best(scores) if scores[row] > 0]
    named = [
        (f"{blob.path}:{one.name}", count)
        for blob in candidates
        for one, count in texts.functions(tree, blob)
    ]
    function_scores = bm25(question.text, [count for _, count in named])
    functions = dict.fromkeys(named[row][0] for row in _best(function_scores)[: 2 * FUNCTIONS])
    return Ranking(tuple(files), tuple(functions)[:FUNCTIONS])


def _best(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda row: (-scores[row], row))


class Windows:
    """The windows' vectors of a repository's trees, one after the other."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._held: dict[tuple[str, str], tuple[list[int], NDArray[np.float16]]] = {}
        self._functions: dict[tuple[str, str], list[Function]] = {}

    def rank(self, question: Question, tree: GitTree, candidates: Sequence[Blob]) -> Ranking:
        self._take_in(tree, candidates)
        asked = self._encode([question.text])[0]
        places: list[tuple[Blob, int]] = []
        rows = []
        for blob in candidates:
            starts, vectors = self._held[(blob.path, blob.sha)]
            places.extend((blob, start) for start in starts)
            rows.append(vectors)
        if not places:
            return Ranking((), ())
        scores = np.concatenate(rows).astype(np.float32) @ asked
        order = np.argsort(-scores, kind="stable")
        files = dict.fromkeys(places[row][0].path for row in order)
        functions: dict[str, None] = {}
        for row in order[: 2 * FUNCTIONS]:
            blob, start = places[row]
            for one in self._functions_of(tree, blob):
                if one.start_line <= start + WINDOW_LINES and one.end_line > start:
                    functions[f"{blob.path}:{one.name}"] = None
        return Ranking(tuple(files), tuple(functions)[:FUNCTIONS])

    def _take_in(self, tree: GitTree, candidates: Sequence[Blob]) -> None:
        kept = {(blob.path, blob.sha) for blob in candidates}
        self._held = {key: held for key, held in self._held.items() if key in kept}
        self._functions = {key: held for key, held in self._functions.items() if key in kept}
        new = [blob for blob in candidates if (blob.path, blob.sha) not in self._held]
        cut = [(blob, windows(blob.path, tree.read(blob.path))) for blob in new]
        texts = [text for _, pieces in cut for _, text in pieces]
        vectors = self._encode(texts).astype(np.float16) if texts else np.zeros((0, 1), np.float16)
        at = 0
        for blob, pieces in cut:
            held = vectors[at : at + len(pieces)]
            at += len(pieces)
            if len(pieces):
                self._held[(blob.path, blob.sha)] = ([start for start, _ in pieces], held)
            else:
                self._held[(blob.path, blob.sha)] = (
                    [],
                    np.zeros((0, self._encode([""]).shape[1]), np.float16),
                )

    def _functions_of(self, tree: GitTree, blob: Blob) -> list[Function]:
        held = self._functions.get((blob.path, blob.sha))
        if held is None:
            held = self._functions[(blob.path, blob.sha)] = functions_of(tree.read(blob.path))
        return held


def windows(path: str, content: bytes) -> list[tuple[int, str]]:
    """Each window's first line, counted from 0, and its text below the file's path. None for an empty file."""
    lines = content.decode("utf-8", "replace").split("\n")
    cut = (
        (start, "\n".join(lines[start : start + WINDOW_LINES]))
        for start in range(0, len(lines), WINDOW_LINES)
    )
    shown = path.encode("utf-8", "replace").decode("utf-8")
    return [(start, f"{shown}\n{text}") for start, text in cut if text.strip()]
