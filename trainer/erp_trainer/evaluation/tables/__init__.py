"""Measures that are a table of their own: a module each, listed in ``payload.TABLES``; the reports draw any of them."""
