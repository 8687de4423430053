"""PURE. The colours of the page and its charts, light and dark, in one place.

Chart specifications name colours as ``$token``; ``themed`` puts the theme's own in, here for pictures and in report.js
for the page, and the page's style sheet gets the same tokens as CSS variables.
"""

from __future__ import annotations

from typing import Any, Literal

Theme = Literal["light", "dark"]

# Ten hues that stay apart for colour-blind readers in the order given; after them, more models share "other".
_LIGHT_HUES = (
    "#2a62c9", "#d97917", "#14866d", "#b0479b", "#b59b00", "#c8384f", "#3a9bc1", "#7a5fd0", "#6f7d1f", "#8d5b44",
)  # fmt: skip
_DARK_HUES = (
    "#7aa8ff", "#f0a04b", "#4fc3a1", "#de86cb", "#dcc53e", "#f2788a", "#76c9ea", "#ab98f5", "#b4c455", "#c99a83",
)  # fmt: skip

# Light, then dark.
_COLOURS = {
    "page": ("#ffffff", "#111419"),
    "surface": ("#f6f7f9", "#1a1e25"),
    "line": ("#e2e5ea", "#2c323c"),
    "grid": ("#eceef2", "#242a33"),
    "ink": ("#1a1d23", "#e9ecf1"),
    "muted": ("#5b6472", "#a3acba"),
    "faint": ("#9aa3b0", "#6d7684"),
    "accent": ("#2a62c9", "#7aa8ff"),
    "good": ("#14764f", "#5fd0a0"),
    "bad": ("#b3261e", "#ff8f85"),
    "low": ("#f0a868", "#a05a17"),
    "mid": ("#f6f7f9", "#1f242c"),
    "high": ("#7ea6ec", "#2f5fb3"),
}
_COLOURS |= {f"hue{place}": pair for place, pair in enumerate(zip(_LIGHT_HUES, _DARK_HUES, strict=True))}
PALETTES: dict[Theme, dict[str, str]] = {
    "light": {name: light for name, (light, _) in _COLOURS.items()},
    "dark": {name: dark for name, (_, dark) in _COLOURS.items()},
}
N_HUES = len(_LIGHT_HUES)


def hue(place: int) -> str:
    """The token of the hue at a place; those past the last are the quiet one of ``other``."""
    return f"$hue{place}" if place < N_HUES else "$faint"


def themed(spec: Any, theme: Theme) -> Any:
    """A specification with every ``$token`` replaced by the theme's colour."""
    if isinstance(spec, dict):
        return {key: themed(value, theme) for key, value in spec.items()}
    if isinstance(spec, list):
        return [themed(value, theme) for value in spec]
    if isinstance(spec, str) and spec.startswith("$"):
        return PALETTES[theme].get(spec[1:], spec)
    return spec


def config() -> dict[str, Any]:
    """Vega-Lite's ``config`` for every chart: quiet axes, no frame, the page's own type."""
    font = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
    axis = {
        "domainColor": "$line",
        "tickColor": "$line",
        "gridColor": "$grid",
        "labelColor": "$muted",
        "titleColor": "$muted",
        "titleFontWeight": 500,
        "titlePadding": 10,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "labelPadding": 6,
        "tickSize": 4,
    }
    return {
        "background": "transparent",
        "font": font,
        "view": {"stroke": None},
        "axis": axis,
        "legend": {
            "labelColor": "$ink",
            "titleColor": "$muted",
            "labelFontSize": 12,
            "orient": "bottom",
            "direction": "horizontal",
            "symbolStrokeWidth": 2.5,
            "symbolOpacity": 1,
            "labelLimit": 240,
            "columnPadding": 18,
            "padding": 4,
        },
        "text": {"color": "$ink"},
        "title": {"color": "$ink", "fontWeight": 600, "fontSize": 13, "anchor": "start"},
    }
