"""Cuts prose and code into the same terms: identifiers whole and in their parts, lower-cased, without the words that
every file has. Linear in the text, whatever it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator

VERSION = "1"
"""Changes with the rules below: terms of two versions must not be compared."""

MAX_TERMS = 200_000
"""Of one text; what follows is not read."""

_TOKEN = re.compile(r"\w+")
_LONGEST = 80  # longer "words" are hashes, base64 and the like
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_NUMBER = 3  # digits from which a number tells something (404, 1024)

_ENGLISH = (
    "a about above after again all also although always am an and any anyone anything are as at be became because "
    "been before being below better between both but by can cannot could did do does doing done down each either etc "
    "even ever every expected few for found from further get gets getting go goes going got had happen happens has "
    "have having he hello help hence her here hi how however if in instead into is issue it its itself just know let "
    "like look looks made make makes making many may maybe me might more most much must my need needs never no nor "
    "not nothing now of off often ok on once one only onto or other others our out over own per perhaps please "
    "possible probably problem problems quite rather really said same say says see seem seems seen shall she should "
    "show shows since so some someone something still such sure tell than thank thanks that the their them then "
    "there these they thing things this those though through thus to too try trying under until up upon us use used "
    "uses using very via want wants was way we well were what when where whether which while who whole why will with "
    "within without wont work working works would wrong yes yet you your"
)
_CODE = (
    "self cls def class return import elif else try except finally raise pass lambda none true false null nil void "
    "var let const function func fn pub mut impl struct public private protected static final new this super extends "
    "implements package namespace export default async await yield int str bool float args kwargs isinstance len "
    "print println fmt err end begin then fi esac echo www com org html"
)
STOP_WORDS = frozenset((_ENGLISH + " " + _CODE).split())


def terms(text: str) -> list[str]:
    """The terms of a text in its order, repeated as they are repeated. `readHTTPFiles` gives `readhttpfiles`, `read`,
    `http`, `file`; `files` gives `file`."""
    known: dict[str, tuple[str, ...]] = {}
    out: list[str] = []
    for token in _TOKEN.finditer(text):
        word = token[0]
        split = known.get(word)
        if split is None:
            split = known[word] = tuple(_of(word))
        out.extend(split)
        if len(out) >= MAX_TERMS:
            return out[:MAX_TERMS]
    return out


def _of(word: str) -> Iterator[str]:
    if len(word) > _LONGEST:
        return
    whole = word.strip("_").lower()
    parts = [part.lower() for part in (_PART.findall(word) if word.isascii() else word.split("_"))]
    if len(parts) > 1 and len(whole) > 2 and whole not in STOP_WORDS:
        yield whole
    for part in parts:
        if part.isdigit():
            if len(part) >= _NUMBER:
                yield part
        elif len(part) > 1 and part not in STOP_WORDS:
            one = _singular(part)
            if one not in STOP_WORDS:
                yield one


def _singular(word: str) -> str:
    """Without the plural's ending; the result need not be a word, only the same for both."""
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    return word[:-1]
