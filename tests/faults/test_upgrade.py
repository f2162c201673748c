"""An old process and a new one on one database, before, while and after its schema is brought further."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

import infra.migrations
from infra.embedded.postgres import SUPERUSER, EmbeddedPostgres
from infra.postgres.migrate import SchemaAheadError, SchemaBehindError, migrate, require_current, versions
from tests.claims import case, claim
from tests.faults.asking import ask_on, issues, unlimited
from tests.faults.processes import NotStartedError, _environ, service
from tests.faults.promises import kept, quiet
from tests.lengths import Lengths
from tests.line.conftest import Stages, Words
from tests.line.conversations import notes
from tests.line.stage import Stage

GROUP = "Rolling upgrade"
ROOT = Path(__file__).parents[2]
FOLDER = Path(infra.migrations.__file__).parent
RELEASED = "6fc9660"
"""The last program that knows no migration behind 0003."""

SOON: dict[str, Any] = {"retry": 0.2, "tries": 8}
"""As the service tries again, without its waits."""

HEAD = max(one.name[:4] for one in (FOLDER / "versions").glob("0*.py"))
NEXT = f"{int(HEAD) + 1:04}"

STEP = '''"""{docs}"""

from __future__ import annotations

from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""{sql}""")
'''

EXPANDS = """
ALTER TABLE magicode.runs ADD COLUMN mood text NOT NULL DEFAULT 'fine';
ALTER TABLE magicode.installations ADD COLUMN mood text;
CREATE INDEX runs_mood ON magicode.runs (installation_id, mood);
CREATE TABLE magicode.moods (
    installation_id bigint PRIMARY KEY,
    mood text NOT NULL
);
ALTER TABLE magicode.moods ENABLE ROW LEVEL SECURITY;
ALTER TABLE magicode.moods FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON magicode.moods
    USING (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint)
    WITH CHECK (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint);
GRANT SELECT, INSERT, UPDATE, DELETE ON magicode.moods TO magicode_service;
"""


def newer(folder: Path, sql: str = EXPANDS, *, docs: str = "One step more.", revision: str = NEXT) -> Path:
    """The migrations of the present program and one more, as a program of tomorrow has them; its `__init__.py`."""
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    step = STEP.format(docs=docs, revision=revision, before=HEAD, sql=sql)
    (folder / "versions" / f"{revision}_tomorrow.py").write_text(step)
    return folder / "__init__.py"


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """`with tomorrow(folder):` is a program that knows that folder's migrations."""

    @contextlib.contextmanager
    def as_if(init: Path) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(infra.migrations, "__file__", str(init))
            yield

    return as_if


# --- the schema ------------------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "The schema is brought a step further by a new program, and a process of the old one is started after that, with and without the "
    "right to change the schema",
    "It starts and leaves the schema as it is",
)
def test_an_older_program_starts_on_a_newer_schema(database: Any, tomorrow: Any, tmp_path: Path) -> None:
    with tomorrow(newer(tmp_path / "later")):
        migrate(database.owner_url)
        assert versions(database.service_url) == (NEXT, NEXT)
    require_current(database.service_url)
    migrate(database.owner_url)
    assert versions(database.service_url) == (NEXT, HEAD)


@claim(
    GROUP,
    "A step takes something away and says since which program nobody needs it; an older process is started",
    "It refuses, and says which versions are meant and what helps",
)
def test_a_program_that_is_too_old_says_so(database: Any, tomorrow: Any, tmp_path: Path) -> None:
    contract = f"COMMENT ON SCHEMA magicode IS 'needs {NEXT}'"
    with tomorrow(newer(tmp_path / "later", contract, docs=f"Contract: needs {NEXT}.")):
        migrate(database.owner_url)
        require_current(database.service_url)
    for start in (lambda: require_current(database.service_url), lambda: migrate(database.owner_url)):
        with pytest.raises(SchemaAheadError) as caught:
            start()
        assert NEXT in str(caught.value)
        assert HEAD in str(caught.value)


@claim(
    GROUP,
    "A process of the new program is started before the schema is brought further, without the right to do it",
    "It refuses, and names the setting that helps",
)
def test_a_newer_program_says_that_the_schema_is_behind(database: Any, tomorrow: Any, tmp_path: Path) -> None:
    with (
        tomorrow(newer(tmp_path / "later")),
        pytest.raises(SchemaBehindError, match="MAGICODE_DATABASE_OWNER_URL"),
    ):
        require_current(database.service_url)


@claim(GROUP, "A step fails half-way", "The schema is as it was, and the old program works on")
def test_a_step_that_fails_leaves_everything_as_it_was(database: Any, tomorrow: Any, tmp_path: Path) -> None:
    before = schema_of(database.owner_url)
    with (
        tomorrow(newer(tmp_path / "later", f"{EXPANDS} SELECT 1 / 0;")),
        pytest.raises(Exception, match="division by zero"),
    ):
        migrate(database.owner_url)
    assert schema_of(database.owner_url) == before
    require_current(database.service_url)
    with tomorrow(newer(tmp_path / "mended")):
        migrate(database.owner_url)
        require_current(database.service_url)


def schema_of(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return (
            connection.execute(
                "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns"
                " WHERE table_schema LIKE 'magicode%' ORDER BY 1, 2, 3"
            ).fetchall()
            + connection.execute("SELECT version_num FROM magicode.schema_version").fetchall()
        )


@claim(
    GROUP,
    "Eight processes of the new program and of the old one bring the schema of an empty database up to date at once",
    "Each step is done once; all of them start",
)
def test_processes_that_migrate_at_once_do_it_once(
    postgres: EmbeddedPostgres, tomorrow: Any, tmp_path: Path
) -> None:
    later = newer(tmp_path / "later")
    code = (
        "import sys, infra.migrations\n"
        "if sys.argv[2]: infra.migrations.__file__ = sys.argv[2]\n"
        "from infra.postgres.migrate import migrate\n"
        "migrate(sys.argv[1])\n"
    )
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE at_once")
        try:
            url = postgres.url(SUPERUSER, "at_once")
            starting = [
                subprocess.Popen(
                    [sys.executable, "-c", code, url, str(later) if number % 2 else ""],
                    cwd=ROOT,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for number in range(8)
            ]
            for one in starting:
                _, said = one.communicate(timeout=120)
                assert one.returncode == 0, said
            with tomorrow(later):
                assert versions(url) == (NEXT, NEXT)
        finally:
            connection.execute("DROP DATABASE at_once WITH (FORCE)")


@claim(
    GROUP,
    "A step needs a table that somebody reads for several seconds, as an export does",
    "Requests are taken all the while: the step waits in short turns and lets them by",
)
@pytest.mark.long
async def test_a_step_that_waits_for_a_table_keeps_nobody_waiting(
    database: Any, tomorrow: Any, tmp_path: Path
) -> None:
    slowest, done = 0.0, threading.Event()

    def bring_further() -> None:
        migrate(database.owner_url)
        done.set()

    with (
        tomorrow(newer(tmp_path / "later")),
        psycopg.connect(database.owner_url) as reading,
        psycopg.connect(database.owner_url, autocommit=True) as others,
    ):
        reading.execute("SELECT count(*) FROM magicode.runs")
        step = threading.Thread(target=bring_further)
        step.start()
        until = time.monotonic() + 8
        while time.monotonic() < until:
            started = time.monotonic()
            others.execute("SELECT count(*) FROM magicode.runs")
            slowest = max(slowest, time.monotonic() - started)
            await asyncio.sleep(0.05)
        assert not done.is_set(), "the reader still reads"
        reading.rollback()
        await asyncio.to_thread(step.join, 60)
        assert done.is_set()
    assert slowest < 6, "GitHub waits for ten seconds"


# --- whole requests --------------------------------------------------------------------------------------------------


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    unlimited(stage)
    return stage


async def all_ended(stage: Stage, count: int, *, within: float = 400) -> None:
    async with asyncio.timeout(within):
        while sum(run.state.ended for run in await stage.runs()) < count:
            await asyncio.sleep(0.2)


@claim(
    GROUP,
    "Requests are made all the while: an old process works, a new one is started and brings the schema further, both work, an old "
    "one is started anew, the old ones go",
    "Every request is taken and ends once; every promise is kept",
)
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_requests_go_on_while_the_new_program_is_rolled_out(
    idle: Stage, database: Any, tmp_path: Path, lengths: Lengths, record_property: Any
) -> None:
    at_a_time = lengths.choose(suite=2, prove=6)
    constants = {"infra.migrations:__file__": str(newer(tmp_path / "later"))}
    owner = {"MAGICODE_DATABASE_OWNER_URL": database.owner_url}
    places = await issues(idle, 5 * at_a_time)
    asked = 0

    async def more() -> None:
        nonlocal asked
        await ask_on(idle, places[asked : asked + at_a_time], ["fix this"] * at_a_time)
        asked += at_a_time

    async with service(idle, role="serve", name="old", **SOON) as old:
        idle.github.world.app_url = f"{old.url}/webhooks/github"
        await more()
        await all_ended(idle, asked)  # its statements are prepared by now
        await more()
        async with service(idle, role="serve", name="new", environ=owner, constants=constants, **SOON) as new:
            assert versions(database.service_url) == (NEXT, HEAD)
            await more()
            await all_ended(idle, asked)
            async with service(idle, name="old-again", **SOON) as again:
                idle.github.world.app_url = f"{new.url}/webhooks/github"
                await more()
                await old.stop()
                await all_ended(idle, asked)
                await again.stop()
            await more()
            await all_ended(idle, asked)
            await quiet(idle)
    record_property("requests", asked)
    assert "cached plan" not in old.log.read_text()
    await kept(idle, runs=asked)


@claim(
    GROUP,
    "A process of a program that is too old is started",
    "It ends at once, and says which program is needed",
)
async def test_a_process_that_is_too_old_ends_and_says_why(
    idle: Stage, database: Any, tomorrow: Any, tmp_path: Path
) -> None:
    with tomorrow(newer(tmp_path / "later", f"COMMENT ON SCHEMA magicode IS 'needs {NEXT}'")):
        migrate(database.owner_url)
    with pytest.raises(NotStartedError, match=f"made for {NEXT} or later"):
        async with service(idle, name="old"):
            pass


# --- the code that was really there before ---------------------------------------------------------------------------


def old_code(folder: Path) -> Path:
    """The program as it was, from the history. Skips where that is not there."""
    found = subprocess.run(
        ["git", "archive", RELEASED, "app", "infra", "webhooks", "embeddings"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip(f"the history does not reach back to {RELEASED}: a shallow clone")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def known_to(folder: Path) -> str:
    return max(one.name[:4] for one in (folder / "infra" / "migrations" / "versions").glob("0*.py"))


OLD = f"""
import re, sys, zlib
from collections.abc import Sequence
import numpy as np
from numpy.typing import NDArray
import app.cli, app.wiring

{inspect.getsource(Words)}

app.wiring.BundledEncoder = lambda *_, **__: Words()
sys.argv = ["magicode", "worker"]
app.cli.main()
"""
"""`magicode worker`, but for the embedding model, which takes long to load."""


@asynccontextmanager
async def old_worker(stage: Stage, code: Path, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    await asyncio.to_thread(folder.mkdir)
    environ = _environ(stage, {"MAGICODE_DATA_DIR": str(folder), "PYTHONPATH": str(code)})
    kept_ones = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OLD, env=kept_ones | environ, cwd=code, stderr=log
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@contextlib.contextmanager
def version_is_told_as(url: str, version: str) -> Iterator[None]:
    """A process that was started before the schema was brought further looked at it once, and this is what it saw."""
    with psycopg.connect(url, autocommit=True) as connection:
        was = connection.execute("SELECT version_num FROM magicode.schema_version").fetchone()
        assert was is not None
        connection.execute("UPDATE magicode.schema_version SET version_num = %s", [version])
        try:
            yield
        finally:
            connection.execute("UPDATE magicode.schema_version SET version_num = %s", was)


@claim(
    GROUP,
    f"The program as it was at {RELEASED}, taken from the history, works beside the present one on the present schema; then it goes",
    "Requests that the old one began, and those that both could take, end once each; every promise is kept",
)
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_the_program_that_was_there_before_works_beside_this_one(
    idle: Stage, database: Any, tmp_path: Path, lengths: Lengths, record_property: Any
) -> None:
    code = old_code(tmp_path / "code")
    wanted = lengths.choose(suite=2, prove=8)
    places = await issues(idle, 3 * wanted)
    idle.github.world.app_url = f"{idle.url}/webhooks/github"
    with version_is_told_as(database.owner_url, known_to(code)):
        worker = old_worker(idle, code, tmp_path / "old")
        process = await worker.__aenter__()
        try:
            await ask_on(idle, places[:wanted], ["fix this"] * wanted)
            await all_ended(idle, wanted, within=400)
        except TimeoutError:
            print((tmp_path / "old" / "log").read_text()[-4000:])
            raise
    try:
        async with service(idle, name="present", **SOON):
            await ask_on(idle, places[wanted : 2 * wanted], ["fix this"] * wanted)
            await all_ended(idle, 2 * wanted)
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)
            await ask_on(idle, places[2 * wanted :], ["fix this"] * wanted)
            await all_ended(idle, 3 * wanted)
            await quiet(idle)
    finally:
        await worker.__aexit__(None, None, None)
    record_property("requests", 3 * wanted)
    await kept(idle, runs=3 * wanted)


# --- what a step may do ----------------------------------------------------------------------------------------------

EXPANDING_SINCE = "0004"
"""Earlier steps were made before anybody ran the program."""

TAKES_AWAY: Mapping[str, str] = {
    r"\bDROP\s+(TABLE|COLUMN|SCHEMA|FUNCTION|TYPE|VIEW|SEQUENCE|POLICY|TRIGGER|DEFAULT|NOT\s+NULL|CONSTRAINT)\b": "drops",
    r"\bRENAME\b": "renames",
    r"\bSET\s+SCHEMA\b": "moves",
    r"\bSET\s+NOT\s+NULL\b": "forbids what was allowed",
    r"\bADD\s+(CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN|EXCLUDE)\b": "forbids what was allowed",
    r"\bALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE\b": "retypes",
    r"\bREVOKE\b": "takes a right",
    r"\b(TRUNCATE|DELETE\s+FROM)\b": "removes rows",
}
_BODY = re.compile(r"(\$\w*\$).*?\1", re.DOTALL)
_NEW = re.compile(r"CREATE\s+(?:UNLOGGED\s+)?(?:TABLE|FUNCTION)\s+([\w.]+)", re.IGNORECASE)
_UNIQUE = re.compile(r"CREATE\s+UNIQUE\s+INDEX\s+\w+\s+ON\s+([\w.]+)", re.IGNORECASE)
_ADDED = re.compile(r"\bADD\s+COLUMN\b((?:[^,;()]|\([^)]*\))*)", re.IGNORECASE)
_ALEMBIC = re.compile(r"\bop\.(drop_\w+|rename_table|alter_column)\b")


def takes_away(source: str) -> list[str]:
    """What a step does that a program of the time before it may not outlive; nothing for one that says that it waited for that.

    What a new function does when it is called, and what is done to what the step itself makes, is no matter.
    """
    tree = ast.parse(source)
    docs = ast.get_docstring(tree) or ""
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    sql = _BODY.sub(
        "", re.sub(r"--[^\n]*", "", ";".join(one for one in texts if one.strip() != docs.strip()))
    )
    told = re.search(r"contract: needs (\d{4})", docs.lower())
    if told is not None and f"needs {told[1]}" in sql:
        return []
    made = {name.lower() for name in _NEW.findall(sql)}
    old = [one for one in sql.split(";") if not _only_about(one, made)]
    found = {why for pattern, why in TAKES_AWAY.items() if re.search(pattern, ";".join(old), re.IGNORECASE)}
    for column in _ADDED.findall(";".join(old)):
        if "NOT NULL" in column.upper() and "DEFAULT" not in column.upper():
            found.add("adds a column that older programs do not fill")
    if any(table.lower() not in made for table in _UNIQUE.findall(sql)):
        found.add("forbids what was allowed")
    if _ALEMBIC.search(source):
        found.add("takes away by Alembic")
    return sorted(found)


def _only_about(statement: str, made: set[str]) -> bool:
    """Whether all that a statement names of ours is what the step itself makes."""
    named = {one.lower() for one in re.findall(r"\bmagicode\w*\.\w+", statement)}
    return bool(named) and named <= made


@pytest.mark.parametrize(
    "step",
    [
        case(GROUP, f"The step {one.stem} is read", "It only adds, so that an older program works on", one)
        for one in sorted((FOLDER / "versions").glob("0*.py"))
        if one.name[:4] >= EXPANDING_SINCE
    ],
)
def test_each_step_only_adds(step: Path) -> None:
    assert takes_away(step.read_text()) == [], (
        f"{step.name}: wait until no program needs it any more, then say so: a docstring with 'Contract: needs NNNN' (the first "
        "program that can do without), and COMMENT ON SCHEMA magicode IS 'needs NNNN'"
    )


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        (EXPANDS, []),
        ("ALTER TABLE magicode.runs DROP COLUMN verb", ["drops"]),
        ("ALTER TABLE magicode.runs RENAME COLUMN verb TO word", ["renames"]),
        (
            "ALTER TABLE magicode.runs ADD COLUMN mood text NOT NULL",
            ["adds a column that older programs do not fill"],
        ),
        ("ALTER TABLE magicode.runs ADD COLUMN a numeric(12, 6) NOT NULL DEFAULT 0, ADD COLUMN b text", []),
        ("ALTER TABLE magicode.runs ALTER COLUMN reason SET NOT NULL", ["forbids what was allowed"]),
        ("ALTER TABLE magicode.runs ALTER COLUMN number TYPE integer", ["retypes"]),
        ("CREATE UNIQUE INDEX x ON magicode.runs (asker_id)", ["forbids what was allowed"]),
        ("DROP TABLE magicode.runs", ["drops"]),
        ("REVOKE SELECT ON magicode.runs FROM magicode_service", ["takes a right"]),
        (
            "CREATE FUNCTION magicode.x() RETURNS int LANGUAGE sql AS $$ DELETE FROM x $$; REVOKE ALL ON FUNCTION magicode.x() FROM PUBLIC",
            [],
        ),
        ("TRUNCATE magicode.runs", ["removes rows"]),
    ],
)
@claim(
    GROUP, "Steps that take something away are shown to the reader of steps", "It names what each takes away"
)
def test_a_step_that_takes_something_away_is_noticed(sql: str, found: list[str]) -> None:
    step = STEP.format(docs="One step more.", revision=NEXT, before=HEAD, sql=sql)
    assert takes_away(step) == found
    contract = STEP.format(
        docs=f"Contract: needs {NEXT}.",
        revision=NEXT,
        before=HEAD,
        sql=f"{sql}; COMMENT ON SCHEMA magicode IS 'needs {NEXT}'",
    )
    assert takes_away(contract) == []
