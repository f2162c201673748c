"""A receipt holds as it was given, and in no other form."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.custody.receipt import (
    Destroyed,
    NotAPublicKeyError,
    NotAReceiptError,
    Signer,
    fingerprint,
    read_public_keys,
    read_receipt,
    receipt,
    verify,
)

AT = datetime(2027, 1, 31, 9, 30, tzinfo=UTC)
SIGNER = Signer(bytes(range(32)))


def facts(**other: Any) -> Destroyed:
    given: dict[str, Any] = {
        "installation_id": 7,
        "github_id": 70,
        "account_id": 700,
        "erasure_id": UUID(int=5),
        "reason": "asked",
        "asked_at": AT,
        "closed_at": AT + timedelta(seconds=1),
        "searched_at": AT + timedelta(seconds=3),
        "rows": {"entries": 12, "runs": 3},
        "vectors": 400,
        "objects": 1,
        "jobs": 2,
        "master_key_id": "file:1234",
        "wrapped_sha256": "ab" * 32,
        "log_head": "13:" + "cd" * 32,
        "found": {"entries": 0, "runs": 0, "vectors": 0, "objects": 0, "jobs": 0},
    }
    return Destroyed(**(given | other))


SIGNED = SIGNER.sign(receipt(facts()))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*path, name)
        yield from places(one, (*path, name))


PLACES = list(places(SIGNED))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        document = document[name]
    return document


def same(one: Any, other: Any) -> bool:
    """As JSON: `1`, `1.0` and `true` are equal in Python."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_a_receipt_as_it_was_given_holds() -> None:
    found = verify(read_receipt(json.dumps(SIGNED, indent=2)), [SIGNER.public_key])
    assert found.ok
    assert found.key_known
    assert found.fingerprint == fingerprint(SIGNER.public_key)


@given(st.sampled_from(PLACES), values)
def test_a_change_in_any_place_is_found(path: tuple[Any, ...], value: Any) -> None:
    changed = copy.deepcopy(SIGNED)
    if same(at(changed, path), value):
        return
    at(changed, path[:-1])[path[-1]] = value
    assert not verify(changed).ok
    assert not verify(changed, [SIGNER.public_key]).ok


@given(st.sampled_from(PLACES))
def test_what_is_taken_out_in_any_place_is_found(path: tuple[Any, ...]) -> None:
    changed = copy.deepcopy(SIGNED)
    del at(changed, path[:-1])[path[-1]]
    assert not verify(changed).ok


@given(st.sampled_from([(), *PLACES]), st.text(min_size=1, max_size=5), values)
def test_what_is_added_in_any_place_is_found(path: tuple[Any, ...], name: str, value: Any) -> None:
    changed = copy.deepcopy(SIGNED)
    into = at(changed, path)
    if isinstance(into, dict) and name not in into:
        into[name] = value
    elif isinstance(into, list):
        into.append(value)
    else:
        return
    assert not verify(changed).ok


def test_every_character_that_is_changed_in_the_file_is_found() -> None:
    whole = json.dumps(SIGNED)
    for place, character in enumerate(whole):
        other = chr((ord(character) - 32 + 1) % 95 + 32)
        try:
            found = read_receipt(whole[:place] + other + whole[place + 1 :])
        except NotAReceiptError:
            continue
        assert same(found, SIGNED) or not verify(found).ok, place


def test_a_receipt_that_another_signs_fits_its_own_key_and_not_the_services() -> None:
    forged = Signer(bytes(32)).sign(receipt(facts(vectors=0)))
    alone = verify(forged)
    assert alone.ok
    assert not alone.key_known
    assert alone.fingerprint != fingerprint(SIGNER.public_key)
    assert not verify(forged, [SIGNER.public_key]).ok


def test_a_signature_written_otherwise_is_none() -> None:
    assert not verify({**SIGNED, "signature": str(SIGNED["signature"]).upper()}).ok
    assert not verify({**SIGNED, "signature": f" {SIGNED['signature']}"}).ok


def test_a_name_that_stands_twice_is_no_receipt() -> None:
    whole = json.dumps(SIGNED)
    with pytest.raises(NotAReceiptError):
        read_receipt(whole.replace('"reason":', '"reason": "operator", "reason":'))


def test_a_signed_receipt_that_found_something_does_not_hold() -> None:
    assert not verify(SIGNER.sign(receipt(facts(found={"runs": 1})))).ok
    assert not verify(SIGNER.sign(receipt(facts(found={})))).ok
    assert not verify(SIGNER.sign({**receipt(facts()), "searched_again": [1]})).ok


def test_a_receipt_is_read_out_of_the_comment_that_holds_it() -> None:
    comment = f"**Deleted.**\n\n```text\nno\n```\n\n```json\n{json.dumps(SIGNED, indent=2)}\n```\n\nthe end"
    assert verify(read_receipt(comment), [SIGNER.public_key]).ok
    assert verify(read_receipt(comment.replace("\n", "\r\n")), [SIGNER.public_key]).ok


@given(st.text())
def test_any_other_text_is_no_receipt(text: str) -> None:
    with pytest.raises(NotAReceiptError):
        read_receipt(text)


@given(st.text())
def test_any_other_text_is_no_key(text: str) -> None:
    with pytest.raises(NotAPublicKeyError):
        read_public_keys(text)


def test_keys_are_read_from_hexadecimal_and_from_what_the_service_publishes() -> None:
    published = json.dumps(SIGNER.keys_document())
    assert list(read_public_keys(published)) == [SIGNER.public_key]
    assert list(read_public_keys(f" {SIGNER.public_key.upper()}\n")) == [SIGNER.public_key]


def test_what_remains_has_its_dates() -> None:
    until = {(one["where"], one["until"]) for one in json.loads(json.dumps(SIGNED))["remains"]}
    assert ("OpenAI", "2027-03-02T09:30:01Z") in until
    assert ("backups of this service", "2027-03-02T09:30:03Z") in until
    assert ("GitHub", None) in until
