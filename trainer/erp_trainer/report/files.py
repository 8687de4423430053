"""IO. A report in the format that a file's suffix names, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from erp_trainer.console import plain
from erp_trainer.files.atomic import atomic_file
from erp_trainer.report import FORMATS as FORMATS
from erp_trainer.report.assembly import page_of


def write(
    payload: Mapping[str, Any],
    path: Path,
    *,
    title: str,
    format_: str | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write one file.

    Parameters
    ----------
    payload : of ``evaluate``
    format_ : one of FORMATS; by default what the suffix says
    examples : of ``examples.pick``, for HTML
    """
    from erp_trainer.report.html import report_html
    from erp_trainer.report.picture import png

    found = plain(payload)
    kind = format_ or path.suffix.lower().removeprefix(".")
    if kind == "html":
        content = report_html(page_of(found, title, examples)).encode()
    elif kind == "png":
        content = png(found, title)
    elif kind == "csv":
        content = table(found).encode()
    else:
        content = (json.dumps(found, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def table(payload: Mapping[str, Any]) -> str:
    """Every policy at every λ, one per line, as CSV; costs are per request."""
    models = list(payload["models"])
    heads = ["policy", "kind", "lambda", "reward", "reward_low", "reward_high", "cost_usd", "regret", "pareto"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*heads, *(f"share:{model}" for model in models)])
    for key, curve in payload["curves"].items():
        for point in curve["points"]:
            figures = [point["lambda"], point["reward"], *point["reward_ci"], point["cost_usd"], point["regret"]]
            shares = [point["share"].get(model, 0.0) for model in models]
            writer.writerow([key, curve["kind"], *figures, point["pareto"], *shares])
    return buffer.getvalue()
