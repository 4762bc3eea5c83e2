"""Where runs are carried out: on this machine, on a Ray cluster, or by Slurm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from latentbench.core.errors import UserError
from latentbench.scheduling.executors.executor import Executor
from latentbench.scheduling.resources import parse_bytes

Name = Literal["local", "ray", "slurm"]


@dataclass(frozen=True)
class Options:
    """What the command line says of executors; None where it says nothing.

    Attributes:
        store: address of the shared store; by default the results folder, which all machines must see then.
        jobs: runs side by side.
        threads: torch threads, and processor cores, of each run.
        address: of a Ray cluster.
        gpus_per_run: GPUs of each run, or a fraction of one.
        memory_per_run: host memory of each run, such as ``4G``.
        slurm: settings of sbatch, ``key=value``.
    """

    store: str | None = None
    jobs: int | None = None
    threads: int | None = None
    address: str | None = None
    gpus_per_run: float | None = None
    memory_per_run: str | None = None
    slurm: Sequence[str] = ()


#: Which executors each option is for.
_FOR: dict[str, tuple[Name, ...]] = {
    "store": ("ray", "slurm"),
    "address": ("ray",),
    "gpus_per_run": ("ray", "slurm"),
    "memory_per_run": ("ray", "slurm"),
    "slurm": ("slurm",),
}


def choose(name: Name, options: Options) -> Executor | None:
    """The executor of that name; None for ``local``, which is `latentbench.scheduling.local.run_all`.

    Raises:
        UserError: an option that it has no use for; its library is not installed.
    """
    for option, names in _FOR.items():
        if getattr(options, option) and name not in names:
            raise UserError(
                f"--executor {name} has no use for it",
                where=f"--{option.replace('_', '-')}",
                fix=f"add --executor {' or '.join(names)}, or leave it out",
            )
    if name == "local":
        return None
    memory = parse_bytes(options.memory_per_run, "--memory-per-run") if options.memory_per_run else None
    try:
        if name == "ray":
            from latentbench.scheduling.executors.ray import RayExecutor

            return RayExecutor(
                address=options.address,
                store=options.store,
                jobs=options.jobs,
                threads=options.threads or 1,
                gpus=options.gpus_per_run,
                memory=memory,
            )
        from latentbench.scheduling.executors.sbatch import settings_of
        from latentbench.scheduling.executors.slurm import SlurmExecutor

        return SlurmExecutor(
            settings_of(options.slurm),
            store=options.store,
            jobs=options.jobs,
            threads=options.threads or 1,
            gpus=options.gpus_per_run,
            memory=memory,
        )
    except ImportError as e:
        raise UserError(
            f"a library is missing: {e.name}", where=f"--executor {name}", fix=f"pip install 'latentbench[{name}]'"
        ) from None
