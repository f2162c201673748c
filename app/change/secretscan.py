"""Finds what looks like a key or a password in added text. Linear in the text's length (RE2)."""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from contextlib import suppress
from functools import cache

import re2

# Where a provider has published the form of its keys, that form; the group is the secret itself.
_FORMS: tuple[tuple[str, str], ...] = (
    ("a private key", r"(-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)"),
    ("an AWS access key", r"\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b"),
    # Installation tokens have about 520 characters since 2026, dots among them, so no length is assumed.
    ("a GitHub token", r"\b(gh[pousr]_[A-Za-z0-9._-]{36,})"),
    ("a GitHub token", r"\b(github_pat_[A-Za-z0-9_]{36,})"),
    ("a GitLab token", r"\b(gl(?:pat|ptt|dt|rt|cbt|soat)-[A-Za-z0-9_-]{20,})"),
    ("a Slack token", r"\b(xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,})"),
    ("a Slack webhook", r"(https://hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,})"),
    ("a Google API key", r"\b(AIza[A-Za-z0-9_-]{35})"),
    ("a Google OAuth secret", r"\b(GOCSPX-[A-Za-z0-9_-]{24,})"),
    ("a Stripe key", r"\b((?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{24,})"),
    ("an Anthropic key", r"\b(sk-ant-[A-Za-z0-9_-]{20,})"),
    ("an OpenAI key", r"\b(sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}|sk-[A-Za-z0-9]{40,})"),
    ("a Google access token", r"\b(ya29\.[A-Za-z0-9_-]{30,})"),
    ("a Hugging Face token", r"\b(hf_[A-Za-z0-9]{34,})"),
    ("a Groq key", r"\b(gsk_[A-Za-z0-9]{40,})"),
    ("an xAI key", r"\b(xai-[A-Za-z0-9]{60,})"),
    ("a DigitalOcean token", r"\b(do[opr]_v1_[a-f0-9]{64})\b"),
    ("a Databricks token", r"\b(dapi[a-f0-9]{32})\b"),
    ("a Shopify token", r"\b(shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32})\b"),
    ("a Vault token", r"\b(hv[sb]\.[A-Za-z0-9_-]{24,})"),
    ("a Docker token", r"\b(dckr_(?:pat|oat)_[A-Za-z0-9_-]{27,})"),
    ("a Linear key", r"\b(lin_api_[A-Za-z0-9]{40})\b"),
    ("an Atlassian token", r"\b(ATATT3[A-Za-z0-9_=-]{50,})"),
    ("a RubyGems key", r"\b(rubygems_[a-f0-9]{48})\b"),
    ("a Telegram token", r"\b([0-9]{8,10}:AA[A-Za-z0-9_-]{33})\b"),
    ("an Azure storage key", r"AccountKey=([A-Za-z0-9+/]{86}==)"),
    ("an age key", r"\b(AGE-SECRET-KEY-1[0-9A-Z]{58})\b"),
    ("an npm token", r"\b(npm_[A-Za-z0-9]{36})\b"),
    ("a PyPI token", r"\b(pypi-AgE[A-Za-z0-9_-]{50,})"),
    ("a SendGrid key", r"\b(SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43})"),
    ("a JSON Web Token", r"\b(eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,})"),
)
# Names and stars in place of a password are how documents write it, so only one with letters and digits counts.
_IN_URL = r"\b[a-z][a-z0-9+.-]{1,20}://[^/\s:@'\"{}$<>]{1,64}:([^/\s:@'\"{}$<>]{8,200})@([A-Za-z0-9.-]+)"
_LOCAL = ("localhost", "127.0.0.1")
_ASSIGNED = (
    r"(?i)(?:secret|token|passw(?:or)?d|passphrase|api[_-]?key|private[_-]?key|access[_-]?key|auth[_-]?key|credential)"
    r"[a-z0-9_-]{0,24}[\"'\]]{0,2}\s*(?::|=>?|:=)\s*[\"'`]([A-Za-z0-9+/=_.~-]{20,200})[\"'`]"
)
# Two strings that a program puts together: `"a" + "b"`, `"a" "b"` over two lines, `["a", "b"]`, `'a' . 'b'`.
_SEAM = re.compile(r"""["'`]\s{0,80}(?:[+.,&\\]|\.\.|\|\|)?\s{0,80}["'`]""")
_CONTINUED = re.compile(r"\\?\r?\n[ \t]{0,80}")
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})|\\u00([0-9a-fA-F]{2})")
_INVISIBLE = re.compile("[\u00ad\u034f\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{24,20000}={0,2}")
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]+")
_PLACEHOLDERS = (
    "example", "dummy", "placeholder", "changeme", "change-me", "redacted", "your", "fake", "sample", "xxxx",
)  # fmt: skip
_LONGEST_PLACEHOLDER = 64
# In bits a character: English words joined together stay near 3.2, random base64 is above 4.
_LEAST_ENTROPY = 3.5
_LEAST_HEXADECIMAL_ENTROPY = 3.0
_LEAST_URL_ENTROPY = 2.8


def disguised(text: str) -> list[tuple[str, str]]:
    """As `find`, of keys whose form a provider has published and that are cut into several strings, written as escapes, spread
    with invisible characters, or encoded once in base64 or hexadecimal. The second is the key as it would be used."""
    whole = _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), _INVISIBLE.sub("", text))
    views = [_SEAM.sub("", whole), _SEAM.sub("", _CONTINUED.sub("", whole))]
    views.append("\n".join(one for encoded in _ENCODED.findall(views[0]) for one in _decoded(encoded)))
    return [
        (name, match.group(1))
        for view in dict.fromkeys(views)
        for name, form in _FORMS
        for match in _form(form).finditer(view)
        if not _is_placeholder(match.group(1))
    ]


def redacted(text: str) -> str:
    """The text with a note in the place of each thing that `find` takes for a key."""
    for what, secret in find(text):
        text = text.replace(secret, f"({what.removeprefix('a ').removeprefix('an ')} removed)")
    return text


def find(text: str) -> list[tuple[str, str]]:
    """(what it looks like, the secret) for each finding, in order. The second must go nowhere but a comparison."""
    found = [(name, match.group(1)) for name, form in _FORMS for match in _form(form).finditer(text)]
    found = [(name, secret) for name, secret in found if not _is_placeholder(secret)]
    for match in _form(_IN_URL).finditer(text):
        if match.group(2) not in _LOCAL and _looks_random(match.group(1), _LEAST_URL_ENTROPY):
            found.append(("a password in a URL", match.group(1)))
    assigned = (match.group(1) for match in _form(_ASSIGNED).finditer(text))
    return found + [("a password or key", secret) for secret in assigned if _looks_random(secret)]


def _decoded(encoded: str) -> list[str]:
    found = []
    if len(encoded) % 2 == 0 and _HEXADECIMAL.fullmatch(encoded):
        found.append(bytes.fromhex(encoded))
    padded = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    with suppress(ValueError):
        found.append(base64.b64decode(padded + "=" * (-len(padded) % 4)))
    return [one.decode("latin-1") for one in found]


def _is_placeholder(secret: str) -> bool:
    # A long random token holds a short word by chance now and then; nobody writes a placeholder that long.
    words = _PLACEHOLDERS if len(secret) <= _LONGEST_PLACEHOLDER else ()
    return any(word in secret.lower() for word in words) or len(set(secret[-16:])) <= 3


def _looks_random(secret: str, least: float = _LEAST_ENTROPY) -> bool:
    if (
        _is_placeholder(secret)
        or not any(c.isdigit() for c in secret)
        or not any(c.isalpha() for c in secret)
    ):
        return False
    counts = Counter(secret)
    entropy = -sum(n / len(secret) * math.log2(n / len(secret)) for n in counts.values())
    hexadecimal = all(c in "0123456789abcdefABCDEF-" for c in secret)  # 16 digits stay below the other bound
    return entropy >= (min(_LEAST_HEXADECIMAL_ENTROPY, least) if hexadecimal else least)


@cache
def _form(pattern: str) -> re2._Regexp:
    return re2.compile(pattern)
