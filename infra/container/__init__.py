"""One image with two commands, `serve` and `worker`, and how it runs from one machine to many: see its README."""
