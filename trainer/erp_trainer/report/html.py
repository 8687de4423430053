"""IO. The page as one HTML file: template, style, script, data and charts inlined; nothing is loaded from anywhere."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from erp_trainer.report.assembly import Page
from erp_trainer.report.palette import PALETTES


def report_html(page: Page) -> str:
    """The whole file.

    Raises
    ------
    ModuleNotFoundError : the extra ``report`` is not installed
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(_file("report.html"))
    from markupsafe import Markup

    return template.render(
        **{
            name: getattr(page, name)
            for name in ("title", "verdict", "tiles", "sections", "charts", "dial", "footer", "notice")
        },
        palettes=PALETTES,
        style=Markup(_file("report.css")),  # noqa: S704 - our own file
        script=Markup(_file("report.js")),  # noqa: S704 - our own file
        library=Markup(library()),  # noqa: S704 - closing tags are escaped there
        data=Markup(data(page)),  # noqa: S704 - likewise
    )


def data(page: Page) -> str:
    """What the page's script reads, as JSON that cannot end its element."""
    found: dict[str, Any] = {
        "charts": page.charts,
        "cells": page.cells,
        "palettes": PALETTES,
        "curve": page.dial.points if page.dial else [],
        "budget": page.dial.budget if page.dial else None,
    }
    text = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@lru_cache(maxsize=1)
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return bundle.replace("</script", "<\\/script")


VEGA_LITE = "6.4"


def _file(name: str) -> str:
    return (files("erp_trainer.report") / "template" / name).read_text(encoding="utf-8")
