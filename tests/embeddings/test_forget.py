"""What is forgotten is gone: from the count, from the files, in every generation, and nothing else with it."""

from __future__ import annotations

import base64
import zlib

import pytest

from embeddings import index
from embeddings.collection import Shelf
from embeddings.forget import NotForgottenError, drop, forget_repository, shelf_of
from embeddings.protect import Protection
from embeddings.repository import RepositoryIndex
from infra.qdrant import QdrantPoints


@pytest.fixture(params=["folder", "memory", "one collection for all"])
async def points(request: pytest.FixtureRequest, tmp_path):
    store = {
        "folder": lambda: QdrantPoints(path=tmp_path / "qdrant"),
        "memory": QdrantPoints,
        "one collection for all": lambda: QdrantPoints(shared=True),
    }[request.param]()
    yield store
    await store.close()


async def test_a_repository_is_forgotten_in_all_its_generations_and_no_other_is(
    points, key, tree, counting_encoder
):
    protection = Protection(key, 1)
    other = Shelf(points, counting_encoder(), protection, 11)
    await index.update(other, tree, prune=True)
    kept = await points.count(other.repository)
    shelves = [
        Shelf(points, counting_encoder(name=name, dimension=dimension), protection, 10)
        for name, dimension in (("words", 48), ("other words", 48), ("few words", 32))
    ]
    for shelf in shelves:
        await index.update(shelf, tree, prune=False)
    forgotten = await forget_repository(shelves[0])
    assert (forgotten.removed, forgotten.remaining) == (3 * kept, 0)
    assert await points.names(shelves[0].repository) == set()
    assert await points.count(protection.installation()) == await points.count(other.repository) == kept
    assert (await index.update(other, tree, prune=False)).reused == 4
    assert (await forget_repository(shelves[0])).removed == 0


async def test_an_installation_is_forgotten_whole_and_no_other(points, encoder, key, tree):
    for installation, repository in ((1, 10), (1, 11), (2, 10)):
        await RepositoryIndex(points, encoder, key, installation, repository).update(tree)
    kept = await points.count(Protection(key, 2).installation())
    forgotten = await drop(points, shelf_of(key, 1))
    assert (forgotten.removed, forgotten.remaining) == (2 * kept, 0)
    assert (await RepositoryIndex(points, encoder, key, 2, 10).update(tree)).reused == 4


async def test_a_store_that_keeps_what_it_should_delete_is_told_on(points, encoder, key, tree, monkeypatch):
    repository = RepositoryIndex(points, encoder, key, 1, 10)
    await repository.update(tree)

    async def keep(*_: object) -> None:
        return None

    monkeypatch.setattr(points, "drop", keep)
    count = await points.count(Protection(key, 1).installation())
    with pytest.raises(NotForgottenError, match=f"{count} of {count}"):
        await repository.forget()
    with pytest.raises(NotForgottenError):
        await drop(points, shelf_of(key, 1))


async def test_a_repository_that_was_not_opened_since_the_start_is_forgotten(tmp_path, encoder, key, tree):
    first = QdrantPoints(path=tmp_path / "qdrant")
    await RepositoryIndex(first, encoder, key, 1, 10).update(tree)
    await RepositoryIndex(first, encoder, key, 1, 11).update(tree)
    await first.close()
    again = QdrantPoints(path=tmp_path / "qdrant")
    assert (await RepositoryIndex(again, encoder, key, 1, 10).forget()).removed > 8
    assert (await drop(again, shelf_of(key, 1))).removed > 8
    await again.close()
    assert not [path for path in (tmp_path / "qdrant").rglob("*") if path.is_file()]


async def test_a_removed_file_leaves_neither_its_id_nor_its_vector_in_the_files(tmp_path, encoder, key, tree):
    points = QdrantPoints(path=tmp_path / "qdrant")
    shelf = Shelf(points, encoder, Protection(key, 1), 10)
    await index.update(shelf, tree, prune=True)
    before = {name: await points.scan(name, []) for name in (shelf.chunks, shelf.files)}
    changed = tree.changed({"shop/mail.py": None, "shop/prices.py": b"RATE = 4\n"})
    report = await index.update(shelf, changed, prune=True)
    assert report.removed == 2
    raw = kept(tmp_path)
    after = {name: await points.scan(name, []) for name in (shelf.chunks, shelf.files)}
    gone = [one for name in before for one in before[name].keys() - after[name].keys()]
    assert len(gone) >= 5
    for one in gone:
        assert one.encode() not in raw
    for one in after[shelf.chunks]:
        assert one.encode() in raw
    await points.close()


def kept(folder) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


PLANTED = {
    "zanzibar/quokka_ledger.py": (
        b"class QuokkaLedger:\n    def marmalade_total(self, xylophone):\n        return xylophone.bergamot\n"
    ),
    "docs/wombat-guide.md": b"# Wombat guide\n\nFeed the tapioca otter.\n",
}
WORDS = {
    "zanzibar", "quokka_ledger.py", "zanzibar/quokka_ledger.py", "QuokkaLedger", "quokka", "ledger", "marmalade_total",
    "marmalade", "xylophone", "bergamot", "wombat-guide", "Wombat guide", "tapioca", "return xylophone", "12345678",
    "87654321", "wombat",
}  # fmt: skip


def spellings(word: str) -> set[bytes]:
    raw = {text.encode() for text in (word, word.lower(), word.upper())}
    raw |= {one.decode().encode(code) for one in set(raw) for code in ("utf-16-le", "utf-16-be")}
    raw |= {one.hex().encode() for one in set(raw)} | {one.hex().upper().encode() for one in set(raw)}
    for one in [one for one in raw if len(one) > 8]:
        for offset in range(3):
            raw.add(base64.b64encode(b"x" * offset + one)[4 if offset else 0 :].rstrip(b"=")[:-2])
    return raw


def unzipped(raw: bytes) -> bytes:
    """What can be inflated from anywhere in it."""
    out = []
    for kind in (b"\x78\x01", b"\x78\x9c", b"\x78\xda", b"\x1f\x8b\x08"):
        at = raw.find(kind)
        while at >= 0:
            try:
                out.append(zlib.decompressobj(wbits=47).decompress(raw[at : at + 100_000]))
            except zlib.error:
                out.append(b"")
            at = raw.find(kind, at + 1)
    return b"".join(out)


def test_the_look_for_words_finds_them():
    text = b"the xylophone is here"
    for hidden in (
        text, text.upper(), text.hex().encode(), text.hex().upper().encode(), base64.b64encode(text),
        base64.b64encode(text[1:]), base64.b64encode(text[2:]), text.decode().encode("utf-16-le"), b"--" + zlib.compress(text),
    ):  # fmt: skip
        assert any(spelling in hidden + unzipped(hidden) for spelling in spellings("xylophone"))
    assert not any(spelling in text for spelling in spellings("marimba"))


async def test_nothing_in_qdrants_files_can_be_read(tmp_path, encoder, key, tree, memory_tree):
    points = QdrantPoints(path=tmp_path / "qdrant")
    repository = RepositoryIndex(points, encoder, key, 12345678, 87654321)
    planted = memory_tree({**tree.files, **PLANTED})
    await repository.update(planted)
    await repository.search(planted, "xylophone in zanzibar/quokka_ledger.py", 5)
    while_open = kept(tmp_path)
    await repository.update(planted.changed({"docs/wombat-guide.md": b"# Wombat\n"}), prune=True)
    await points.close()
    names = "\n".join(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")).encode()
    raw = b"\n".join((while_open, kept(tmp_path), names))
    raw += unzipped(raw)
    assert len(raw) > 20_000
    shas = {entry.sha for entry in planted.entries()}
    plain = {
        "prices",
        "total_price",
        "Basket",
        "add_fruit",
        "send_receipt",
        "renderBasket",
        "customer",
        "coins",
    }
    for word in WORDS | shas | plain | {"shop/prices.py", "web/app.js"}:
        for spelling in spellings(word):
            assert spelling not in raw, word


async def test_two_installations_share_no_position_of_the_same_files(points, encoder, key, tree):
    seen: dict[int, set[int]] = {}
    upsert = points.upsert_sparse

    async def watch(collection, ids, weights, payloads):
        seen.setdefault(installation, set()).update(position for one in weights for position in one)
        await upsert(collection, ids, weights, payloads)

    points.upsert_sparse = watch
    for installation in (1, 2):
        await RepositoryIndex(points, encoder, key, installation, 10).update(tree)
    assert len(seen[1]) == len(seen[2]) > 20
    assert seen[1].isdisjoint(seen[2])
