"""A comment becomes a pull request here; the only room that knows the others. Start at `line.py`."""
