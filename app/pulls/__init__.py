"""From a checked change to one pull request, and every word that is said about it."""
