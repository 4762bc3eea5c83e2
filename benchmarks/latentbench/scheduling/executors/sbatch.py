"""Settings of sbatch as a command line gives them."""

from __future__ import annotations

from collections.abc import Sequence

from latentbench.core.bounds import whole_number
from latentbench.core.errors import UserError, did_you_mean

Setting = str | int

_WITH_A_VALUE = """
account acctg-freq batch bb bbf begin chdir cluster-constraint clusters comment constraint container container-id
core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution error
exclude exclusive export export-file extra extra-node-info get-user-env gid gpu-bind gpu-freq gpus gpus-per-node
gpus-per-socket gpus-per-task gres gres-flags hint input job-name kill-on-invalid-dep licenses mail-type mail-user
mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice no-kill nodefile nodelist nodes ntasks
ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output partition power prefer priority
profile propagate qos reservation resv-ports segment signal sockets-per-node switches thread-spec threads-per-core
time time-min tmp tres-bind tres-per-task uid wait-all-nodes wckey
"""
#: What sbatch takes with a value, but for `array`, which the runs decide.
SBATCH = frozenset(_WITH_A_VALUE.split())
#: What submitit takes besides.
SUBMITIT = frozenset({"array-parallelism", "signal-delay-s", "stderr-to-stdout", "use-srun"})


def settings_of(given: Sequence[str]) -> dict[str, Setting]:
    """``key=value``, several of them with commas between, as settings of sbatch; ``time`` in minutes or ``D-HH:MM:SS``.

    A key that is not known here, such as one of a site's own, is taken with a plus before it: ``+container-image=x``.

    Raises:
        UserError: one has no value or is unknown, or the time is none.
    """
    found: dict[str, Setting] = {}
    for part in (p for text in given for p in text.split(",") if p.strip()):
        key, equals, value = part.partition("=")
        as_it_is, value = key.strip().startswith("+"), value.strip()
        key = key.strip().lstrip("+-").replace("-", "_")
        if not equals or not key.isidentifier() or not value or not value.isprintable():
            raise UserError(f"{part!r} is no setting", where="--slurm", fix="e.g. --slurm partition=a100,time=4:00:00")
        if not as_it_is:
            _refuse_unknown(key.replace("_", "-"), value)
        found[key] = _minutes(value) if key == "time" else value if (n := whole_number(value)) is None else n
    return found


def _refuse_unknown(key: str, value: str) -> None:
    if key not in SBATCH | SUBMITIT:
        hint = did_you_mean(key, SBATCH | SUBMITIT, shown_by="`man sbatch`")
        raise UserError(
            f"sbatch has no {key!r} that is known here",
            where="--slurm",
            fix=f"{hint}{'' if hint.endswith('?') else ';'} +{key}={value} hands it over as it is",
        )


def _minutes(text: str) -> int:
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if any(whole_number(p) is None for p in (*parts, *filter(None, [days]))) or len(parts) > 3:
        raise UserError(f"{text!r} is no time", where="--slurm time", fix="e.g. 240, 4:00:00 or 1-12:00:00")
    numbers = [int(p) for p in parts]
    if days:  # D-HH[:MM[:SS]]
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:  # MM[:SS]
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    return max(1, int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0))
