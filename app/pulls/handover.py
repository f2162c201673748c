"""What people are told of exports and of the action log, in public: that they are there and where, never what is in them."""

from __future__ import annotations

from datetime import datetime

from app.pulls.neutralise import code
from app.pulls.wording import Ours


def exporting(link: str | None, command: str) -> Ours:
    """While it is being made."""
    return Ours(
        "I am putting together all that I hold about this installation: settings, requests and what they used, the action "
        "log, what is known of keys (never a key), and how many vectors there are. It becomes one ZIP of JSON and CSV, with "
        "every file and column explained.\n\n" + _where(link, command, "This comment says when it is there.")
    )


def underway(link: str | None, command: str) -> Ours:
    """To a second one while one is being made."""
    return Ours(
        "An export of this installation is being made already, and it will hold everything up to now.\n\n"
        + _where(link, command, "")
    )


def exported(link: str | None, command: str, sha256: str, until: datetime) -> Ours:
    """Once it can be fetched."""
    said = (
        f"It is kept encrypted until {until:%Y-%m-%d}, and then removed. SHA-256 of the ZIP: {code(sha256)}."
    )
    return Ours("The export is there.\n\n" + _where(link, command, said))


def not_exported() -> Ours:
    return Ours(
        "The export could not be made, and nothing of it is left. The operator is told.\n\n**Next:** ask again."
    )


def _where(link: str | None, command: str, then: str) -> str:
    if link is None:
        where = f"This service has no web address of its own, so its operator hands the export over: {code(command)}."
    else:
        where = (
            f"**[Download it]({link})**: sign in with GitHub there. It is for administrators of this installation "
            "alone, and each download stands in the action log."
        )
    return f"{where}\n\n{then}".strip()


def logs(summary: str | None, link: str | None, head: str, run: str | None, mention: str) -> Ours:
    """Of the last request here: figures alone. `summary` is app.actionlog.summary's, None where there was no request."""
    about = (
        f"The last request here, {code(run)}:\n\n{summary}"
        if summary is not None and run is not None
        else f"Nothing was asked of me here before, so there is no run to tell of. {code(f'{mention} help')} says what can be."
    )
    if link is None:
        where = "This service has no web address of its own: its operator hands the log over, with `magicode actions export`."
    else:
        where = f"**[All entries, with their details]({link})**: sign in with GitHub there. They are never shown in public."
    verify = (
        f"Head of the whole log now: {code(head)}. To check it without this service: download it as JSON lines and run "
        f"{code(f'magicode actions verify FILE --anchor {head}')}. An entry that was edited, dropped, put elsewhere or cut "
        "off since is found."
    )
    return Ours("\n\n".join((about, where, verify)))
