"""``python -m bench [--quick] [--only NAME]``: every benchmark, one table each."""

import argparse
from collections.abc import Callable
from importlib import import_module

from demo.proxy_process import interrupt_on_sigterm

PARTS = ("embedding", "decision", "budget_path", "bundle", "proxy", "fitting", "evaluation")


def main() -> None:
    """Run the parts in turn."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a minute, and wider spreads")
    parser.add_argument("--only", choices=PARTS, help="one part")
    arguments = parser.parse_args()
    interrupt_on_sigterm()
    for name in [arguments.only] if arguments.only else PARTS:
        part: Callable[[bool], None] = import_module(f"bench.{name}").main
        part(arguments.quick)


if __name__ == "__main__":
    main()
