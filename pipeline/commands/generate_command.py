"""`impure-data generate`: attack the images, and store the pairs."""

import os
from dataclasses import replace
from typing import Any

import click

from impure.manifests.base.logs import collection_log, new_run_id, start_log
from impure.pipeline.commands.generate_options import SECTIONS, SweepCommand, generate_options
from impure.pipeline.commands.shared_options import AUTO


@click.command("generate", cls=SweepCommand, sections=SECTIONS)
@generate_options
def generate_command(**values: Any) -> None:
    """Attack images, and store the pairs.

    Writes WebDataset shards with Parquet manifests. Samples first where there is no plan. Killed at any
    moment, the same command goes on where it was. Exit code 3 where less was made than asked for.

    \b
      impure-data generate --attack pgd --eps 16
      impure-data generate --attack all --images /data/imagenet --target resnet101 --split train
      impure-data generate --attack pgd --eps 4 8 16 --restarts 5
      impure-data generate --attack pgd --set early_stop=true --targeted least-likely
    """
    from impure.pipeline.attacks.engine.precision import check_precision
    from impure.pipeline.commands import generate_arguments as parse
    from impure.pipeline.commands import generate_report as report
    from impure.pipeline.commands.sample_arguments import draw_plans, find_locations, sample_configs
    from impure.pipeline.executors.execute import Execution, execute
    from impure.pipeline.generation.run import open_run

    arguments = parse.GenerateArguments(**values)
    executor = parse.executor_config(arguments)
    attacks = parse.attack_configs(arguments)
    storage = parse.storage_of_arguments(arguments)
    locations = find_locations(arguments, arguments.workers)
    # Under torchrun a rank is one of several on its machine, and takes the GPU of its number there.
    run = open_run(locations, int(os.environ.get("LOCAL_RANK", 0)) if executor.executor == "rank" else 0)
    check_precision(arguments.precision, run.target.mean.device)
    attacks, refused = parse.attacks_on(attacks, run.target.card)
    report.say_refused(refused)
    samples = sample_configs(run, arguments, locations.threads)
    config = parse.generate_config(arguments, attacks, storage, samples, new_run_id())
    if arguments.dry_run:
        return report.print_forecast(run, samples, config, as_json=arguments.as_json)
    start_log(collection_log(locations.root, config.run_id))
    plans = draw_plans(run, samples, allow_short=arguments.allow_short)
    if arguments.batch_size == AUTO:  # another process may have been the one that drew the plans
        config = replace(config, batch_size=plans[0].config["batch_size"])
    queue, bar = execute(Execution(locations, config, run, executor))
    if arguments.as_json:
        report.print_document(run.collection.root, plans, queue, bar, refused)
    else:
        report.print_plans(plans)
        report.print_results(run.collection.root, queue)
        report.print_next(locations, run.target.card.name)
    report.say_where_the_logs_are(run.collection.root, config.run_id)
    return report.exit_on_shortfall(plans, queue, refused)
