"""Bytes from GitHub become one Command, one notice, or a reason to ignore them; no job, model or database is known here."""
