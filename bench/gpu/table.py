"""What was found, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.machine import heading

_HEADS = f"  {'':44} {'items':>14} {'per s':>10} {'tokens/s':>11} {'of plain':>8} {'batch tokens':>13} {'peak GB':>8}"


def heading_of(device: str | None) -> tuple[str, str]:
    """The device that is used, and the heading that names it."""
    import torch
    import transformers

    found = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if found.startswith("cuda"):
        about = torch.cuda.get_device_properties(found)
        named = f"{about.name}, {about.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
    else:
        named = f"no GPU, {torch.get_num_threads()} threads"
    title = f"Scoring, embedding and sampling on {named}"
    return found, heading(title, f"torch {torch.__version__}, transformers {transformers.__version__}; random weights.")


def lines(title: str, result: Mapping[str, Any]) -> list[str]:
    """A part: its speeds as a table, its other figures a line each, and why it ended early if it did."""
    speeds = [row for row in result["rows"] if "per_s" in row]
    facts = [row for row in result["rows"] if "fact" in row]
    text = ["", f"{title} ({result['seconds']:.0f} s)"]
    if speeds:
        plain = next((row for row in speeds if row["way"].startswith("plain")), None)
        text += [_HEADS, *(_speed(row, plain) for row in speeds)]
    text += [_fact(row) for row in facts]
    if result["error"]:
        text.append(f"  FAILED: {result['error']}")
    return text


def _speed(row: Mapping[str, Any], plain: Mapping[str, Any] | None) -> str:
    comparable = plain is not None and row["way"].split(", ")[-1] == plain["way"].split(", ")[-1]
    ratio = f"{row['tokens_per_s'] / plain['tokens_per_s']:.2f}×" if plain and comparable else ""
    batch = row.get("batch_tokens") or (f"{row['batch_rows']} rows" if "batch_rows" in row else "")
    shown = f"{batch:,}" if isinstance(batch, int) else batch
    items = f"{row['count']:,} {row['unit']}"
    return (
        f"  {row['way']:44} {items:>14} {row['per_s']:>10,.1f} {row['tokens_per_s']:>11,.0f} {ratio:>8} {shown:>13} "
        f"{_number(row.get('memory_gb')):>8}"
    )


def _fact(row: Mapping[str, Any]) -> str:
    figures = {key: value for key, value in row.items() if key not in ("part", "fact") and value is not None}
    named = {key.replace("_", " ").replace(" gb", " GB"): _number(value) for key, value in figures.items()}
    told = ", ".join(f"{name} {value}" for name, value in named.items())
    return f"  {row['fact']}{': ' if told else ''}{told}"


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
