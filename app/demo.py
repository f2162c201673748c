"""The demonstration: a simulated GitHub, the real service beside it, one comment, one pull request, told as it happens.

The service is the one that `magicode serve` starts, in a process of its own. Where no provider's key is set, a
scripted model answers over a provider's real wire format, and the demonstration says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from app import settings
from app.actionlog.export import opened
from app.errors import MagicodeError
from app.wiring import Records, open_records
from infra.models import playbook
from infra.models.choose import default_spec
from infra.simulator.control import ENTER
from infra.simulator.model.serve import environment
from infra.simulator.model.serve import running as running_model
from infra.simulator.serve import Running
from infra.simulator.serve import running as running_github

REPOSITORY = "octo/fairshare"
ISSUE_TITLE = "Some cents are lost when a bill is split"
ISSUE_BODY = """\
Splitting 10.00 among three people gives 3.33 each, and nobody pays the last cent:

```python
>>> sum(split_evenly(1000, ["ana", "ben", "cem"]).values())
999
```

`python -m unittest` shows it too: `test_no_cent_is_lost` and `test_every_cent_is_accounted_for` fail.
"""
COMMENT = "@magicode fix this"
ADMINISTRATOR = "ada"
_STEPS = {
    "webhook.accepted": "GitHub's webhook was accepted: signature checked, one row and one job written",
    "run.started": "a worker took the run up",
    "permission.checked": "the asker may write to the repository",
    "token.minted": "a token was minted, narrowed to this repository",
    "token.revoked": "a token was revoked",
    "github.read": "GitHub was read: how often by which route",
    "github.write": "a write to GitHub, written down before it is sent",
    "reaction.added": "👀 on the comment",
    "code.fetched": "the code was fetched into memory, at one commit",
    "index.updated": "the index was brought up to date: vectors only",
    "index.searched": "the places to look at were ranked",
    "model.asked": "a request to the model, written down before it is sent",
    "model.called": "the model answered",
    "model.failed": "the model was asked, and did not answer",
    "patch.checked": "every guard passed the patch",
    "checks.run": "the repository's own checks were run in the sandbox",
    "second_look.taken": "a second look was taken, by a model that saw the request and the diff alone",
    "commit.created": "the commit was made through GitHub",
    "ref.created": "the branch was created",
    "pull_request.opened": "the pull request was opened",
    "comment.created": "the status comment was written",
    "comment.updated": "the status comment was edited",
    "run.ended": "the run ended",
}


class DemoError(MagicodeError):
    """The demonstration did not come to its end."""


@dataclass(slots=True)
class Told:
    """What the demonstration has to show for itself."""

    model: str
    scripted: bool
    pull_request: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    actions: list[dict[str, Any]] = field(default_factory=list)
    diff: str = ""
    dashboard: str | None = None

    def document(self) -> dict[str, Any]:
        kept = {} if self.dashboard is None else {"dashboard": self.dashboard}
        return {
            **kept,
            "pull_request": self.pull_request or None,
            "run": self.run,
            "actions": self.actions,
            "model": {"spec": self.model, "scripted": self.scripted},
        }


async def demonstrate(
    *, as_json: bool, environ: Mapping[str, str], keep: bool = False, patience: float = 300.0
) -> int:
    """Run it; with `keep` it stays, to be looked at, until SIGINT or SIGTERM. Returns the exit status: 0 when a pull request was
    opened, 1 otherwise."""
    out = Console(stderr=as_json, highlight=False)
    with tempfile.TemporaryDirectory(prefix="magicode-demo-", ignore_cleanup_errors=True) as folder:
        async with _stage(Path(folder), environ) as stage:
            _announce(out, stage)
            number, repository = await stage.ask()
            out.print(f'[bold]wim[/] comments on issue #{number}: [cyan]"{COMMENT}"[/]\n')
            told = await asyncio.wait_for(_follow(out, stage), patience)
            await _read_pull_request(stage, repository, told)
            if keep:
                told.dashboard = stage.dashboard
            if as_json:
                sys.stdout.write(json.dumps(told.document(), indent=2, ensure_ascii=False) + "\n")
                sys.stdout.flush()
            else:
                _show(out, told)
            if keep:
                await _stay(out, stage)
    return 0 if told.run.get("state") == "opened" else 1


# --- the stage -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """A simulated GitHub and a service that listens to it at `url`."""

    github: Running
    url: str
    records: Records
    spec: str
    scripted: bool

    @property
    def dashboard(self) -> str:
        """The service's pages, signed in as the simulated GitHub's administrator."""
        signing_in = (
            f"{self.url}/signin?{urlencode({'then': f'/installations/{self.github.installation_id}/runs'})}"
        )
        return f"{self.github.base_url}{ENTER}?{urlencode({'person': ADMINISTRATOR, 'to': signing_in})}"

    async def ask(self) -> tuple[int, str]:
        """Opens the issue and comments on it, through GitHub's ordinary REST API, as a person with write access."""
        client = self.github.client("wim")
        issue = await client.post(
            f"/repos/{REPOSITORY}/issues", json={"title": ISSUE_TITLE, "body": ISSUE_BODY}
        )
        issue.raise_for_status()
        number = int(issue.json()["number"])
        comment = await client.post(f"/repos/{REPOSITORY}/issues/{number}/comments", json={"body": COMMENT})
        comment.raise_for_status()
        return number, REPOSITORY


@contextlib.asynccontextmanager
async def _stage(folder: Path, environ: Mapping[str, str]) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        sample = folder / "sample"
        _copy_sample(sample)
        github = await stack.enter_async_context(running_github(folder / "github", {REPOSITORY: sample}))
        spec, extra = await _model(stack, environ)
        app = github.world.app
        port = stack.enter_context(_port())
        url = f"http://127.0.0.1:{port}"
        service = {
            **{name: value for name, value in environ.items() if _kept(name)},
            **extra,
            "MAGICODE_GITHUB_API_URL": github.base_url,
            "MAGICODE_GITHUB_WEB_URL": github.base_url,
            "MAGICODE_PUBLIC_URL": url,
            "MAGICODE_APP_ID": str(app.id),
            "MAGICODE_CLIENT_ID": app.client_id,
            "MAGICODE_CLIENT_SECRET": app.client_secret,
            "MAGICODE_PRIVATE_KEY": app.private_key_pem,
            "MAGICODE_WEBHOOK_SECRET": app.webhook_secret,
            "MAGICODE_DATA_DIR": str(folder / "data"),
            "MAGICODE_MODEL": spec,
            "MAGICODE_PORT": str(port),
        }
        await stack.enter_async_context(_service(service, folder / "service.log", port))
        github.world.app_url = f"{url}/webhooks/github"
        records = await stack.enter_async_context(open_records(settings.read(service)))
        yield Stage(github, url, records, spec, scripted=bool(extra))


async def _model(stack: contextlib.AsyncExitStack, environ: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The model to ask, and what must be set for it: nothing for a real one."""
    spec = environ.get("MAGICODE_MODEL") or default_spec(environ)
    if spec:
        return spec, {}
    script = playbook.parse((files("infra.simulator") / "sample.playbook.yml").read_text(encoding="utf-8"))
    url = await stack.enter_async_context(running_model(script))
    return f"anthropic:{playbook.PLAYBOOK_MODEL}", environment(url)


@contextlib.asynccontextmanager
async def _service(environ: Mapping[str, str], log: Path, port: int) -> AsyncIterator[None]:
    """`magicode serve`, for as long as the block lasts. Raises DemoError when it does not come up."""
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli", "serve", env=dict(environ), stdout=written, stderr=written
        )
        try:
            await _ready(process, port, log)
            yield
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 30)
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _ready(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(600):
            if process.returncode is not None:
                raise DemoError(f"The service did not start:\n{await asyncio.to_thread(_tail, log)}")
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.2)
    raise DemoError("The service was not ready within two minutes.")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-4000:]


def _kept(name: str) -> bool:
    """The demonstration has settings of its own, but for what is the machine's."""
    return not name.startswith(settings.PREFIX) or name.startswith(f"{settings.PREFIX}SANDBOX")


def _copy_sample(folder: Path) -> None:
    source = files("infra.simulator") / "sample"
    _copy(source, folder)


def _copy(source: Any, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for item in source.iterdir():
        if item.is_dir():
            if item.name != "__pycache__":
                _copy(item, target / item.name)
        else:
            (target / item.name).write_bytes(item.read_bytes())


@contextlib.contextmanager
def _port() -> Iterator[int]:
    """A free one, which nobody else is given before the service listens there, on Linux: two sockets may be bound to a port of which
    one listens, if both say so. Elsewhere they may not."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = int(held.getsockname()[1])
        if sys.platform != "linux":
            held.close()
        yield port


# --- what is told ----------------------------------------------------------------------------------------------------


def _announce(out: Console, stage: Stage) -> None:
    out.print(
        f"A simulated GitHub is at [link]{stage.github.base_url}[/link], with the repository {REPOSITORY}."
    )
    if stage.scripted:
        out.print(
            "[yellow]No ANTHROPIC_API_KEY or OPENAI_API_KEY is set: a scripted model, not an AI, answers from a "
            "playbook.[/]\n"
        )
    else:
        out.print(f"The model is [bold]{escape(stage.spec)}[/]: a real one, and it costs real money.\n")


async def _follow(out: Console, stage: Stage) -> Told:
    """Prints each action as it enters the log, until the run has ended."""
    told = Told(stage.spec, stage.scripted)
    installation, seen, ended = stage.github.installation_id, 0, False
    while True:
        async for entry in opened(stage.records.store, stage.records.keys, installation, after_seq=seen):
            row = entry.model_dump()
            seen = entry.seq
            told.actions.append(row)
            _step(out, row)
        if ended:
            return told
        async with stage.records.store.transaction(installation) as transaction:
            runs = [run for run in await transaction.runs(limit=1) if run.state.ended]
        if runs:
            run = runs[0]
            seconds = ((run.ended_at or run.created_at) - run.created_at).total_seconds()
            told.run = {
                "id": str(run.id),
                "state": run.state.value,
                "reason": run.reason,
                "seconds": round(seconds, 3),
                "cost_usd": float(run.cost_usd),
                "input_tokens": run.input_tokens,
                "cached_tokens": run.cached_tokens,
                "output_tokens": run.output_tokens,
            }
            told.pull_request = {"number": run.pull_request}
            ended = True
        await asyncio.sleep(0.1)


def _step(out: Console, row: Mapping[str, Any]) -> None:
    facts = ", ".join(f"{name} {value}" for name, value in row["details"].items() if value is not None)
    said = _STEPS.get(row["action"], "")
    if row["action"] == "checks.run" and not row["details"]["commands"]:
        said = "no check was run; the pull request says why"
    out.print(f"  [green]●[/] {row['at'][11:19]} [bold]{row['action']:<22}[/] {said}", soft_wrap=True)
    if facts:
        out.print(f"    [dim]{escape(facts)}[/]", soft_wrap=True)


async def _read_pull_request(stage: Stage, repository: str, told: Told) -> None:
    number = told.pull_request.get("number")
    if number is None:
        told.pull_request = {}
        return
    client = stage.github.client("wim")
    answer = await client.get(f"/repos/{repository}/pulls/{number}")
    answer.raise_for_status()
    pull = answer.json()
    changed = await client.get(f"/repos/{repository}/pulls/{number}/files")
    changed.raise_for_status()
    told.pull_request = {
        "number": pull["number"],
        "url": pull["html_url"],
        "head": pull["head"]["ref"],
        "base": pull["base"]["ref"],
        "title": pull["title"],
        "draft": pull["draft"],
        "body": pull["body"],
        "files": [
            {name: file[name] for name in ("filename", "status", "additions", "deletions")}
            for file in changed.json()
        ],
    }
    told.diff = "\n".join(
        f"--- a/{file['filename']}\n+++ b/{file['filename']}\n{file.get('patch', '')}"
        for file in changed.json()
    )


def _show(out: Console, told: Told) -> None:
    pull = told.pull_request
    if pull:
        out.print()
        out.print(Panel(Syntax(told.diff, "diff", background_color="default"), title=escape(pull["title"])))
        out.print(
            f"[bold]Pull request #{pull['number']}[/]  {pull['url']}  ({pull['head']} → {pull['base']})"
        )
        for heading in ("How it was checked", "Left open"):
            if text := _section(pull["body"], heading):
                out.print(Panel(Markdown(text), title=f"The pull request says: {heading.lower()}"))
    run = told.run
    out.print(
        f"Run [bold]{run['state']}[/] in {run['seconds']:.1f} s; {run['input_tokens']} tokens in "
        f"({run['cached_tokens']} cached), {run['output_tokens']} out: ${run['cost_usd']:.4f}"
        + (" at the scripted model's example price, so nothing" if told.scripted else "")
    )
    table = Table(title="The action log", title_justify="left")
    for heading in ("#", "at", "action", "actor", "hash"):
        table.add_column(heading)
    for row in told.actions:
        table.add_row(str(row["seq"]), row["at"][11:23], row["action"], row["actor"], row["hash"][:12])
    out.print(table)


def _section(body: str, heading: str) -> str:
    """What a pull request's body says under a heading, without the boxes that people are to tick."""
    text = body.partition(f"## {heading}\n")[2]
    return re.split(r"^(?:## |<!--|- \[ \])", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


async def _stay(out: Console, stage: Stage) -> None:
    """Until somebody has seen enough."""
    out.print(
        f"\nThe dashboard, signed in as {ADMINISTRATOR}, who administers the simulated GitHub:\n  {stage.dashboard}",
        soft_wrap=True,
    )
    out.print(
        f"The simulated GitHub's issues and pull requests are at {stage.github.base_url}/{REPOSITORY}/issues/1"
    )
    out.print("All of it stays until Ctrl-C, and is gone then.")
    enough, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, enough.set)
    await enough.wait()


def main(*, as_json: bool, keep: bool) -> int:
    """The command `magicode demo`."""
    return asyncio.run(demonstrate(as_json=as_json, keep=keep, environ=os.environ))
