"""Brings a database up to date as its owner and gives the service's role its password: `python -m infra.postgres.prepare`.

For where the owner's credentials are to be in no process that stays. It reads MAGICODE_DATABASE_OWNER_URL and SERVICE_PASSWORD.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import psycopg
from psycopg import sql

from app.errors import MagicodeError
from infra.postgres.connect import parameters
from infra.postgres.errors import translated
from infra.postgres.migrate import migrate
from infra.postgres.tables import SERVICE_ROLE


def prepare(owner_url: str, password: str) -> None:
    """Again and again: what is done already is left. Raises what `migrate` raises, and psycopg.Error."""
    migrate(owner_url)
    with psycopg.connect(**parameters(owner_url)) as connection:
        # As a verifier, made here: PostgreSQL writes statements that are slow or fail into its log.
        verifier = connection.pgconn.encrypt_password(
            password.encode(), SERVICE_ROLE.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(SERVICE_ROLE), sql.Literal(verifier.decode())
            )
        )


def main(environ: Mapping[str, str]) -> int:
    """The exit status: 2 where a variable is missing, 1 where it could not be done."""
    owner_url, password = environ.get("MAGICODE_DATABASE_OWNER_URL", ""), environ.get("SERVICE_PASSWORD", "")
    if not owner_url or not password:
        print("Set MAGICODE_DATABASE_OWNER_URL and SERVICE_PASSWORD.", file=sys.stderr)
        return 2
    try:
        with translated():
            prepare(owner_url, password)
    except MagicodeError as error:
        print(error.message, file=sys.stderr)
        return 1
    print("The schema is up to date, and the service's role has its password.")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
