"""wandb mirrors every run; our records stay the source of truth, and no run waits for or fails with wandb."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.core.console import note

if TYPE_CHECKING:
    from benchmarks.planning.plan import RunSpec
    from benchmarks.records.record import Record

Mode = Literal["online", "offline", "disabled"]
PROJECT = "latentbench"
INIT_TIMEOUT = 20.0


def default_mode() -> Mode:
    """``WANDB_MODE`` if set; online if the user has logged in; else offline, which asks for nothing."""
    named = os.environ.get("WANDB_MODE")
    if named in ("online", "offline", "disabled"):
        return named  # type: ignore[return-value]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0]
    try:
        return "online" if netrc.netrc().authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"


class Tracker:
    """One wandb run, or nothing at all once wandb has failed."""

    def __init__(self, mode: Mode, folder: Path, **init: Any) -> None:
        self._run: Any = None
        if mode == "disabled":
            return
        os.environ.setdefault("WANDB_SILENT", "true")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            import wandb

            settings = wandb.Settings(
                console="off", silent=True, init_timeout=INIT_TIMEOUT, x_disable_stats=True, x_save_requirements=False
            )
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                dir=str(folder),
                mode=mode,
                settings=settings,
                reinit="finish_previous",
                **init,
            )
        except Exception as e:  # whatever wandb raises, the run goes on
            self._fail("start", e)

    def log(self, row: Mapping[str, Any]) -> None:
        self._try("log", lambda run: run.log({k: v for k, v in row.items() if k != "step"}, step=int(row["step"])))

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        def send(run: Any) -> None:
            import wandb

            run.log({name: wandb.Table(columns=columns, data=rows)})

        self._try("log a table", send)

    def finish(self, summary: Mapping[str, Any], *, failed: bool = False) -> None:
        def send(run: Any) -> None:
            run.summary.update(dict(summary))
            run.finish(exit_code=int(failed))

        self._try("finish", send)
        self._run = None

    def _try(self, what: str, act: Any) -> None:
        if self._run is None:
            return
        try:
            act(self._run)
        except Exception as e:
            self._fail(what, e)

    def _fail(self, what: str, error: Exception) -> None:
        self._run = None
        note(f"wandb could not {what} ({type(error).__name__}); the run goes on, its record is kept here")


def track_run(mode: Mode, folder: Path, spec: RunSpec, run_id: str) -> Tracker:
    """A tracker for one run: configuration, and tags to find it by."""
    return Tracker(
        mode,
        folder,
        name=run_id,
        group=spec.suite,
        job_type="run",
        tags=[spec.suite, spec.method, spec.dataset, spec.tier, f"seed-{spec.seed}"],
        config={
            "suite": spec.suite,
            "suite_version": spec.suite_version,
            "method": spec.method,
            "dataset": spec.dataset,
            "tier": spec.tier,
            **spec.settled(),
        },
    )


def summary_of(record: Record) -> dict[str, Any]:
    """Final metrics, outcome and cost, as wandb's summary."""
    values = {f"metric/{m.name}": m.value for m in record.metrics if m.value is not None}
    return {**values, "status": record.status, **{f"cost/{k}": v for k, v in record.cost.model_dump().items()}}
