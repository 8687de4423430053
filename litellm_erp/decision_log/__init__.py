"""The decision log: what was decided, what served and what came of it, as lines that outlive the proxy."""
