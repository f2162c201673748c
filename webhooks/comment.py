"""Reads a comment: which of its words are meant for the App, and what they ask for. Pure, and linear in the text.

It does not read what GitHub shows as code, quotation, link, struck-out text or nothing at all, and it never guesses
at a word that merely looks like a verb.

The grammar, after `@slug` (or `@slug[bot]`), ASCII letters in either case:

- A verb asks for it: `@magicode explain why the cache is cold`. Politeness before it is skipped (`please`, `can you`).
- `delete`, `undo`, `export` and `go` are verbs only when nothing else follows than words such as `my data` or `this`, or
  when a sentence ends there: `@magicode delete the unused import` is a wish about code, not about data.
- `delete octo-org` names an account: one word that can be a login, and nothing beside it in its paragraph but courtesy. The
  words are then the name alone. Whether there is such an account is not known here; anything longer is a wish about code.
- `settings`, `logs`, `export` and `delete` take what follows on their own line, without the sentence's end.
- Other words ask for the plain verb, where the mention begins a sentence or stands after a greeting. Inside a sentence
  (`I think @magicode broke it`) they ask for nothing and are answered with help.
- `up to $3`, `up to 3 USD` among the words that follow set a cost limit and are taken out of the words.
- The mention alone is answered with help; thanks alone are not answered at all.
- Of several mentions the first with a verb counts, else the first with plain words, else a near miss, else help.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

from webhooks.command import Ask, Verb

# What GitHub's renderer puts into elements in which it links no mention, plus elements that quote or strike out.
_SILENT_ELEMENTS = frozenset(
    (
        "blockquote",
        "pre",
        "code",
        "samp",
        "kbd",
        "tt",
        "a",
        "q",
        "s",
        "del",
        "strike",
        "script",
        "style",
        "textarea",
        "title",
    )
)
_LINE_ELEMENTS = frozenset(
    (
        "br",
        "hr",
        "img",
        "p",
        "div",
        "li",
        "ul",
        "ol",
        "td",
        "th",
        "tr",
        "table",
        "summary",
        "details",
        "h1",
        "h2",
        "h3",
        "h4",
    )
)
_TAG = re.compile(r"""<(?P<close>/?)(?P<name>[a-zA-Z][a-zA-Z0-9-]*)(?:"[^"]*"|'[^']*'|[^'"<>])*>""", re.ASCII)
_SKIPPED = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"), ("<!", ">"))
_SILENT_OPEN = frozenset({"blockquote_open", "link_open", "s_open"})
_SILENT_CLOSE = frozenset({"blockquote_close", "link_close", "s_close"})

_GREETING = re.compile(
    r"(?:^|[\s>])(?:hey|hi|hello|ok|okay|so|and|please|pls|dear|yo|now|then|(?<![\w@])@[\w-]+(?:\[bot\])?)\s*\Z",
    re.IGNORECASE | re.ASCII,
)
_POLITE = re.compile(
    r"(?:(?:please|pls|plz|kindly|now|just|hey|hi|hello|can you|could you|would you|will you)\b[\s,]*)+",
    re.IGNORECASE | re.ASCII,
)
_SEPARATORS = " \t\n\r,:;.!?-–—>*_/|\"'()"
_WORD = re.compile(r"[^\W\d_][\w'’-]*", re.UNICODE)
_WORDLIKE = re.compile(r"\w[\w'’-]*", re.UNICODE)
_COST = re.compile(
    r"[,;(]?\s?\b(?:for\s|at\s)?up\sto\s(?:"
    r"(?:US\s?)?\$\s?(?P<before>\d{1,9}(?:,\d{3}){0,2}(?:\.\d{1,4})?)(?:\s?(?:USD|dollars?)\b)?"
    r"|(?P<after>\d{1,9}(?:,\d{3}){0,2}(?:\.\d{1,4})?)\s?(?:\$|USD\b|US\sdollars?\b|dollars?\b|bucks\b)"
    r")(?!\w)\)?",
    re.IGNORECASE | re.ASCII,
)

_VERBS = tuple(str(verb) for verb in Verb)
_GUESSABLE = tuple(verb for verb in _VERBS if len(verb) > 2)  # `go` is one edit away from half of English
# What may follow a guarded verb; other words make it a wish about code.
_ANY = "a|again|all|and|at|everything|for|from|i|me|my|now|of|on|our|please|pls|thanks?|the|to|up|us|we|with|you|your"
_DATA = "data|stored|vectors?|records?|action|actions|log|logs|installation|repo|repository|repositories|about|hold|have|own"
_GUARDED = {
    Verb.DELETE: re.compile(f"(?:{_ANY}|{_DATA})", re.IGNORECASE),
    Verb.EXPORT: re.compile(f"(?:{_ANY}|{_DATA}|it|this)", re.IGNORECASE),
    Verb.UNDO: re.compile(
        f"(?:{_ANY}|it|this|that|last|changes?|commits?|pr|pull|request|run|work)", re.IGNORECASE
    ),
    Verb.GO: re.compile(f"(?:{_ANY}|it|this|that|ahead|plan|then)", re.IGNORECASE),
}
_ARGUED = frozenset({Verb.SETTINGS, Verb.LOGS, Verb.EXPORT, Verb.DELETE})
_SENTENCE_END = " \t.!?…,;:)"
# A login: https://docs.github.com/en/admin/managing-iam/iam-configuration-reference/username-considerations-for-external-authentication
_ACCOUNT = re.compile(
    r"[\s*_:]*(?P<at>@?)(?P<name>[a-z0-9][a-z0-9-]{0,99}(?:_[a-z0-9]{1,30})?)(?![\w@/\\-]|[.:'’=(]\S)",
    re.IGNORECASE | re.ASCII,
)
_COURTESY = re.compile("please|pls|plz|now|thanks?|thx|ty|you", re.IGNORECASE | re.ASCII)
_POINTING = re.compile("it|its|this|that|these|those|them|him|her", re.IGNORECASE | re.ASCII)
_THANKS = re.compile(
    "(?:a|and|appreciated|awesome|cool|done|excellent|fine|good|great|it|job|lgtm|lot|love|much|nice|ok|okay|perfect|so|super"
    "|thanks?|thx|ty|very|well|work|wow|yay|you)",
    re.IGNORECASE | re.ASCII,
)
# Ordinary words one edit away from a verb: near misses only when they stand alone.
_COMMON = re.compile(
    "fit|fox|heap|heal|hell|held|log|logo|mix|pix|plain|plane|plans?|plant|play|six|under|until",
    re.IGNORECASE | re.ASCII,
)
_SHORT_PROSE = 12  # words: more than these are never thanks alone
_LONGEST_ADDRESS = 2048  # characters
_LOOK_BACK = 64  # characters before a mention in which a greeting is looked for
_LOOK_AHEAD = 400  # characters after a mention in which politeness, verb and tail are looked for


_HELP = Ask(Verb.HELP)


def read(body: str, *, slug: str, plain: Verb = Verb.FIX, aside: Ask = _HELP) -> Ask | None:
    """What the comment asks `@slug` for; None when it does not speak to it.

    `plain` is what plain words mean here: FIX on an issue, REVISE on a pull request. `aside` is what a mention asks for
    that asks for nothing itself. Never raises on any text.
    """
    if not mentions(body, slug=slug):
        return None
    text = _readable(body)
    best: _Call | None = None
    for start, end in _mentions(text, slug):
        call = _call(text.characters, start, end)
        if call is not None and (best is None or call.rank < best.rank):
            best = call
        if best is not None and best.rank is _Rank.VERB:
            break
    return _ask(best, text.characters, plain, aside) if best else None


def mentions(body: str, *, slug: str) -> bool:
    """Whether `@slug` stands in it at all; only then is more of it read than this."""
    return f"@{slug}".lower() in body.lower()


# --- which characters are read ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Text:
    """A comment's words in order; `heard[i]` is 0 where a mention does not count."""

    characters: str
    heard: bytearray


@cache
def _parser() -> MarkdownIt:
    # text_join would merge `\@` and `&#64;` into the text around them, and hide that they were escaped.
    return MarkdownIt("commonmark").enable("strikethrough").disable("text_join")


class _Listener:
    """Walks the tokens and keeps the words, with a note of where mentions count."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._heard = bytearray()
        self._silent = 0
        self._silent_tags = 0

    def walk(self, tokens: Sequence[Token]) -> _Text:
        for token in tokens:
            if token.type == "inline":
                self._inline(token.children or [])
                self._add("\n\n", heard=False)
            elif token.type == "html_block":
                self._html(token.content)
                self._add("\n\n", heard=False)
            else:
                self._nest(token)
        return _Text("".join(self._pieces), self._heard)

    def _inline(self, children: Sequence[Token]) -> None:
        for token in children:
            if token.type == "text":
                self._say(token.content)
            elif token.type in ("softbreak", "hardbreak"):
                self._add("\n", heard=False)
            elif token.type in ("text_special", "code_inline"):
                self._add(token.content, heard=False)
            elif token.type == "html_inline":
                self._html(token.content)
            elif token.type == "image":
                self._add(" ", heard=False)
            else:
                self._nest(token)

    def _nest(self, token: Token) -> None:
        if token.type in _SILENT_OPEN:
            self._silent += 1
        elif token.type in _SILENT_CLOSE:
            self._silent -= 1

    def _html(self, html: str) -> None:
        """GitHub shows the words between tags, and links mentions there too."""
        at = 0
        while at < len(html):
            start = html.find("<", at)
            if start < 0:
                break
            self._say(html[at:start])
            tag = _TAG.match(html, start)
            if tag:
                self._tag(tag["name"].lower(), closes=bool(tag["close"]))
                at = tag.end()
            else:
                at = _skipped(html, start)
        self._say(html[at:])

    def _tag(self, name: str, *, closes: bool) -> None:
        if name in _SILENT_ELEMENTS:
            self._silent_tags = max(0, self._silent_tags + (-1 if closes else 1))
        self._add("\n" if name in _LINE_ELEMENTS else " ", heard=False)

    def _say(self, characters: str) -> None:
        self._add(characters, heard=self._silent == 0 and self._silent_tags == 0)

    def _add(self, characters: str, *, heard: bool) -> None:
        self._pieces.append(characters)
        self._heard += (b"\x01" if heard else b"\x00") * len(characters)


def _readable(body: str) -> _Text:
    return _Listener().walk(_parser().parse(body))


def _skipped(html: str, start: int) -> int:
    """Where to read on after a `<` that begins no tag: behind a comment or its like, else behind the `<` itself."""
    for opening, closing in _SKIPPED:
        if html.startswith(opening, start):
            end = html.find(closing, start + len(opening))
            return len(html) if end < 0 else end + len(closing)
    return start + 1


# --- where the App is spoken to --------------------------------------------------------------------------------------


def _mentions(text: _Text, slug: str) -> Iterator[tuple[int, int]]:
    """Start and end of each mention that counts: `@slug` as GitHub would link it, and nothing that resembles it."""
    pattern = re.compile(rf"@{re.escape(slug)}(?:\[bot\])?", re.IGNORECASE | re.ASCII)
    characters = text.characters
    for match in pattern.finditer(characters):
        start, end = match.span()
        if 0 in text.heard[start:end]:
            continue
        before = characters[start - 1] if start else " "
        if _joins(before) or before in "@/.+-_`=&%#~:" or _in_address(characters, start):
            continue
        if _goes_on(characters[end : end + 2]):
            continue
        yield start, end


def _joins(character: str) -> bool:
    """Letters, digits, marks and invisible characters of any script make one word with what they touch."""
    return unicodedata.category(character)[0] in "LNM" or unicodedata.category(character) in (
        "Cf",
        "Co",
        "Cn",
        "Cs",
        "Pc",
    )


def _goes_on(after: str) -> bool:
    if not after:
        return False
    if _joins(after[0]) or after[0] in "-@/`":
        return True
    # `@magicode.dev` is an address, `@magicode's` speaks about the App, `@magicode.` ends a sentence.
    return after[0] in ".'’:" and len(after) == 2 and _joins(after[1])


def _in_address(characters: str, start: int) -> bool:
    """Inside a bare web address, which GitHub links as a whole."""
    before = characters[max(0, start - _LONGEST_ADDRESS) : start]
    if not before or before[-1].isspace():
        return False
    run = before.rsplit(None, 1)[-1].lower()
    return "://" in run or run.startswith("www.") or "mailto" in run


# --- what is asked ---------------------------------------------------------------------------------------------------


class _Rank(IntEnum):
    """Of several mentions the one with the lowest rank counts, and of equals the first."""

    VERB = 0
    PLAIN = 1
    NEAR_MISS = 2
    HELP = 3


@dataclass(frozen=True, slots=True)
class _Call:
    """One mention that asks for something; `end` is where it ends, `word` the first word after it."""

    rank: _Rank
    end: int
    word: str = ""
    verb: Verb = Verb.HELP


def _call(text: str, start: int, end: int) -> _Call | None:
    """Judged by what is near, so that a comment full of mentions is still read in linear time."""
    ahead = text[end : end + _LOOK_AHEAD].lstrip(_SEPARATORS)
    word, rest, separated = _first_word(ahead)
    verb = _verb(word, rest, separated=separated)
    if verb is not None:
        return _Call(_Rank.VERB, end, word, verb)
    if _is_thanks(text, start, ahead):
        return None
    near = _near_miss(word, rest)
    if near is not None:
        return _Call(_Rank.NEAR_MISS, end, word, near)
    if ahead and _is_addressed(text, start):
        return _Call(_Rank.PLAIN, end)
    return _Call(_Rank.HELP, end)


def _ask(call: _Call, text: str, plain: Verb, aside: Ask) -> Ask:
    words, limit = _words(
        text[call.end :], after=call.word, verb=call.verb if call.rank is _Rank.VERB else None
    )
    match call.rank:
        case _Rank.VERB:
            return Ask(call.verb, words, limit)
        case _Rank.NEAR_MISS:
            return Ask(Verb.HELP, words, limit, near_miss=call.word, suggestion=call.verb)
        case _Rank.PLAIN if words:
            return Ask(plain, words, limit)
        case _:
            return aside


def _first_word(ahead: str) -> tuple[str, str, bool]:
    """The first word after politeness, what follows it, and whether a sentence ends with it."""
    polite = _POLITE.match(ahead)
    if polite:
        ahead = ahead[polite.end() :].lstrip(_SEPARATORS)
    match = _WORD.match(ahead)
    if match is None:
        return "", ahead, False
    rest = ahead[match.end() :]
    if rest[:1] in (".", "/", "(", "=") and (rest[1:2].isalnum() or rest[1:2] == ")"):
        return "", ahead, False  # `plan.md`, `retry()`: a file's or a function's name
    line = rest.lstrip(" \t*_")
    return match[0], rest, line[:1] in ".!;?—–" and not line[1:2].isalnum()


def _verb(word: str, rest: str, *, separated: bool) -> Verb | None:
    try:
        verb = Verb(word.lower()) if word.isascii() else None
    except ValueError:
        return None
    tail = _GUARDED.get(verb) if verb else None
    if verb is Verb.DELETE and _named(rest):
        return verb
    if tail and not separated and not _follows(tail, rest):
        return None
    return verb


def _follows(tail: re.Pattern[str], rest: str) -> bool:
    """Only words of `tail`, and perhaps a cost limit, stand in the rest of the paragraph."""
    line = _COST.sub(" ", _flat(rest.split("\n\n", 1)[0]))
    return all(tail.fullmatch(word) for word in _WORDLIKE.findall(line))


def _named(rest: str) -> str | None:
    """The account that `delete` names: the first word after it, where courtesy alone stands in the rest of the paragraph."""
    paragraph = _COST.sub(" ", rest.split("\n\n", 1)[0])
    match = _ACCOUNT.match(paragraph.split("\n", 1)[0])
    if match is None:
        return None
    if not match["at"] and (
        _POINTING.fullmatch(match["name"]) or _GUARDED[Verb.DELETE].fullmatch(match["name"])
    ):
        return None
    others = _WORDLIKE.findall(paragraph[match.end() :])
    return match["name"] if all(_COURTESY.fullmatch(word) for word in others) else None


def _near_miss(word: str, rest: str) -> Verb | None:
    lowered = word.lower()
    if not 2 < len(lowered) <= 12 or not lowered.isascii() or lowered in _VERBS:
        return None
    alone = _WORD.search(rest.split("\n\n", 1)[0]) is None
    if _COMMON.fullmatch(lowered) and not alone:
        return None
    for candidate in difflib.get_close_matches(lowered, _GUESSABLE, n=3, cutoff=0.5):
        if _distance(lowered, candidate) <= (2 if alone or len(candidate) >= 6 else 1):
            return Verb(candidate)
    return None


def _distance(a: str, b: str) -> int:
    """Edits between two short words: a letter put in, left out, changed, or two neighbours swapped."""
    before_last: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before_last[j - 2] + 1)
            row.append(cost)
        before_last, last = last, row
    return last[-1]


def _is_addressed(text: str, start: int) -> bool:
    """The mention begins a sentence, a line or a list item, or stands after a greeting."""
    before = text[max(0, start - _LOOK_BACK) : start]
    line = before.rsplit("\n", 1)[-1].rstrip(" \t*_|")
    return not line or line[-1] in '.!?:;,—–-(["' or _GREETING.search(line) is not None


def _is_thanks(text: str, start: int, ahead: str) -> bool:
    """The mention's own line holds thanks and praise, and nothing that asks."""
    before = text[max(0, start - _LOOK_BACK) : start].rsplit("\n", 1)[-1]
    words = _WORD.findall(before + " " + ahead.split("\n", 1)[0])
    return 0 < len(words) <= _SHORT_PROSE and all(_THANKS.fullmatch(word) for word in words)


def _words(after_mention: str, *, after: str, verb: Verb | None) -> tuple[str, Decimal | None]:
    """The words that follow the mention (and `after`, the word it begins with), flattened, without the cost limit; and the
    limit. Of a verb that takes arguments, those of its own line, and where it names an account, the name."""
    rest = after_mention.lstrip(_SEPARATORS)
    if after:
        rest = rest[rest.index(after) + len(after) :]
    if verb not in _ARGUED:
        return _without_limit(_flat(rest.lstrip(_SEPARATORS)))
    words, limit = _without_limit(_flat(rest.split("\n", 1)[0].lstrip(_SEPARATORS)))
    name = _named(rest) if verb is Verb.DELETE else None
    return name or words.rstrip(_SENTENCE_END), limit


def _without_limit(flat: str) -> tuple[str, Decimal | None]:
    match = _COST.search(flat)
    if match is None:
        return flat, None
    amount = match["before"] or match["after"]
    words = (flat[: match.start()] + " " + flat[match.end() :]).strip(" ,;")
    return _flat(words), Decimal(amount.replace(",", ""))


def _flat(text: str) -> str:
    return " ".join(text.split())
