"""Money over time: what was spent by whom, what is held back, and the pace that makes it last."""
