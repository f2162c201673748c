"""GitHub's REST routes, a module for each family; each exposes `endpoints`."""
