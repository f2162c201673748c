"""Only what changed is embedded again; a crash costs what was not finished; nothing readable is stored."""

from __future__ import annotations

import base64

import pytest

from embeddings import index
from embeddings.collection import Shelf
from embeddings.embed import EncoderError
from embeddings.forget import NotForgottenError, forget_installation
from embeddings.protect import Protection
from embeddings.repository import RepositoryIndex
from infra.qdrant import QdrantPoints


@pytest.fixture
def repository(points, encoder, key) -> RepositoryIndex:
    return RepositoryIndex(points, encoder, key, 1, 10)


@pytest.fixture
def shelf(points, encoder, key) -> Shelf:
    return Shelf(points, encoder, Protection(key, 1), 10)


async def test_a_tree_is_indexed_and_counted(repository, encoder, tree):
    report = await repository.update(tree)
    assert (report.files, report.embedded, report.reused, report.removed) == (4, 4, 0, 0)
    assert report.chunks == len(encoder.texts) == 8
    assert report.left_out == {"binary": 1, "lock": 1, "vendored": 1, "empty": 1}


async def test_indexing_the_same_tree_again_embeds_and_reads_nothing(repository, encoder, tree):
    await repository.update(tree)
    encoder.texts.clear()
    tree.reads.clear()
    report = await repository.update(tree)
    assert (report.embedded, report.reused, report.chunks, report.files) == (0, 4, 0, 4)
    assert encoder.texts == []
    assert set(tree.reads) <= {"empty.py"}


async def test_one_changed_line_embeds_that_file_alone(repository, encoder, tree):
    await repository.update(tree)
    encoder.texts.clear()
    changed = tree.changed({"shop/mail.py": b"def send_receipt(customer):\n    post(customer)\n"})
    report = await repository.update(changed, prune=True)
    assert encoder.texts == ["shop/mail.py send_receipt\ndef send_receipt(customer):\n    post(customer)"]
    assert (report.embedded, report.reused, report.removed) == (1, 3, 1)


async def test_a_branch_reuses_what_it_shares_and_removes_nothing(repository, encoder, tree):
    await repository.update(tree, prune=True)
    branch = tree.changed({"shop/new.py": b"def fresh(): ...\n", "docs/guide.md": None})
    assert (await repository.update(branch)).embedded == 1
    encoder.texts.clear()
    report = await repository.update(tree, prune=True)
    assert (report.embedded, report.removed) == (0, 1)
    assert encoder.texts == []


async def test_two_repositories_do_not_touch_each_other(points, encoder, key, tree):
    one, other = (RepositoryIndex(points, encoder, key, 1, number) for number in (10, 11))
    await one.update(tree, prune=True)
    await other.update(tree.changed({"docs/guide.md": None}), prune=True)
    assert (await one.update(tree)).reused == 4
    forgotten = await one.forget()
    assert (forgotten.removed, forgotten.remaining) == (8, 0)
    assert (await other.update(tree.changed({"docs/guide.md": None}))).reused == 3
    assert await one.search(tree, "basket", 5) == []


@pytest.mark.parametrize(("fails_after", "finished"), [(0, 0), (3, 1), (5, 2), (7, 3)])
async def test_a_crash_costs_only_the_files_that_were_not_finished(
    shelf, encoder, tree, fails_after, finished
):
    encoder.fails_after = fails_after
    with pytest.raises(RuntimeError, match="went down"):
        await index.update(shelf, tree, prune=False, group=1)
    encoder.fails_after = None
    encoder.texts.clear()
    report = await index.update(shelf, tree, prune=True)
    assert (report.reused, report.embedded) == (finished, 4 - finished)
    assert await shelf.points.count(shelf.collection, {}) == 8


class Crashing(QdrantPoints):
    """Goes down at the nth call that writes."""

    left = 1000

    async def upsert(self, *arguments):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the machine went down")
        await super().upsert(*arguments)


@pytest.mark.parametrize("writes", range(8))
async def test_a_half_written_file_does_not_count_as_indexed(encoder, key, tree, writes):
    points = Crashing()
    points.left = writes
    shelf = Shelf(points, encoder, Protection(key, 1), 10)
    try:
        await index.update(shelf, tree, prune=False, group=1)
    except RuntimeError:
        points.left = 1000
    report = await index.update(shelf, tree, prune=True)
    assert report.files == 4
    assert await points.count(shelf.collection, {}) == 8
    whole = {
        found.symbol
        for found in await RepositoryIndex(points, encoder, key, 1, 10).search(tree, "basket", 50)
    }
    assert {"total_price", "Basket.add_fruit", "send_receipt", "renderBasket"} <= whole
    await points.close()


async def test_what_a_crash_left_half_is_removed_when_its_file_is_gone(shelf, encoder, tree):
    await index.update(shelf, tree, prune=False)
    for head in list(await shelf.points.values(shelf.collection, "file", {})):
        await shelf.points.delete(shelf.collection, {"file": head, "head": "1"})
    report = await index.update(shelf, tree.changed(dict.fromkeys(tree.files)), prune=True)
    assert report.files == 0
    assert await shelf.points.count(shelf.collection, {}) == 0


async def test_another_model_embeds_everything_anew(points, key, tree, counting_encoder):
    await RepositoryIndex(points, counting_encoder(), key, 1, 10).update(tree)
    for changed in (counting_encoder(name="other words"), counting_encoder(dimension=32)):
        report = await RepositoryIndex(points, changed, key, 1, 10).update(tree, prune=True)
        assert report.embedded == 4


async def test_what_is_not_reached_in_time_is_pending_and_code_comes_first(shelf, encoder, tree):
    ticks = iter(range(1000))
    tree = tree.changed({"a_test.py": b"def test_a(): ...\n"})
    report = await index.update(
        shelf, tree, prune=False, within_seconds=3, group=1, clock=lambda: next(ticks)
    )
    assert report.pending == 4
    assert [text.split()[0] for text in encoder.texts] == ["shop/mail.py"]
    encoder.texts.clear()
    report = await index.update(shelf, tree, prune=True)
    assert (report.pending, report.reused, report.files) == (0, 1, 5)
    everything = [text.split()[0] for text in encoder.texts]
    assert "shop/mail.py" not in everything


async def test_what_the_question_speaks_of_comes_first(shelf, encoder, tree):
    question = "Paying with coins, see the guide; renderBasket"
    await index.update(shelf, tree, prune=False, question=question, group=1)
    assert list(dict.fromkeys(text.split()[0] for text in encoder.texts))[:2] == [
        "docs/guide.md",
        "web/app.js",
    ]


async def test_no_time_at_all_indexes_nothing_and_says_so(shelf, encoder, tree):
    report = await index.update(shelf, tree, prune=False, within_seconds=0)
    assert (report.embedded, report.pending, encoder.texts) == (0, 5, [])


async def test_progress_is_told(repository, tree):
    told: list[tuple[int, int]] = []
    await repository.update(tree, progress=lambda done, files: told.append((done, files)))
    assert told[-1] == (5, 5)


async def test_a_model_that_returns_nonsense_is_an_error_and_nothing_is_stored(shelf, encoder, tree):
    good = encoder.encode
    for bad in (lambda texts: good(texts)[:, :3], lambda texts: good(texts) * float("nan")):
        encoder.encode = bad
        with pytest.raises(EncoderError):
            await index.update(shelf, tree, prune=False)
    assert await shelf.points.count(shelf.collection, {}) == 0


async def test_an_installation_is_forgotten_whole_and_no_other(points, encoder, key, tree):
    for installation in (1, 2):
        await RepositoryIndex(points, encoder, key, installation, 10).update(tree)
    forgotten = await forget_installation(points, key, 1)
    assert (forgotten.removed, forgotten.remaining) == (8, 0)
    assert (await RepositoryIndex(points, encoder, key, 2, 10).update(tree)).reused == 4


async def test_a_store_that_keeps_what_it_should_delete_is_told_on(points, encoder, key, tree, monkeypatch):
    repository = RepositoryIndex(points, encoder, key, 1, 10)
    await repository.update(tree)

    async def keep(*_: object) -> None:
        return None

    monkeypatch.setattr(points, "delete", keep)
    with pytest.raises(NotForgottenError, match="8 of 8"):
        await repository.forget()


def spellings(word: str) -> list[bytes]:
    raw = word.encode()
    shifted = [base64.b64encode(b"x" * pad + raw)[4:-4] for pad in range(3)] if len(raw) > 8 else []
    return [
        raw,
        word.encode("utf-16-le"),
        word.encode("utf-16-be"),
        raw.hex().encode(),
        raw.hex().upper().encode(),
        *shifted,
    ]


async def test_nothing_in_qdrants_files_can_be_read(tmp_path, encoder, key, tree):
    points = QdrantPoints(path=tmp_path / "qdrant")
    repository = RepositoryIndex(points, encoder, key, 12345678, 87654321)
    await repository.update(tree)
    await repository.search(tree, "renderBasket in web/app.js", 5)
    await points.close()
    raw = b"".join(path.read_bytes() for path in (tmp_path / "qdrant").rglob("*") if path.is_file())
    assert len(raw) > 10_000
    words = {
        "prices", "total_price", "Basket", "add_fruit", "send_receipt", "deliver", "renderBasket", "customer", "Holds fruit",
        "Paying", "coins", "12345678", "87654321", *tree.files, *(entry.sha for entry in tree.entries()),
    } - {"logo.png", "package-lock.json", "vendor/lib.py", "empty.py"}  # fmt: skip
    for word in words:
        for spelling in spellings(word):
            assert spelling not in raw, word


async def test_the_stored_vectors_are_not_the_models(shelf, encoder, tree):
    seen: list[tuple[float, ...]] = []
    points = shelf.points
    upsert = points.upsert

    async def watch(collection, ids, vectors, payloads):
        seen.extend(tuple(vector) for vector in vectors.tolist())
        assert ids == sorted(ids)
        await upsert(collection, ids, vectors, payloads)

    points.upsert = watch
    await index.update(shelf, tree, prune=False)
    for vector in encoder.encode(list(encoder.texts)):
        assert max(abs(sum(a * b for a, b in zip(vector, stored, strict=True))) for stored in seen) < 0.9
