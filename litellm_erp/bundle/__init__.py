"""A bundle on disk and in memory: what one holds, how it is checked and written, and what it ranks."""
