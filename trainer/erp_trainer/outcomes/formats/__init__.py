"""Outcomes as other tools write them, one file per tool."""
