#!/bin/sh
# The four roles, made once when PostgreSQL's volume is: the owner of the tables, whom nobody signs in as; who migrates, and may
# become the owner; the service, which owns nothing and cannot pass row-level security; who makes backups, and reads every row
# and writes none. Passwords are read by psql, from files.
set -eu
export SECRETS="${SECRETS:-/run/secrets}"
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname "$POSTGRES_DB" <<'SQL'
\set migrator `cat "$SECRETS/postgres_migrator"`
\set service `cat "$SECRETS/postgres_service"`
\set backup `cat "$SECRETS/postgres_backup"`
SELECT current_database() AS here \gset
BEGIN;
CREATE ROLE magicode_owner NOLOGIN;
CREATE ROLE magicode_migrator LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'migrator';
CREATE ROLE magicode_service LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'service';
CREATE ROLE magicode_backup LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS PASSWORD :'backup';
GRANT magicode_owner TO magicode_migrator;
GRANT pg_read_all_data TO magicode_backup;
REVOKE ALL ON DATABASE :"here" FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE :"here" TO magicode_migrator;
GRANT CONNECT ON DATABASE :"here" TO magicode_service, magicode_backup;
COMMIT;
SQL
