"""The schema's history, applied by `infra/postgres/migrate.py`."""
