"""What the model may send to each tool, checked before anything runs; and the JSON Schema that it is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_WRITTEN = 500_000

FilePath = Annotated[
    str, Field(min_length=1, max_length=1000, description="Relative to the repository, like src/a.py.")
]
Piece = Annotated[str, Field(max_length=MAX_WRITTEN)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SearchFor(Arguments):
    question: Annotated[
        str, Field(min_length=1, max_length=1000, description="What the code does, in words.")
    ]
    limit: Annotated[int, Field(ge=1, le=20, description="How many places.")] = 8


class GrepFor(Arguments):
    pattern: Annotated[str, Field(min_length=1, max_length=1000, description="A regular expression (RE2).")]
    glob: Annotated[str, Field(max_length=1000, description="Only these files, like src/**/*.py.")] | None = (
        None
    )
    skip: Annotated[int, Field(ge=0, description="So many lines of the result are passed over.")] = 0


class ListIn(Arguments):
    path: Annotated[str, Field(max_length=1000, description="A folder.")] | None = None
    glob: Annotated[str, Field(max_length=1000, description="A pattern, like tests/**/*.py.")] | None = None
    skip: Annotated[int, Field(ge=0, description="So many lines of the result are passed over.")] = 0


class ReadLines(Arguments):
    path: FilePath
    start_line: Annotated[int, Field(ge=1, description="First line, counted from 1.")] | None = None
    end_line: Annotated[int, Field(ge=1, description="Last line, included.")] | None = None


class EditFile(Arguments):
    path: FilePath
    old: Annotated[Piece, Field(description="The exact text to replace; it must occur once.")]
    new: Annotated[Piece, Field(description="The text to put in its place.")]


class PatchFiles(Arguments):
    patch: Annotated[Piece, Field(min_length=1, description="From `*** Begin Patch` to `*** End Patch`.")]


class CreateFile(Arguments):
    path: FilePath
    text: Annotated[Piece, Field(description="The whole file.")]


class DeleteFile(Arguments):
    path: FilePath


class ReplyTo(Arguments):
    comment_id: Annotated[int, Field(description="The comment_id of the review-thread block.")]
    text: Annotated[Words, Field(max_length=4000, description="What was done about it, or why not.")]


Replies = Annotated[list[ReplyTo], Field(max_length=100, description="One for each review thread.")]


class Finish(Arguments):
    title: Annotated[Words, Field(max_length=120, description="The pull request's title, one line.")]
    summary: Annotated[Words, Field(max_length=8000, description="What was wrong, what changed, and why.")]
    checked_how: Annotated[
        str,
        Field(
            max_length=4000, description="What you looked at to be sure. Do not claim to have run anything."
        ),
    ]

    def answers(self) -> list[ReplyTo]:
        return []


class FinishChecked(Finish):
    checked_how: Annotated[
        str,
        Field(
            max_length=4000,
            description="What you looked at to be sure, and what `run_checks` showed. Claim nothing else.",
        ),
    ]


class FinishReplying(Finish):
    replies: Replies

    def answers(self) -> list[ReplyTo]:
        return self.replies


class FinishCheckedReplying(FinishChecked):
    replies: Replies

    def answers(self) -> list[ReplyTo]:
        return self.replies


class Answer(Arguments):
    text: Annotated[Words, Field(max_length=20_000, description="For the asker, in Markdown.")]
    kind: Annotated[
        Literal["question", "finding"],
        Field(description="`question`: one precise question, without whose answer you cannot go on."),
    ] = "finding"

    def answers(self) -> list[ReplyTo]:
        return []


class AnswerReplying(Answer):
    replies: Replies = []

    def answers(self) -> list[ReplyTo]:
        return self.replies


class PlannedFile(Arguments):
    path: FilePath
    change: Annotated[Words, Field(max_length=1000, description="What changes in it.")]


class HandInPlan(Arguments):
    summary: Annotated[Words, Field(max_length=4000, description="What would be done, and why so.")]
    files: Annotated[list[PlannedFile], Field(min_length=1, max_length=60)]
    steps: Annotated[list[Annotated[Words, Field(max_length=1000)]], Field(min_length=1, max_length=30)]
    risks: Annotated[
        list[Annotated[Words, Field(max_length=1000)]],
        Field(max_length=20, description="What could go wrong, or what you could not find out."),
    ]


class NoArguments(Arguments):
    pass


class ReadOutput(Arguments):
    command: Annotated[int, Field(ge=1, description="The command's number in what `run_checks` said.")]
    start_line: Annotated[int, Field(ge=1, description="First line, counted from 1.")] | None = None
    end_line: Annotated[int, Field(ge=1, description="Last line, included.")] | None = None


def schema(arguments: type[Arguments]) -> dict[str, object]:
    """JSON Schema without pydantic's titles, which tell the model nothing, and without references."""
    made: dict[str, Any] = arguments.model_json_schema()
    inner: Mapping[str, Any] = made.get("$defs", {})
    fields = {name: _plain(field, inner) for name, field in made.get("properties", {}).items()}
    return {
        "type": "object",
        "properties": fields,
        "required": made.get("required", []),
        "additionalProperties": False,
    }


def _plain(part: Any, inner: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_plain(one, inner) for one in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        part = inner[part["$ref"].rpartition("/")[2]] | {k: v for k, v in part.items() if k != "$ref"}
    made = {key: _plain(value, inner) for key, value in part.items() if key not in ("title", "properties")}
    if "properties" in part:  # a property may be called `title`
        made["properties"] = {name: _plain(one, inner) for name, one in part["properties"].items()}
    return made
