"""One file per kind of reward model; a kind's module is imported when a pool file names it."""
