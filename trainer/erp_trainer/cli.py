"""`erp-train`: the command table, and the one place where an error becomes a message and an exit code.

Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 130 interrupted.
"""

from __future__ import annotations

from erp_trainer import interrupts

with interrupts.one_line():  # the first tenth of a second is these imports
    import errno
    import importlib
    import os
    import re
    from typing import Any

    import click

    from erp_trainer.console import emit, printable
    from litellm_erp import __version__
    from litellm_erp.errors import ErpError

# Name to short help, in the order of the work. Modules are imported when their command runs, so `--help` stays fast.
COMMANDS: dict[str, str] = {
    "init": "Write a pool file from a LiteLLM config.",
    "run": "From a pool file to a bundle, all stages.",
    "prompts": "Gather, split and record the prompts of a run.",
    "sample": "Sample K responses per prompt from every pool model.",
    "score": "Score the sampled responses with every reward model.",
    "import": "Read recorded outcomes into a run folder.",
    "embed": "Embed a run's prompts ahead of fitting.",
    "fit": "Fit one probe per model and write a bundle.",
    "predict": "Rank the pool models for every prompt of a file.",
    "evaluate": "Measure a bundle on a run's test prompts.",
    "report": "Draw that as one HTML file, a picture or a table.",
    "add-model": "Add one model to a bundle; no other probe changes.",
    "remove-model": "Take one model out of a bundle; no other probe changes.",
    "update": "Let a bundle learn from the feedback in a decision log.",
    "rollback": "Put back the bundle that the latest change replaced.",
    "calibrate": "Find the λ of a budget or a quality floor.",
    "doctor": "Check whether a proxy config would route.",
    "inspect": "Show what is in a bundle.",
}

_AS_JSON = "erp_trainer.as_json"
# As the operating system calls them, and as libraries that are not written in Python quote them.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_QUOTED = re.compile(rf"os error ({'|'.join(map(str, _NO_ROOM))})\b")
# A path that is not, or not of the kind or with the rights that are needed.
_NO_PLACE = (
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM,
    errno.EROFS,
)  # fmt: skip
_EXTRAS = {
    "datasets": "train",
    "pyarrow": "train",
    "rich": "train",
    "scipy": "train",
    "sklearn": "train",
    "tenacity": "train",
    "jinja2": "report",
    "vl_convert": "report",
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table, which is the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None where the table does not have it."""
        if cmd_name not in COMMANDS:
            return None
        module = "import_" if cmd_name == "import" else cmd_name.replace("-", "_")
        command: click.Command = importlib.import_module(f"erp_trainer.commands.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note ``--json`` in the raw arguments: a usage error is raised before any option has a value."""
        ctx.meta[_AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the command line; an interrupt here would be click's "Aborted!" and exit code 1."""
        with interrupts.one_line():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; errors that are the user's to fix end here."""
        try:
            try:
                return super().invoke(ctx)
            except click.exceptions.Exit:
                raise
            except Exception as exc:
                if interrupts.seen():
                    raise KeyboardInterrupt from exc
                _explain(exc, ctx)
                raise
        except KeyboardInterrupt:
            interrupts.leave_at_once()
            click.echo(interrupts.LINE, err=True)
            ctx.exit(interrupts.EXIT_CODE)


def _explain(exc: Exception, ctx: click.Context) -> None:
    """End with a message where it is the user's to fix; return where it is not."""
    as_json: bool = ctx.meta[_AS_JSON]
    if isinstance(exc, ErpError):
        _report(type(exc).__name__, str(exc), as_json)
        ctx.exit(exc.exit_code)
    if isinstance(exc, ModuleNotFoundError) and (extra := _EXTRAS.get((exc.name or "").partition(".")[0])):
        message = f'{exc.name} is not installed; this command needs it. Run: pip install "litellm-erp[{extra}]"'
        _report("MissingExtra", message, as_json)
        ctx.exit(2)
    if isinstance(exc, click.ClickException):
        if as_json and isinstance(exc, click.UsageError):
            _print_json("UsageError", exc.format_message())
    elif _is_full_disk(exc):
        _report("RunError", _full_disk(exc), as_json)
        ctx.exit(2)
    elif isinstance(exc, OSError) and exc.errno in _NO_PLACE and exc.filename is not None:
        place = os.fsdecode(exc.filename)
        message = f"{place}: {exc.strerror}; expected a place that can be read and written. Name another, or mend it"
        _report("RunError", message, as_json)
        ctx.exit(2)


def _is_full_disk(exc: Exception) -> bool:
    return getattr(exc, "errno", None) in _NO_ROOM or bool(_NO_ROOM_QUOTED.search(str(exc)))


def _full_disk(exc: Exception) -> str:
    where = getattr(exc, "filename", None) or "the disk"
    return (
        f"{where} cannot be written ({getattr(exc, 'strerror', None) or exc}); what was finished before is kept. Make "
        "room and run the same command again"
    )


def _report(kind: str, message: str, as_json: bool) -> None:
    click.secho(f"error: {printable(' '.join(message.split()))}", fg="red", err=True)
    if as_json:
        _print_json(kind, message)


def _print_json(kind: str, message: str) -> None:
    emit({"error": {"type": kind, "message": message}}, True, str)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="erp-train")
def cli() -> None:
    """Turn recorded outcomes into a bundle of probes that routes prompts inside a LiteLLM proxy."""


def main() -> None:
    """Entry point of the ``erp-train`` script."""
    interrupts.note()
    try:
        cli(prog_name="erp-train")
    except SystemExit as end:
        interrupts.leave_at_once()
        if interrupts.seen():
            interrupts.end(end.code)
        raise
