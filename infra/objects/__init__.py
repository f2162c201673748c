"""Where exports wait to be fetched: a folder, or a bucket."""
