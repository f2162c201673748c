"""Only what changed is embedded again; a crash costs what was not finished; generations stand beside each other."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from embeddings import chunk, index, lexicon
from embeddings.chunk import passage
from embeddings.collection import Shelf
from embeddings.embed import EncoderError
from embeddings.index import Progress
from embeddings.located import Cuts
from embeddings.protect import Protection
from embeddings.repository import RepositoryIndex
from infra.qdrant import QdrantPoints


@pytest.fixture
def repository(points, encoder, key) -> RepositoryIndex:
    return RepositoryIndex(points, encoder, key, 1, 10)


@pytest.fixture
def shelf(points, encoder, key) -> Shelf:
    return Shelf(points, encoder, Protection(key, 1), 10)


def passages(shelf: Shelf, tree) -> list[str]:
    """What the model is to read of a tree."""
    cuts = Cuts(shelf, tree)
    return [passage(path, piece) for path in cuts.entries for piece in cuts.of(path)]


async def near(shelf: Shelf, tree, text: str, limit: int = 50):
    """The places of a dense search."""
    vectors = shelf.protection.rotate(type(shelf.encoder)().encode([text]))
    [hits] = await shelf.points.search(shelf.chunks, vectors, limit)
    return Cuts(shelf, tree).located(hits)


async def test_a_tree_is_indexed_and_counted(shelf, encoder, tree):
    report = await index.update(shelf, tree, prune=False)
    assert (report.files, report.embedded, report.reused, report.removed) == (4, 4, 0, 0)
    assert sorted(encoder.texts) == sorted(passages(shelf, tree))
    assert report.chunks == len(encoder.texts) == await shelf.points.count(shelf.chunks)
    assert report.left_out == {"binary": 1, "lock": 1, "vendored": 1, "empty": 1}
    assert await shelf.points.count(shelf.files) == 5  # the empty file too, so that it is not read again


async def test_indexing_the_same_tree_again_embeds_and_reads_nothing(repository, encoder, tree):
    first = await repository.update(tree, prune=True)
    encoder.texts.clear()
    tree.reads.clear()
    report = await repository.update(tree, prune=True)
    assert (report.embedded, report.reused, report.chunks, report.files) == (0, 4, 0, 4)
    assert report.left_out == first.left_out
    assert encoder.texts == []
    assert tree.reads == []


LONG = b"".join(
    b"def number_%d(basket):\n    total = basket * %d\n    return total + %d\n\n\n" % (n, n, n)
    for n in range(40)
)


async def test_one_changed_line_embeds_exactly_the_changed_chunks(shelf, encoder, tree):
    old = tree.changed({"shop/long.py": LONG})
    await index.update(shelf, old, prune=True)
    before = set(encoder.texts)
    encoder.texts.clear()
    new = old.changed({"shop/long.py": LONG.replace(b"basket * 17", b"basket * 1700")})
    report = await index.update(shelf, new, prune=True)
    changed = set(passages(shelf, new)) - before
    assert len(changed) == 1
    assert "basket * 1700" in min(changed)
    assert encoder.texts == list(changed)
    assert (report.embedded, report.reused, report.removed) == (1, 4, 1)
    assert (report.chunks, report.reused_chunks) == (1, len(Cuts(shelf, new).of("shop/long.py")) - 1)
    assert await shelf.points.count(shelf.chunks) == len(set(passages(shelf, new)))


async def test_lines_that_moved_are_right_in_the_old_tree_and_in_the_new(shelf, encoder, tree):
    old = tree.changed({"shop/long.py": LONG})
    await index.update(shelf, old, prune=False)
    encoder.texts.clear()
    new = old.changed({"shop/long.py": b"import first\n\n\n" + LONG})
    await index.update(shelf, new, prune=False)
    assert len(encoder.texts) == 1
    for each, moved in ((old, 0), (new, 3)):
        found = await near(shelf, each, "number_30 basket * 30", 100)
        place = next(place for place in found if place.chunk.symbol == "number_30")
        assert place.chunk.start_line == 30 * 5 + 1 + moved
        lines = each.files["shop/long.py"].split(b"\n")
        assert lines[place.chunk.start_line - 1] == b"def number_30(basket):"
        for place in found:
            text = each.files[place.path].decode().split("\n")
            assert "\n".join(text[place.chunk.start_line - 1 : place.chunk.end_line]) == place.chunk.text


async def test_a_search_of_an_old_and_a_new_commit_gives_the_lines_of_each(repository, tree):
    old = tree.changed({"shop/long.py": LONG})
    new = old.changed({"shop/long.py": b"import first\n\n\n" + LONG})
    await repository.update(old)
    await repository.update(new)
    for each, line in ((old, 151), (new, 154)):
        best = (await repository.search(each, "what does `number_30` return", 5))[0]
        assert (best.path, best.symbol, best.start_line) == ("shop/long.py", "number_30", line)


async def test_a_chunk_that_stands_in_its_file_twice_is_embedded_once_and_found_twice(shelf, encoder, tree):
    twice = tree.changed({"notes.md": b"# Same\n\nSold apples.\n\n# Same\n\nSold apples.\n"})
    report = await index.update(shelf, twice, prune=True)
    assert sum("Sold apples" in text for text in encoder.texts) == 1
    found = [
        place for place in await near(shelf, twice, "notes.md Same Sold apples") if place.path == "notes.md"
    ]
    assert [place.chunk.start_line for place in found] == [1, 5]
    assert report.chunks == await shelf.points.count(shelf.chunks)
    encoder.texts.clear()
    assert (await index.update(shelf, twice, prune=True)).embedded == 0


async def test_what_is_not_in_the_tree_is_not_located(shelf, tree):
    await index.update(shelf, tree, prune=False)
    without = tree.changed({"shop/mail.py": None, "docs/guide.md": b"# Other\n"})
    places = await near(shelf, without, "send_receipt customer deliver Paying coins")
    assert {place.path for place in places} == {"shop/prices.py", "web/app.js"}


async def test_what_another_key_sealed_is_passed_over(shelf, tree, encoder):
    await index.update(shelf, tree, prune=False)
    ids = sorted(await shelf.points.scan(shelf.chunks, []))
    vectors = shelf.protection.rotate(encoder.encode(["basket"] * len(ids)))
    other = Protection(b"x" * 32, 1)
    for sealed in ("AAAA" * 20, other.seal("shop/mail.py", ids[0])):
        await shelf.points.upsert(shelf.chunks, ids, vectors, [{"place": sealed} for _ in ids])
        assert await near(shelf, tree, "basket") == []


async def test_a_branch_reuses_what_it_shares_and_removes_nothing(repository, encoder, tree):
    await repository.update(tree, prune=True)
    branch = tree.changed({"shop/new.py": b"def fresh(): ...\n", "docs/guide.md": None})
    assert (await repository.update(branch)).embedded == 1
    encoder.texts.clear()
    report = await repository.update(tree, prune=True)
    assert (report.embedded, report.removed) == (0, 1)
    assert encoder.texts == []


async def test_deleted_files_leave_nothing(shelf, tree):
    await index.update(shelf, tree, prune=True)
    report = await index.update(shelf, tree.changed(dict.fromkeys(tree.files)), prune=True)
    assert (report.files, report.removed, report.left_out) == (0, 4, {})
    assert await shelf.points.count(shelf.repository) == 0


async def test_a_version_that_shares_chunks_with_the_one_removed_keeps_them(shelf, encoder, tree):
    old = tree.changed({"shop/long.py": LONG})
    new = old.changed({"shop/long.py": LONG + b"LAST = 1\n"})
    await index.update(shelf, old, prune=True)
    await index.update(shelf, new, prune=False)
    await index.update(shelf, new, prune=True)
    encoder.texts.clear()
    assert await shelf.points.count(shelf.chunks) == len(set(passages(shelf, new)))
    await index.update(shelf, old, prune=False)
    assert len(encoder.texts) <= 1


async def test_two_repositories_do_not_touch_each_other(points, encoder, key, tree):
    one, other = (RepositoryIndex(points, encoder, key, 1, number) for number in (10, 11))
    await one.update(tree, prune=True)
    await other.update(tree.changed({"docs/guide.md": None}), prune=True)
    assert (await one.update(tree)).reused == 4
    await one.forget()
    assert (await other.update(tree.changed({"docs/guide.md": None}))).reused == 3


# --- crashes and losses ----------------------------------------------------------------------------------------------


async def test_a_crash_costs_only_the_files_that_were_not_finished(shelf, encoder, tree):
    everything = passages(shelf, tree)
    for fails_after in range(len(everything)):
        await shelf.points.drop(shelf.repository)
        encoder.texts.clear()
        encoder.fails_after = fails_after
        with pytest.raises(RuntimeError, match="went down"):
            await index.update(shelf, tree, prune=False, group=1)
        encoder.fails_after = None
        written = await shelf.points.count(shelf.chunks)
        assert written <= fails_after
        encoder.texts.clear()
        report = await index.update(shelf, tree, prune=True)
        assert len(encoder.texts) == len(everything) - written
        assert report.files == 4
        assert await shelf.points.count(shelf.chunks) == len(everything)


class Crashing(QdrantPoints):
    """Goes down at the nth call that writes or deletes."""

    left = 1000

    def _count_down(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the machine went down")

    async def upsert(self, *arguments):
        self._count_down()
        await super().upsert(*arguments)

    async def upsert_sparse(self, *arguments):
        self._count_down()
        await super().upsert_sparse(*arguments)

    async def delete(self, *arguments):
        self._count_down()
        await super().delete(*arguments)


@pytest.mark.parametrize("writes", range(12))
async def test_whatever_was_written_the_next_update_makes_it_whole(encoder, key, tree, writes):
    points = Crashing()
    shelf = Shelf(points, encoder, Protection(key, 1), 10)
    await index.update(shelf, tree.changed({"gone.py": LONG, "shop/mail.py": LONG}), prune=True)
    points.left = writes
    try:
        await index.update(shelf, tree, prune=True, group=1)
    except RuntimeError:
        assert writes < 11
    points.left = 1000
    report = await index.update(shelf, tree, prune=True)
    assert report.files == 4
    assert await points.count(shelf.chunks) == len(passages(shelf, tree))
    assert await points.count(shelf.files) == 5
    assert (await index.update(shelf, tree, prune=True)).chunks == 0
    await points.close()


async def test_chunks_without_their_file_are_removed_when_it_is_gone(shelf, tree):
    await index.update(shelf, tree, prune=False)
    await shelf.points.delete(shelf.files, sorted(await shelf.points.scan(shelf.files, [])))
    report = await index.update(shelf, tree.changed(dict.fromkeys(tree.files)), prune=True)
    assert report.files == 0
    assert await shelf.points.count(shelf.repository) == 0


@pytest.mark.parametrize("lost", ["everything", "all chunks", "some chunks", "all files", "some files"])
@pytest.mark.parametrize("prune", [True, False])
async def test_what_the_store_lost_is_made_again(shelf, encoder, tree, lost, prune):
    await index.update(shelf, tree, prune=True)
    chunks, files = [sorted(await shelf.points.scan(name, [])) for name in (shelf.chunks, shelf.files)]
    match lost:
        case "everything":
            await shelf.points.drop(shelf.repository)
        case "all chunks":
            await shelf.points.drop(shelf.chunks)
        case "some chunks":
            await shelf.points.delete(shelf.chunks, chunks[::2])
        case "all files":
            await shelf.points.drop(shelf.files)
        case "some files":
            await shelf.points.delete(shelf.files, files[::2])
    left = await shelf.points.count(shelf.chunks)
    encoder.texts.clear()
    report = await index.update(shelf, tree, prune=prune)
    assert report.files == 4
    assert len(encoder.texts) == report.chunks == len(chunks) - left
    assert (await shelf.points.scan(shelf.chunks, [])).keys() == set(chunks)
    assert (await shelf.points.scan(shelf.files, [])).keys() == set(files)


async def test_a_lost_chunk_is_noticed_though_another_branch_has_more(shelf, tree):
    await index.update(shelf, tree.changed({"shop/long.py": LONG}), prune=True)
    await index.update(shelf, tree.changed({"shop/long.py": LONG + b"LAST = 1\n"}), prune=False)
    chunks = sorted(await shelf.points.scan(shelf.chunks, []))
    await shelf.points.delete(shelf.chunks, chunks[:1])
    await index.update(shelf, tree.changed({"shop/long.py": LONG}), prune=False)
    await index.update(shelf, tree.changed({"shop/long.py": LONG + b"LAST = 1\n"}), prune=False)
    assert (await shelf.points.scan(shelf.chunks, [])).keys() == set(chunks)


# --- generations -----------------------------------------------------------------------------------------------------


async def test_another_model_builds_beside_and_the_old_goes_when_the_new_is_whole(
    points, key, tree, counting_encoder
):
    old = Shelf(points, counting_encoder(), Protection(key, 1), 10)
    new = Shelf(points, counting_encoder(name="other words", dimension=32), Protection(key, 1), 10)
    await index.update(old, tree, prune=True)
    kept = await points.count(old.generation)
    report = await index.update(new, tree, prune=False)
    assert (report.embedded, report.reused) == (4, 0)
    assert await points.count(old.generation) == kept
    await points.drop(new.generation)
    ticks = iter(range(1000))
    report = await index.update(new, tree, prune=True, within_seconds=4, group=1, clock=lambda: next(ticks))
    assert report.pending
    assert await points.count(old.generation) == kept
    await index.update(new, tree, prune=True)
    assert await points.count(old.generation) == 0
    assert await points.count(new.generation) == kept
    assert {name.rpartition("/")[0] for name in await points.names(new.repository)} == {new.generation}


async def test_another_chunker_builds_beside(shelf, encoder, tree, monkeypatch):
    await index.update(shelf, tree, prune=True)
    before, texts = shelf.generation, len(encoder.texts)
    monkeypatch.setattr(chunk, "VERSION", "another")
    assert shelf.generation != before
    assert (await index.update(shelf, tree, prune=False)).chunks == texts
    assert await shelf.points.count(before) > 0
    await index.update(shelf, tree, prune=True)
    assert await shelf.points.count(before) == 0


async def test_another_lexicon_embeds_nothing(shelf, encoder, tree, monkeypatch):
    await index.update(shelf, tree, prune=True)
    encoder.texts.clear()
    monkeypatch.setattr(lexicon, "VERSION", "another")
    report = await index.update(shelf, tree, prune=True)
    assert (report.embedded, report.chunks, encoder.texts) == (4, 0, [])
    assert await shelf.points.count(shelf.files) == 5


async def test_a_model_of_the_same_name_and_another_dimension_embeds_everything_anew(
    points, key, tree, counting_encoder
):
    await RepositoryIndex(points, counting_encoder(), key, 1, 10).update(tree)
    report = await RepositoryIndex(points, counting_encoder(dimension=32), key, 1, 10).update(tree)
    assert (report.embedded, report.files) == (4, 4)


# --- time, progress, terms -------------------------------------------------------------------------------------------


async def test_what_is_not_reached_in_time_is_pending_and_code_comes_first(shelf, encoder, tree):
    ticks = iter(range(1000))
    tree = tree.changed({"a_test.py": b"def test_a(): ...\n"})
    report = await index.update(
        shelf, tree, prune=False, within_seconds=4, group=1, clock=lambda: next(ticks)
    )
    assert report.pending == 4
    assert [text.split()[0] for text in encoder.texts] == ["shop/mail.py"]
    encoder.texts.clear()
    report = await index.update(shelf, tree, prune=True)
    assert (report.pending, report.reused, report.files) == (0, 1, 5)
    assert "shop/mail.py" not in {text.split()[0] for text in encoder.texts}


async def test_the_version_before_a_pending_one_stays_and_gives_its_chunks(shelf, encoder, tree):
    await index.update(shelf, tree.changed({"shop/long.py": LONG}), prune=True)
    new = tree.changed({"shop/long.py": LONG + b"LAST = 1\n"})
    report = await index.update(shelf, new, prune=True, within_seconds=0)
    assert (report.pending, report.removed) == (1, 0)
    encoder.texts.clear()
    report = await index.update(shelf, new, prune=True)
    assert (report.pending, report.removed) == (0, 1)
    assert len(encoder.texts) <= 1


async def test_what_the_question_speaks_of_comes_first(shelf, encoder, tree):
    question = "Paying with coins, see the guide; renderBasket"
    await index.update(shelf, tree, prune=False, question=question, within_seconds=1000, group=1)
    assert list(dict.fromkeys(text.split()[0] for text in encoder.texts))[:2] == [
        "docs/guide.md",
        "web/app.js",
    ]


async def test_no_time_at_all_indexes_nothing_and_says_so(shelf, encoder, tree):
    report = await index.update(shelf, tree, prune=False, within_seconds=0)
    assert (report.embedded, report.pending, encoder.texts) == (0, 5, [])


async def test_progress_is_told(shelf, encoder, tree):
    told: list[Progress] = []
    await index.update(shelf, tree, prune=False, progress=told.append, group=1)
    assert [one.files for one in told] == [1, 2, 3, 4, 5]
    assert {one.of_files for one in told} == {5}
    assert told[-1].chunks == len(encoder.texts)
    assert told[-1].seconds_left == 0
    assert told[0].seconds_left == pytest.approx(4 * told[0].seconds)
    assert Progress(1, 3, 10, 2.0).chunks_per_second == 5
    assert Progress(0, 3, 0, 0.0).seconds_left is None


async def test_a_group_is_encoded_while_the_one_before_is_written(encoder, key, tree):
    seen: list[str] = []

    class Slow(QdrantPoints):
        async def upsert(self, *arguments):
            seen.append("begins to write")
            for _ in range(
                1000
            ):  # ten seconds for the next group, which would not come if it waited for this one
                if "encodes" in seen:
                    break
                await asyncio.sleep(0.01)
            await super().upsert(*arguments)
            seen.append("has written")

    encode = encoder.encode
    encoder.encode = lambda texts: (seen.append("encodes"), encode(texts))[1]
    points = Slow()
    await index.update(Shelf(points, encoder, Protection(key, 1), 10), tree, prune=False, group=1)
    # The first group holds an empty file alone, so what is encoded before it is written is the next one's.
    assert "encodes" in seen[: seen.index("has written")]
    await points.close()


async def test_a_model_that_returns_nonsense_is_an_error_and_nothing_is_stored(shelf, encoder, tree):
    good = encoder.encode
    for bad in (lambda texts: good(texts)[:, :3], lambda texts: good(texts) * float("nan")):
        encoder.encode = bad
        with pytest.raises(EncoderError):
            await index.update(shelf, tree, prune=False)
    assert await shelf.points.count(shelf.repository) == 0


async def test_files_are_found_by_their_terms_and_their_paths(shelf, tree):
    await index.update(shelf, tree, prune=False)
    files = Cuts(shelf, tree).files
    for word, path in (
        ("total_price", "shop/prices.py"),
        ("receipt", "shop/mail.py"),
        ("guide", "docs/guide.md"),
    ):
        hits = await shelf.points.search_sparse(shelf.files, {shelf.protection.term(word): 1.0}, 5)
        assert [files[hit[0]].path for hit in hits] == [path]


def test_a_term_weighs_more_the_oftener_it_is_and_the_shorter_the_file():
    once, often = (index.weighted("a.py", b"apple " * n + b"pear plum fig")["apple"] for n in (1, 5))
    long = index.weighted("a.py", b"apple " + b"pear plum fig " * 2000)["apple"]
    assert 0 < long < once < often < 1 + 1.2


async def test_the_stored_vectors_are_not_the_models(shelf, encoder, tree):
    seen: list[np.ndarray] = []
    upsert = shelf.points.upsert

    async def watch(collection, ids, vectors, payloads):
        seen.append(vectors)
        assert ids == sorted(ids)
        assert all(payload.keys() == {"place"} for payload in payloads)
        await upsert(collection, ids, vectors, payloads)

    shelf.points.upsert = watch
    await index.update(shelf, tree, prune=False)
    models = encoder.encode(list(encoder.texts))
    assert np.max(models @ np.concatenate(seen).T) < 0.9
