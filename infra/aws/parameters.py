"""What is said from outside about one deployment, read once and refused where it would deploy something else than was meant."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

DEFAULT_REGION = "eu-central-1"

_REGION = re.compile(r"(eu|us)-(central|east|north|south|west)-[0-9]")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9./_-]*(:[A-Za-z0-9._-]+)?@sha256:[0-9a-f]{64}")
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
_DEDICATED = re.compile(r"([1-9][0-9]{0,17}):([1-9][0-9]?)")
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9._/-]*")
_NAMES = (
    "region",
    "domain",
    "certificate",
    "repository",
    "digest",
    "collector_image",
    "qdrant_image",
    "qdrant_url",
    "cidr",
    "database_class",
    "database_ca",
    "web_tasks",
    "worker_tasks",
    "worker_tasks_most",
    "dedicated",
    "alarm_email",
)


class ParameterError(ValueError):
    """A parameter of the deployment is missing or is not what it must be."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Images are named by digest alone: a tag can become another image between two starts of a task. `dedicated` says how many
    worker tasks of its own an installation has."""

    region: str
    domain: str
    certificate: str
    repository: str
    digest: str
    collector_image: str
    qdrant_image: str
    qdrant_url: str
    cidr: str
    database_class: str
    database_ca: str
    web_tasks: int
    worker_tasks: int
    worker_tasks_most: int
    dedicated: Mapping[int, int]
    alarm_email: str

    @property
    def own_qdrant(self) -> bool:
        return not self.qdrant_url

    @property
    def started(self) -> bool:
        """Whether tasks run. Before the App's secrets are there, none could."""
        return self.web_tasks > 0


def read(context: Callable[[str], object]) -> Parameters:
    """From the context of a CDK app, `-c name=value`. Raises ParameterError."""
    said = {name: str(value).strip() for name in _NAMES if (value := context(name)) is not None}
    region = _held("region", said.get("region", DEFAULT_REGION), _REGION)
    web = _number("web_tasks", said.get("web_tasks", "2"))
    worker = _number("worker_tasks", said.get("worker_tasks", "2"))
    most = _number("worker_tasks_most", said.get("worker_tasks_most", "10"))
    if (web == 0) != (worker == 0) or most < max(worker, 1):
        raise ParameterError(
            "web_tasks and worker_tasks are both 0, which starts nothing, or neither; worker_tasks_most is no less."
        )
    url = said.get("qdrant_url", "")
    if url and not url.startswith("https://"):
        raise ParameterError("qdrant_url: a Qdrant that is not of this network is asked by https:// alone.")
    return Parameters(
        region=region,
        domain=_held("domain", said.get("domain"), _DOMAIN),
        certificate=_held(
            "certificate",
            said.get("certificate"),
            re.compile(rf"arn:aws:acm:{region}:[0-9]{{12}}:certificate/[0-9a-f-]+"),
        ),
        repository=_held("repository", said.get("repository", "magicode"), _REPOSITORY),
        digest=_held("digest", said.get("digest"), _DIGEST),
        collector_image=_held("collector_image", said.get("collector_image"), _IMAGE),
        qdrant_image="" if url else _held("qdrant_image", said.get("qdrant_image"), _IMAGE),
        qdrant_url=url,
        cidr=_network(said.get("cidr", "10.20.0.0/16")),
        database_class=said.get("database_class", "m7g.large"),
        database_ca=said.get("database_ca", ""),
        web_tasks=web,
        worker_tasks=worker,
        worker_tasks_most=most,
        dedicated=_dedicated(said.get("dedicated", "")),
        alarm_email=said.get("alarm_email", ""),
    )


def _held(name: str, value: str | None, form: re.Pattern[str]) -> str:
    if value is None:
        raise ParameterError(f"{name} is not given: -c {name}=…")
    if not form.fullmatch(value):
        raise ParameterError(f"{name}: {value!r} is not of the form {form.pattern}")
    return value


def _number(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) > 100:
        raise ParameterError(f"{name}: {value!r} is no number from 0 to 100.")
    return int(value)


def _dedicated(value: str) -> Mapping[int, int]:
    found: dict[int, int] = {}
    for one in filter(None, (part.strip() for part in value.split(","))):
        held = _DEDICATED.fullmatch(one)
        if held is None or int(held[1]) in found:
            raise ParameterError(
                f"dedicated: {one!r} is no installation with its number of tasks, as in 123:1,456:2, or is named twice."
            )
        found[int(held[1])] = int(held[2])
    return found


def _network(value: str) -> str:
    """Room for three kinds of subnets in two zones."""
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError:
        raise ParameterError(f"cidr: {value!r} is no network.") from None
    if not network.is_private or not 16 <= network.prefixlen <= 20:
        raise ParameterError(f"cidr: {value!r} is no private network of /16 to /20.")
    return value
