"""`latentbench run`"""

from __future__ import annotations

from typing import Any

import click

from latentbench.cli.options import examples, one_of, parse_hours, parse_seeds, parse_stack, tier_option
from latentbench.core.errors import UserError


@click.command(
    epilog=examples(
        "run quickstart",
        "run iwae --tier cpu --seeds 3 --jobs 2",
        "run iwae --tier paper --method 'iwae-*' --dataset mnist --device cuda",
        "run iwae real-nvp --tier smoke",
        "run iwae --tier paper --executor ray --address auto --store s3://bucket/results --gpus-per-run 0.25",
        "run iwae --tier paper --executor slurm --slurm partition=a100,time=4:00:00 --dry-run",
        "run iwae --tier cpu --compile auto --threads 1",
        "run iwae --tier cpu --until-settled --cap 16",
        "run iwae beta-tcvae --tier paper --budget 8h",
    ),
)
@click.argument("suites", nargs=-1, required=True)
@tier_option("smoke: seconds; cpu: minutes; paper: the paper's protocol. Default: cpu, or paper where that is small.")
@click.option("--seeds", help="A number of seeds (3) or a list (4,7), instead of the suite's own.")
@click.option("--until-settled", is_flag=True, help="Add seeds until every claim is settled, or the cap is reached.")
@click.option(
    "--cap", type=click.IntRange(2, 10_000), help="With --until-settled or --budget: seeds of a method. Default: 12."
)
@click.option("--budget", metavar="TIME", help="Run what settles most claims in that time (8h, 30m), as `plan` says.")
@click.option("--method", "methods", multiple=True, help="Only these methods; a name or pattern, repeatable.")
@click.option("--dataset", "datasets", multiple=True, help="Only these datasets; a name or pattern, repeatable.")
@click.option(
    "--jobs",
    type=click.IntRange(0, 256),
    help="Runs side by side. Default: a core each, 8 at most; 1 on a GPU. 0: all in this process, for a debugger.",
)
@click.option(
    "--threads", type=click.IntRange(1, 256), help="torch threads of each run. Default: the cores, shared by the jobs."
)
@click.option(
    "--devices", type=click.IntRange(1, 256), default=1, help="Spread each run over so many GPUs, or CPU processes."
)
@click.option(
    "--stack",
    metavar="auto|off|N",
    default="auto",
    show_default=True,
    help="Train runs that differ in seed, learning rate or plain numbers alone as one program, at most N of them. "
    "auto: as many as fit on a GPU; off on the CPU, where it gains nothing.",
)
@click.option(
    "--stack-draws",
    is_flag=True,
    help="Stack runs that differ in their number of draws (k), too: each step costs them all as much as the largest k, "
    "so it pays for small models on a GPU.",
)
@click.option(
    "--compile",
    type=click.Choice(["auto", "off", "on", "graphs"]),
    help="Compile losses: where timing a few steps says that it pays, never, always, or always and as CUDA graphs. "
    "Default: auto on a GPU, off on the CPU. Stacked runs are not compiled.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--checkpoint-every", type=click.FloatRange(0), metavar="SECONDS", help="Time between checkpoints. Default: 60."
)
@click.option("--force", is_flag=True, help="Run again what has a record.")
@click.option(
    "--wandb",
    type=click.Choice(["online", "offline", "disabled"]),
    help="Default: online if logged in, else offline; disabled for smoke runs.",
)
@click.option("--tensorboard", is_flag=True, help="Write event files for TensorBoard too, into results/tensorboard.")
@click.option("--no-weights", is_flag=True, help="Do not keep each run's final weights.")
@click.option("--no-pictures", is_flag=True, help="Make no pictures of what one seed of each method has learned.")
@click.option("--executor", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True)
@click.option("--store", metavar="URL", help="Folder or s3://… that all machines reach. Default: the results folder.")
@click.option("--address", metavar="ADDRESS", help="Of a Ray cluster. Default: RAY_ADDRESS, else one started here.")
@click.option(
    "--gpus-per-run", type=click.FloatRange(0), help="GPUs of each run, or a fraction (Ray). Default: 1 on a GPU."
)
@click.option("--memory-per-run", metavar="SIZE", help="Such as 4G. Default: what earlier records of the method say.")
@click.option("--slurm", multiple=True, metavar="K=V,…", help="For sbatch: partition=a100,time=4:00:00; repeatable.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no tables.")
@click.option("--dry-run", is_flag=True, help="Print the runs, and what Slurm would get, and stop.")
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """Run suites, then print their leaderboards and verdicts. What has a record is not run again, but for the records
    that came with the repository: those are of other machines, and their runs are done here.

    Interrupt it when you like, or lose the machine: the same command goes on, with finished runs kept and the others
    taken up from their last checkpoint. Several of these commands on one results folder share its runs.

    With --until-settled the claims are judged at interim analyses that are declared before the first run, by a
    sequential test that allows for them; `latentbench verdict` then uses it too. The same command goes on after an
    interruption. --budget does so where it adds seeds to those that the tier has.
    """
    from latentbench.cli.sweep import Sweep

    options["seeds"] = parse_seeds(options["seeds"])
    options["stack"] = parse_stack(options["stack"])
    options["budget"] = parse_hours(options["budget"])
    one_of(
        ("--seeds", options["seeds"]), ("--until-settled", options["until_settled"]), ("--budget", options["budget"])
    )
    if options["cap"] is not None and not (options["until_settled"] or options["budget"]):
        raise UserError("it goes with --until-settled or --budget", where="--cap", fix="give both, or neither")
    if options["devices"] > 1 and options["executor"] != "local":
        raise UserError("it is for this machine", where="--devices", fix="leave it out, or use --executor local")
    if options["compile"] not in (None, "off") and options["devices"] > 1:
        raise UserError("a run over several devices is not compiled", where="--compile", fix="leave one of them out")
    if options["stack_draws"]:
        _refuse_without_stacks(options["stack"], options["device"], options["devices"], options["executor"])
    ctx.exit(Sweep(**options).go())


def _refuse_without_stacks(stack: int | None, device: str, devices: int, executor: str) -> None:
    """Refuse ``--stack-draws`` where nothing is stacked.

    Raises:
        UserError: runs train one by one.
    """
    from latentbench.acceleration.stackable import default_stack
    from latentbench.cli.devices import device_for

    where = "--stack-draws"
    if executor != "local":
        raise UserError("it is for this machine", where=where, fix="leave it out, or use --executor local")
    if devices > 1:
        raise UserError("runs over several devices are not stacked", where=where, fix="leave it or --devices out")
    if stack is not None and stack < 2:
        raise UserError("it goes with stacked runs", where=where, fix="give --stack auto or --stack N, N above 1")
    if stack is None and default_stack(device_for(device)) < 2:
        raise UserError("nothing is stacked on the CPU unasked", where=where, fix="give --stack N too, N above 1")
