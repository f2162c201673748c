"""The command line's groups, a module each; `app/cli.py` mounts them."""
