"""The report of a decision log."""
