"""PURE. Vega-Lite specifications: rows in, one chart out. Colours are ``$tokens`` of palette.py.

Every chart takes the width of what it stands in. Layers named ``label…`` are left out where there is no room for them.
"""

from erp_trainer.report.charts.base import Rows, Spec
from erp_trainer.report.charts.grids import heat_map, lines, new_model
from erp_trainer.report.charts.money import frontier, mix
from erp_trainer.report.charts.rewards import calibration, categories, policies

__all__ = ["Rows", "Spec", "calibration", "categories", "frontier", "heat_map", "lines", "mix", "new_model", "policies"]
