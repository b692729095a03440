"""Who drives an engine; one file per runtime."""
