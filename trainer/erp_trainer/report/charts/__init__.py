"""PURE. Vega-Lite specifications: rows in, one chart out. Colours are ``$tokens`` of palette.py.

Every chart takes the width of what it stands in. Layers named ``label…`` are left out where there is no room for them.
"""
