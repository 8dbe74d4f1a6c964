"""`impure-data sample`: choose the images, and write frozen plans."""

from typing import Any

import click

from impure.manifests.base.logs import collection_log, new_run_id, start_log
from impure.manifests.commands.click_options import device_options, json_option, options
from impure.manifests.commands.console import Command, print_json
from impure.pipeline.commands.shared_options import batch_option, collection_options, sample_options


@click.command("sample", cls=Command)
@options(sample_options, collection_options, batch_option, device_options, json_option)
def sample_command(**values: Any) -> None:
    """Choose the images, and freeze them in plans.

    Chooses by the seed, the same number of each class, only images that the target classifies correctly. The
    plans (Parquet) are what generate follows; the same command finds them again. Exit code 3 where a class
    has too few images.
    """
    from impure.pipeline.commands.generate_report import exit_on_shortfall, print_plans
    from impure.pipeline.commands.sample_arguments import (
        SampleArguments,
        draw_plans,
        find_locations,
        sample_configs,
    )
    from impure.pipeline.generation.run import open_run

    arguments = SampleArguments(**values)
    locations = find_locations(arguments)
    run = open_run(locations)
    samples = sample_configs(run, arguments, locations.threads)
    start_log(collection_log(locations.root, new_run_id()))
    plans = draw_plans(run, samples, allow_short=arguments.allow_short)
    root = run.collection.root
    if arguments.as_json:
        print_json({"out": str(root), "plans": {plan.split: plan.counts() for plan in plans}})
    else:
        print_plans(plans)
        click.echo(f"Plans: {root / 'plans'}")
    exit_on_shortfall(plans)
