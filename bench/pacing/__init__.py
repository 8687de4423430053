"""Budgets over time: a month of simulated traffic, one budget of several proxies, and teams with goals of their own.

``python -m bench.pacing``, ``python -m bench.pacing.shared_budget``, ``python -m bench.pacing.teams``.
"""
