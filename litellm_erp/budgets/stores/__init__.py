"""Where processes meet to share counters: a file per kind of store."""
