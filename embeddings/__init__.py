"""A repository becomes ranked snippets: chunked, embedded, protected, indexed, searched and forgotten."""
