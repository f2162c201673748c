"""Finds the definitions of a file in its syntax tree: one row for each language, over its tree-sitter grammar.

Knows no sizes and keeps nothing. A tree with errors gives what it holds; a file that would take long to parse gives
nothing. Grammars are loaded when the first file in their language comes. What one takes of memory is not limited here: the
service has all of this done in a process apart (`apart.py`).
"""

from __future__ import annotations

import importlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cache
from pathlib import PurePosixPath

from tree_sitter import Language, Node, Parser, Tree

SIGNATURE = 160
"""So much is kept of a definition's first lines."""
_NAME = 120
_LEAD_LINES = 200
_MAX_NODES = 100_000
_READ_AT_ONCE = 1 << 10  # small, since a grammar's own scanner can be stopped only where it reads on
_SECONDS = 0.2
_SECONDS_PER_BYTE = 1.5e-6  # sound programs take a fifth of it
_HUNDREDS = 20
_HUNDREDS_PER_BYTE = 0.025
"""Hundreds of the parser's steps, each of which it tells of: of three thousand sound files none took more than 0.022 a byte. Who
takes more follows several readings of the same text at once, and lists all their combinations at its end, in one step that nothing
can stop: ten kilobytes of `x => ` took C's parser 1.4 gigabytes, and twenty took 4.6."""
_WRAPPED = 3  # calls around a function that still are its definition
_LONG_FUNCTION = 80  # lines; in JavaScript a longer one is mostly a module in disguise

Seen = tuple[str, Sequence[Node]]
"""The name of what a node defines, if it does, and the nodes to look at inside of it."""


@dataclass(frozen=True, slots=True)
class Definition:
    """Lines `start` (with its comments and decorators) to `end` (exclusive), 0-based. The definitions of a file come in
    the order of their starts, an enclosing one before those inside of it. `name` is not qualified by what is around."""

    name: str
    start: int
    end: int
    signature: str


@dataclass(frozen=True, slots=True)
class Row:
    """A language. Kinds are those of the grammar's node-types.json."""

    grammar: str
    leaves: frozenset[str]
    """Definitions that are not looked into."""
    holders: frozenset[str]
    """Definitions that hold others."""
    through: frozenset[str]
    """What may hold definitions and is none."""
    lead: re.Pattern[str]
    """Lines that belong to the definition below them."""
    special: Mapping[str, Callable[[Node, str], Seen]] = field(default_factory=dict)
    function: str = "language"


Structure = Callable[[str, Sequence[str]], Sequence[Definition] | None]
"""Finds a file's definitions as `definitions` does."""


def definitions(path: str, lines: Sequence[str]) -> list[Definition] | None:
    """None where the language is not known, or the file's structure cannot be found in reasonable time."""
    row = _row(path, lines)
    if row is None:
        return None
    source = "\n".join(lines)
    tree = _parsed(row, _plain(source))
    return None if tree is None else _found(row, tree, lines, source)


def answered(request: bytes) -> bytes:
    """`definitions` in bytes, for `embeddings/apart.py`: what is asked and what is answered is JSON."""
    path, lines = json.loads(request)
    found = definitions(path, lines)
    return json.dumps(None if found is None else [astuple(one) for one in found]).encode("ascii")


def known(path: str, lines: Sequence[str]) -> bool:
    """Whether the file's language is one of ours."""
    return _row(path, lines) is not None


def _row(path: str, lines: Sequence[str]) -> Row | None:
    pure = PurePosixPath(path)
    name = _SUFFIXES.get(pure.suffix.lower()) or _NAMES.get(pure.name)
    if name is None and not pure.suffix and lines[0].startswith("#!"):
        said = _INTERPRETER.match(lines[0][:SIGNATURE])
        name = _INTERPRETERS.get(said[1]) if said else None
    return None if name is None else _ROWS[name]


_INTERPRETER = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-S\s+)?)?(?:\S*/)?([a-z]+)")


# --- parsing ---------------------------------------------------------------------------------------------------------


class _Parsers(threading.local):
    """A parser is for one thread at a time."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, str], Parser] = {}


_PARSERS = _Parsers()


@cache
def _language(grammar: str, function: str) -> Language:
    return Language(getattr(importlib.import_module(f"tree_sitter_{grammar}"), function)())


def _plain(text: str) -> bytes:
    """A byte for each character, so that bytes are places in the text. Grammars' own scanners have crashed on characters
    beyond ASCII, and for a file's structure any letter does as well."""
    if not text.isascii():
        text = _NOT_ASCII_SPACE.sub(" ", text)
        text = _NOT_ASCII.sub("x", text)
    return text.replace("\0", " ").encode("ascii")


_NOT_ASCII_SPACE = re.compile(r"(?![\x00-\x7f])\s")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def _parsed(row: Row, source: bytes) -> Tree | None:
    key = (row.grammar, row.function)
    if key not in _PARSERS.of:
        _PARSERS.of[key] = Parser(_language(*key))
    parser = _PARSERS.of[key]
    until = time.thread_time() + _SECONDS + len(source) * _SECONDS_PER_BYTE
    hundreds = 0

    def late() -> bool:
        return time.thread_time() > until

    def stopped(at: int, _errors: bool) -> bool:
        nonlocal hundreds
        hundreds += 1
        return hundreds > _HUNDREDS + at * _HUNDREDS_PER_BYTE or late()

    def read(at: int, _point: object) -> bytes:
        return b"" if late() else source[at : at + _READ_AT_ONCE]

    try:
        tree = parser.parse(read, encoding="utf8", progress_callback=stopped)
    except ValueError:  # stopped
        parser.reset()
        return None
    return None if late() else tree


# --- walking ---------------------------------------------------------------------------------------------------------


def _found(row: Row, tree: Tree, lines: Sequence[str], source: str) -> list[Definition]:
    out: list[Definition] = []
    waiting: list[tuple[Node, int]] = [(child, -1) for child in reversed(tree.root_node.named_children)]
    for _ in range(_MAX_NODES):
        if not waiting:
            break
        node, begun = waiting.pop()
        begun = node.start_point.row if begun < 0 else begun
        name, inner = _seen(row, node, source)
        if name:
            end = _end(row, node, lines)
            start = _with_lead(row, lines, begun, out[-1].start if out else -1)
            if end > start:
                out.append(Definition(name, start, end, _signature(row, node, lines, source)))
            begun = -1
        waiting.extend(reversed(_begun(node, inner, begun)))
    return out


def _begun(node: Node, inner: Sequence[Node], begun: int) -> list[tuple[Node, int]]:
    """The first definition inside of `export ...` or `template <...>` begins where that does."""
    if node.type not in _WRAPPERS or not inner:
        return [(child, -1) for child in inner]
    out = []
    for child in inner:
        out.append((child, begun))
        if child.type not in _BEFORE:
            begun = -1
    return out


_WRAPPERS = frozenset(
    [
        "export_statement", "ambient_declaration", "decorated_definition", "lexical_declaration", "variable_declaration",
        "expression_statement", "template_declaration", "type_declaration", "declaration", "type_definition",
        "assignment_expression",
    ]
)  # fmt: skip
_BEFORE = frozenset(
    ["decorator", "comment", "template_parameter_list", "storage_class_specifier", "type_qualifier"]
)


def _seen(row: Row, node: Node, source: str) -> Seen:
    kind = node.type
    if kind in row.special:
        return row.special[kind](node, source)
    if kind in _WITH_BODY and _body(node) is None:
        return "", ()
    if kind in row.leaves:
        return _named(node, source), ()
    if kind in row.holders:
        return _named(node, source), node.named_children
    if kind in row.through or kind == "ERROR":
        return "", node.named_children
    return "", ()


def _with_lead(row: Row, lines: Sequence[str], start: int, after: int) -> int:
    for _ in range(_LEAD_LINES):
        if start - 1 <= after or not row.lead.match(lines[start - 1]):
            break
        start -= 1
    return start


def _end(row: Row, node: Node, lines: Sequence[str]) -> int:
    end = node.end_point.row + (node.end_point.column > 0)
    if row.grammar == "python":  # comments after a body are not its
        while end > node.start_point.row + 1 and lines[end - 1].lstrip()[:1] in ("", "#"):
            end -= 1
    return end


def _signature(row: Row, node: Node, lines: Sequence[str], source: str) -> str:
    body = _body(node)
    if row.grammar == "python":
        first = (
            next((child for child in body.named_children if child.type != "comment"), None) if body else None
        )
        start = node.start_point.row
        return signature(lines[start : max(start + 1, first.start_point.row if first else 0)])
    end = body.start_byte if body else node.end_byte
    text = source[node.start_byte : min(end, node.start_byte + 4 * SIGNATURE)]
    told = _ANNOTATIONS.sub("", signature((text if body else text.split("\n", 1)[0]).split("\n")), count=1)
    return _OPENS.sub("", told)[:SIGNATURE]


_ANNOTATIONS = re.compile(r"^(?:(?:@(?!interface\b)[\w.]+(?:\([^()]*\))?|\[[^\[\]]*\])\s*)+(?=\S)")


_OPENS = re.compile(r"(?:\s*(?:\{|=>|=|:|\bdo))+$")


def signature(lines: Sequence[str]) -> str:
    """A definition's first lines as one, without its comments."""
    told = (line.strip() for line in lines[:_LEAD_LINES])
    return " ".join(line for line in told if line and not line.startswith(("#", "//")))[:SIGNATURE]


def _body(node: Node) -> Node | None:
    for name in ("value", "right"):
        node = node.child_by_field_name(name) or node
    inside = (child for child in node.named_children if child.type in _BODIES)
    return node.child_by_field_name("body") or next(inside, None)


_BODIES = frozenset(["function_body", "class_body", "enum_class_body"])
_WITH_BODY = frozenset(["function_declaration", "method_declaration"])
"""Without one they only promise something, and stand with their interface."""


# --- names -----------------------------------------------------------------------------------------------------------


def _text(node: Node | None, source: str) -> str:
    if node is None:
        return ""
    return source[node.start_byte : min(node.end_byte, node.start_byte + 2 * _NAME)]


def _clean(text: str) -> str:
    """Without type arguments and quotes, qualified with dots."""
    if "operator" not in text:
        for _ in range(4):
            text = re.sub(r"<[^<>]*>|\[[^\[\]]*\]", "", text)
    return " ".join(text.strip("\"'`: \n").replace("::", ".").replace("\\", ".").split())[:_NAME]


def _named(node: Node, source: str) -> str:
    return _clean(_text(node.child_by_field_name("name"), source)) or _FIXED.get(node.type, "")


_FIXED = {
    "init_declaration": "init",
    "deinit_declaration": "deinit",
    "subscript_declaration": "subscript",
    "secondary_constructor": "constructor",
    "companion_object": "Companion",
    "operator_declaration": "operator",
    "conversion_operator_declaration": "operator",
    "indexer_declaration": "this",
}


def _go_method(node: Node, source: str) -> Seen:
    receiver = _clean(_text(node.child_by_field_name("receiver"), source).strip("()"))
    held = re.search(r"(\w+)\s*$", receiver)
    return f"{held[1]}.{_named(node, source)}" if held else _named(node, source), ()


def _impl(node: Node, source: str) -> Seen:
    held = re.search(r"(\w+)\W*$", _clean(_text(node.child_by_field_name("type"), source)))
    return held[1] if held else "", node.named_children


def _declared(node: Node, source: str) -> str:
    """The name inside of C's declarators."""
    for _ in range(30):
        inner = node.child_by_field_name("declarator")
        if inner is None and node.type in ("reference_declarator", "parenthesized_declarator"):
            inner = next(iter(node.named_children), None)
        if inner is None:
            break
        node = inner
    return _clean(_text(node, source).removeprefix("::"))


def _c_function(node: Node, source: str) -> Seen:
    return _declared(node, source), ()


def _c_type(node: Node, source: str) -> Seen:
    """A struct or class that is laid out here, not only named."""
    body = node.child_by_field_name("body")
    return ("", ()) if body is None else (_named(node, source), body.named_children)


def _c_typedef(node: Node, source: str) -> Seen:
    held = node.child_by_field_name("type")
    laid_out = held is not None and held.child_by_field_name("body") is not None
    return (_declared(node, source), ()) if laid_out else ("", ())


_FUNCTIONS = frozenset(["arrow_function", "function_expression", "generator_function", "function"])
_TEST_CALLS = frozenset(
    ["describe", "it", "test", "suite", "context", "specify", "bench", "feature", "scenario"]
)


def _function(node: Node, source: str) -> Seen:
    return _named(node, source), _inside_function(node)


def _inside_function(node: Node) -> Sequence[Node]:
    long = node.end_point.row - node.start_point.row > _LONG_FUNCTION
    body = node.child_by_field_name("body")
    return body.named_children if long and body is not None and body.type == "statement_block" else ()


def _valued(name: str, value: Node | None) -> Seen:
    """`name = value`, `name: value`: a function, a class, or an object that holds some of them."""
    value = _unwrapped(value)
    if value is None:
        return "", ()
    if value.type in _FUNCTIONS:
        return name, _inside_function(value)
    if value.type == "class":
        return name, value.named_children
    if value.type == "object" and any(map(_holds_function, value.named_children)):
        return name, value.named_children
    return "", (value,)


def _unwrapped(value: Node | None) -> Node | None:
    """The function or object in `memo(forwardRef(...))`, `defineComponent({...})`; else the value itself."""
    inner = value
    for _ in range(_WRAPPED):
        if inner is None or inner.type != "call_expression":
            break
        arguments = inner.child_by_field_name("arguments")
        inner = next(iter(arguments.named_children), None) if arguments is not None else None
    return inner if inner is not None and inner.type in _FUNCTIONS | {"object"} else value


def _holds_function(node: Node) -> bool:
    if node.type == "method_definition":
        return True
    value = node.child_by_field_name("value")
    return value is not None and value.type in _FUNCTIONS


def _declarator(node: Node, source: str) -> Seen:
    return _valued(_named(node, source), node.child_by_field_name("value"))


def _pair(node: Node, source: str) -> Seen:
    return _valued(_clean(_text(node.child_by_field_name("key"), source)), node.child_by_field_name("value"))


def _field(node: Node, source: str) -> Seen:
    name = node.child_by_field_name("property") or node.child_by_field_name("name")
    return _valued(_clean(_text(name, source)), node.child_by_field_name("value"))


def _assignment(node: Node, source: str) -> Seen:
    name = _clean(_text(node.child_by_field_name("left"), source))
    name = re.sub(r"^(?:module\.)?exports\.?|^window\.|^globalThis\.", "", name).replace(".prototype", "")
    return _valued(name or "exports", node.child_by_field_name("right"))


def _export(node: Node, _source: str) -> Seen:
    value = node.child_by_field_name("value")
    return ("", node.named_children) if value is None else _valued("default", value)


def _call(node: Node, source: str) -> Seen:
    """`describe("...", () => {...})` is named by its text; other calls are looked through for their functions."""
    inside = node.child_by_field_name("arguments")
    arguments = inside.named_children if inside is not None else []
    called = re.split(r"\W", _text(node.child_by_field_name("function"), source), maxsplit=1)[0]
    functions = [argument for argument in arguments if argument.type in _FUNCTIONS]
    if functions and called in _TEST_CALLS and arguments[0].type in ("string", "template_string"):
        return _clean(_text(arguments[0], source)), _bodies(functions)
    held = node.child_by_field_name("function")
    return "", [*_bodies(functions), *([held] if held is not None and not functions else [])]


def _bodies(functions: Sequence[Node]) -> list[Node]:
    bodies = (function.child_by_field_name("body") for function in functions)
    return [child for body in bodies if body is not None for child in body.named_children]


def _called_function(node: Node, _source: str) -> Seen:
    """A function without a name that is called where it stands."""
    return "", _bodies([node])


def _ruby_call(node: Node, source: str) -> Seen:
    block = node.child_by_field_name("block")
    if block is None or block.type != "do_block":
        return "", node.named_children if node.child_by_field_name("arguments") is not None else ()
    inside = node.child_by_field_name("arguments")
    first = next(iter(inside.named_children), None) if inside is not None else None
    if first is not None and _text(node.child_by_field_name("method"), source) in _TEST_CALLS | {
        "task",
        "namespace",
    }:
        return _clean(_text(first, source)), block.named_children
    return "", block.named_children


# --- the table -------------------------------------------------------------------------------------------------------

_HASH = re.compile(r"\s*#")
_SLASHES = re.compile(r"\s*(?://|/\*|\*(?!\w*\s*=)|@\w|\[\w[^=]*\]\s*$|#\[)")


def _kinds(text: str) -> frozenset[str]:
    return frozenset(text.split())


_JAVASCRIPT: Mapping[str, Callable[[Node, str], Seen]] = {
    "function_declaration": _function,
    "generator_function_declaration": _function,
    "variable_declarator": _declarator,
    "pair": _pair,
    "field_definition": _field,
    "public_field_definition": _field,
    "assignment_expression": _assignment,
    "export_statement": _export,
    "call_expression": _call,
    "function_expression": _called_function,
    "arrow_function": _called_function,
}
_JAVASCRIPT_LEAVES = "method_definition interface_declaration type_alias_declaration enum_declaration"
_JAVASCRIPT_HOLDERS = "class_declaration abstract_class_declaration internal_module module"
_JAVASCRIPT_THROUGH = (
    "program class_body statement_block lexical_declaration variable_declaration expression_statement "
    "ambient_declaration if_statement else_clause try_statement parenthesized_expression unary_expression object "
    "return_statement sequence_expression"
)
_C_THROUGH = (
    "translation_unit preproc_if preproc_ifdef preproc_else preproc_elif preproc_elifdef linkage_specification "
    "declaration_list declaration namespace_definition template_declaration field_declaration export_declaration"
)
_C: Mapping[str, Callable[[Node, str], Seen]] = {
    "function_definition": _c_function,
    "type_definition": _c_typedef,
    "struct_specifier": _c_type,
    "union_specifier": _c_type,
    "class_specifier": _c_type,
    "enum_specifier": lambda node, source: (_c_type(node, source)[0], ()),
}

_ROWS: Mapping[str, Row] = {
    "python": Row(
        "python", _kinds("function_definition"), _kinds("class_definition"),
        _kinds(
            "module block decorated_definition if_statement elif_clause else_clause try_statement except_clause "
            "except_group_clause finally_clause with_statement for_statement while_statement match_statement case_clause"
        ),
        _HASH,
    ),
    "javascript": Row(
        "javascript", _kinds(_JAVASCRIPT_LEAVES), _kinds(_JAVASCRIPT_HOLDERS), _kinds(_JAVASCRIPT_THROUGH), _SLASHES,
        _JAVASCRIPT,
    ),
    "typescript": Row(
        "typescript", _kinds(_JAVASCRIPT_LEAVES), _kinds(_JAVASCRIPT_HOLDERS), _kinds(_JAVASCRIPT_THROUGH), _SLASHES,
        _JAVASCRIPT, "language_typescript",
    ),
    "tsx": Row(
        "typescript", _kinds(_JAVASCRIPT_LEAVES), _kinds(_JAVASCRIPT_HOLDERS), _kinds(_JAVASCRIPT_THROUGH), _SLASHES,
        _JAVASCRIPT, "language_tsx",
    ),
    "go": Row(
        "go", _kinds("function_declaration type_spec type_alias"), frozenset(), _kinds("source_file type_declaration"),
        _SLASHES, {"method_declaration": _go_method},
    ),
    "rust": Row(
        "rust", _kinds("function_item struct_item enum_item union_item macro_definition"),
        _kinds("trait_item mod_item"), _kinds("source_file declaration_list foreign_mod_item"), _SLASHES,
        {"impl_item": _impl},
    ),
    "java": Row(
        "java",
        _kinds("method_declaration constructor_declaration compact_constructor_declaration annotation_type_declaration"),
        _kinds("class_declaration interface_declaration enum_declaration record_declaration"),
        _kinds("program class_body interface_body enum_body enum_body_declarations"), _SLASHES,
    ),
    "kotlin": Row(
        "kotlin", _kinds("function_declaration secondary_constructor"),
        _kinds("class_declaration object_declaration companion_object"),
        _kinds("source_file class_body enum_class_body"), _SLASHES,
    ),
    "c": Row("c", _kinds("preproc_function_def"), frozenset(), _kinds(_C_THROUGH), _SLASHES, _C),
    "cpp": Row(
        "cpp", _kinds("preproc_function_def concept_definition"), frozenset(), _kinds(_C_THROUGH), _SLASHES, _C
    ),
    "c_sharp": Row(
        "c_sharp",
        _kinds(
            "method_declaration constructor_declaration destructor_declaration operator_declaration enum_declaration "
            "conversion_operator_declaration indexer_declaration delegate_declaration local_function_statement"
        ),
        _kinds("class_declaration interface_declaration struct_declaration record_declaration"),
        _kinds(
            "compilation_unit namespace_declaration file_scoped_namespace_declaration declaration_list global_statement "
            "preproc_if preproc_else preproc_elif"
        ),
        _SLASHES,
    ),
    "ruby": Row(
        "ruby", _kinds("method singleton_method"), _kinds("class module"),
        _kinds("program body_statement singleton_class if unless argument_list"), _HASH, {"call": _ruby_call},
    ),
    "php": Row(
        "php", _kinds("function_definition method_declaration"),
        _kinds("class_declaration interface_declaration trait_declaration enum_declaration"),
        _kinds("program declaration_list enum_declaration_list namespace_definition compound_statement if_statement"),
        re.compile(r"\s*(?://|/\*|\*|#)"), {}, "language_php",
    ),
    "swift": Row(
        "swift",
        _kinds("function_declaration init_declaration deinit_declaration subscript_declaration macro_declaration"),
        _kinds("class_declaration protocol_declaration"), _kinds("source_file class_body enum_class_body"), _SLASHES,
    ),
    "bash": Row("bash", _kinds("function_definition"), frozenset(), _kinds("program if_statement else_clause"), _HASH),
}  # fmt: skip

_SUFFIXES = {
    suffix: name
    for name, suffixes in {
        "python": ".py .pyi .pyw",
        "javascript": ".js .mjs .cjs .jsx",
        "typescript": ".ts .mts .cts",
        "tsx": ".tsx",
        "go": ".go",
        "rust": ".rs",
        "java": ".java",
        "kotlin": ".kt .kts",
        "c": ".c",
        "cpp": ".h .cc .cpp .cxx .c++ .hh .hpp .hxx .h++ .ipp .tpp .inl .cu .cuh .ino",
        "c_sharp": ".cs .csx",
        "ruby": ".rb .rake .gemspec .ru",
        "php": ".php .phtml",
        "swift": ".swift",
        "bash": ".sh .bash .zsh",
    }.items()
    for suffix in suffixes.split()
}
_NAMES = {"Rakefile": "ruby", "Gemfile": "ruby", "Podfile": "ruby", "Fastfile": "ruby", "Vagrantfile": "ruby"}
_INTERPRETERS = {
    "python": "python",
    "node": "javascript",
    "ruby": "ruby",
    "php": "php",
    "sh": "bash",
    "bash": "bash",
    "zsh": "bash",
    "dash": "bash",
    "ksh": "bash",
}
