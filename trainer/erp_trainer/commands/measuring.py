"""Options of what `evaluate` and `report` measure, by the names that `evaluation.measure.measured` takes."""

from __future__ import annotations

import click

from erp_trainer.commands.options import FiniteRange, add_options, bundle_embedder_options

MEASURED = ("lambdas", "rivals", "studies", "leave_one_task_out", "price_of_adding", "seed")

measuring_options = add_options(
    click.option("--lambda", "lambdas", type=FiniteRange(min=0), multiple=True, help="Where to list; repeatable."),
    click.option("--rivals/--no-rivals", default=True, show_default=True, help="Fit the other policies and compare."),
    click.option("--studies", is_flag=True, help="Measure what only papers' studies need, too: APGR, tasks, …"),
    click.option("--leave-one-task-out", is_flag=True, help="Fit without each category and measure on it; slow."),
    click.option("--price-of-adding", is_flag=True, help="Add models anew with 25, 50, 100, … of their prompts; slow."),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of resamples and folds."),
    bundle_embedder_options,
)  # fmt: skip
