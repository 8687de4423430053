"""Which model a conversation was served by last, and so where it is warm."""
