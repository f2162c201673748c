"""The pages and the API: what a person who signed in with GitHub may see and do for an installation."""
