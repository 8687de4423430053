"""Reward models: one file per kind, found through a registry."""
