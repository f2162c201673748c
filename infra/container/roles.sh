#!/bin/sh
# The three roles, made once when PostgreSQL's volume is: the owner of the tables, whom nobody signs in as; who migrates, and may
# become the owner; the service, which owns nothing and cannot pass row-level security. Passwords are read by psql, from files.
set -eu
export SECRETS="${SECRETS:-/run/secrets}"
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname "$POSTGRES_DB" <<'SQL'
\set migrator `cat "$SECRETS/postgres_migrator"`
\set service `cat "$SECRETS/postgres_service"`
SELECT current_database() AS here \gset
BEGIN;
CREATE ROLE magicode_owner NOLOGIN;
CREATE ROLE magicode_migrator LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'migrator';
CREATE ROLE magicode_service LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'service';
GRANT magicode_owner TO magicode_migrator;
REVOKE ALL ON DATABASE :"here" FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE :"here" TO magicode_migrator;
GRANT CONNECT ON DATABASE :"here" TO magicode_service;
COMMIT;
SQL
