"""`.github/magicode.yml`: what a repository lets MagiCode do, read strictly.

It is read from the base branch only. It can take rights away and never add any: the guards of `app/change` hold
whatever it says. Unknown keys, wrong types, aliases and tags are refused with an error that names them.
"""

from __future__ import annotations

import difflib
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.errors import UserError
from app.patterns import PathPatterns

PATH = ".github/magicode.yml"
MAX_BYTES = 16_384
_MAX_DEPTH = 8

Short = Annotated[str, Field(min_length=1, max_length=250)]
Command = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]+$")]


class RepoFile(BaseModel):
    """The settings of one repository. None means: the service's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    enabled: bool = True
    """False: every request is answered with a refusal that points at this file."""
    model: tuple[Short, ...] = Field(default=(), max_length=5)
    """`anthropic:NAME` or `openai:NAME`; of a list, the next is asked when one is overloaded, away or refuses."""
    deny: tuple[Short, ...] = Field(default=(), max_length=200)
    """Paths that may not be changed, in .gitignore's own pattern language."""
    max_cost_usd: Annotated[Decimal, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    max_changed_lines: Annotated[int, Field(gt=0, le=100_000)] | None = None
    max_files: Annotated[int, Field(gt=0, le=1000)] | None = None
    instructions: Annotated[str, Field(max_length=8000)] | None = None
    """Told to the model after the repository's other instruction files."""
    base: Short | None = None
    """The branch that pull requests go to; None: the default branch."""
    draft: bool = False
    """True: pull requests stay drafts until a person marks them as ready."""
    plan_first: bool = False
    """True: a request for a fix is answered with a plan, and work begins when somebody says `go`."""
    checks: tuple[Command, ...] | None = Field(default=None, max_length=10)
    """Commands that a change has to pass, run in the sandbox; None: found from the repository's own files, empty: none."""
    install: bool | tuple[Command, ...] = False
    """Whether the checks' dependencies are installed first, from package indexes alone; or the commands that do it."""
    mend: bool = True
    """False: failing CI on a pull request of ours is left to people."""
    second_look: bool = True
    """False: a change is published without being looked at once more by a model with fresh eyes."""

    @field_validator("deny", "checks", "install", mode="before")
    @classmethod
    def _a_list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("model", mode="before")
    @classmethod
    def _one_model_or_several(cls, value: object) -> object:
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    @field_validator("deny")
    @classmethod
    def _deny_can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                read = PathPatterns([pattern])
            except ValueError as error:
                raise ValueError(f"`{pattern}` is not a path pattern as .gitignore has them") from error
            if not read and not pattern.startswith("#"):
                raise ValueError(f"`{pattern}` denies nothing: as a path pattern it matches no path")
        return value

    @field_validator("max_cost_usd", mode="before")
    @classmethod
    def _cost_is_a_number(cls, value: object) -> object:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Decimal(str(value))
        return value

    def denied_by(self, path: str) -> str | None:
        """The pattern that denies `path`, or None."""
        found = _patterns(self.deny).match(path)
        return None if found is None else self.deny[found]


DEFAULT = RepoFile()


@lru_cache(maxsize=32)
def _patterns(deny: tuple[str, ...]) -> PathPatterns:
    return PathPatterns(deny)


def require_readable(*, regular: bool, size: int) -> None:
    """What git's tree says of the file, before it is fetched. Rules that cannot be read are not passed over.

    Raises UserError (`repofile_invalid`).
    """
    if not regular:
        raise _invalid("it is a link or a submodule; make it a file.")
    if size > MAX_BYTES:
        raise _invalid(f"it is larger than {MAX_BYTES:,} bytes; make it shorter.")


def parse(data: bytes) -> RepoFile:
    """Reads the file's bytes. An empty file says the same as none.

    Raises UserError (reason `repofile_invalid`) whose message names the file, the key and the remedy.
    """
    require_readable(regular=True, size=len(data))
    try:
        loaded = yaml.load(data.decode("utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader made stricter)
    except UnicodeDecodeError as error:
        raise _invalid("it is not UTF-8; save it as UTF-8.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise _invalid(f"it cannot be read as YAML: {_where(error)}") from error
    if loaded is None:
        return DEFAULT
    if not isinstance(loaded, dict):
        raise _invalid("it has to be a list of `key: value` lines.")
    try:
        return RepoFile.model_validate(loaded)
    except ValidationError as error:
        raise _invalid(" ".join(_sentence(dict(one)) for one in error.errors())) from error


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases (they multiply), tags (they construct), repeated keys and deep nesting."""

    # YAML 1.1 reads dates and merge keys where nobody here means them, and its date reader fails on the 31st of June.
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML declares it on the instance and shares it on the class)
        first: [
            (tag, form) for tag, form in pairs if tag.rpartition(":")[2] in ("bool", "int", "float", "null")
        ]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not allowed (`*{event.anchor}`).")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"tags are not allowed (line {event.start_mark.line + 1}).")
        if self._depth >= _MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested deeper than {_MAX_DEPTH} levels.")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key has to be a word (line {key.start_mark.line + 1}).")
            if key.value in seen:
                raise yaml.YAMLError(f"`{key.value}` stands there twice (line {key.start_mark.line + 1}).")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _sentence(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"`{where}`: {error['msg'].removeprefix('Value error, ')}."
    known = list(RepoFile.model_fields)
    near = difflib.get_close_matches(where.lower(), known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"known keys are {', '.join(f'`{k}`' for k in known)}."
    return f"Unknown key `{where}`: {hint}"


def _where(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem or 'it is malformed'} (line {error.problem_mark.line + 1})."
    return str(error)


def _invalid(text: str) -> UserError:
    return UserError(f"`{PATH}` was not accepted: {text}", reason="repofile_invalid")
