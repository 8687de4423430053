"""IO. The frontier as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erp_trainer.report.html import VEGA_LITE
from erp_trainer.report.palette import themed
from erp_trainer.report.sections.frontier import frontier_section
from erp_trainer.report.units import Units

WIDTH, HEIGHT = 1060, 480


def png(payload: Mapping[str, Any], title: str) -> bytes:
    """The frontier chart, light, about 1,200 pixels wide.

    Raises
    ------
    ModuleNotFoundError : the extra ``report`` is not installed
    """
    import vl_convert

    part, _ = frontier_section(payload, Units.of(payload))
    spec = themed(part.charts["frontier"], "light")
    counts = payload["counts"]
    heading = {
        "text": f"Reward against cost: {title}",
        "subtitle": f"{counts['test_prompts']:,} held-out prompts, {counts['models']} models; band: 95% interval",
        "anchor": "start",
        "fontSize": 17,
        "subtitleFontSize": 13,
        "subtitleColor": "#5b6472",
        "offset": 14,
    }
    size = {"width": WIDTH, "height": HEIGHT}
    whole = spec | size | {"title": heading, "background": "#ffffff", "padding": 18}
    picture: bytes = vl_convert.vegalite_to_png(whole, vl_version=VEGA_LITE)
    return picture
