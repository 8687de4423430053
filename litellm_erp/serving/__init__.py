"""One routed group at run time: its deployments, its bundle, what it spends, and what is said about it."""
