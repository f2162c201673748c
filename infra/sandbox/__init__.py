"""Where a repository's own commands run: no network, no secrets, limits on everything, killed as a whole."""
