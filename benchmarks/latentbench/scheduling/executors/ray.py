"""Runs as tasks of a Ray cluster.

A few tasks more than the cluster can hold are under way at any time, so that neither this process nor the cluster's
head has to remember a long sweep. A task whose worker or node dies is sent again, and goes on from the checkpoint in
the store; it knows which owner of the run's lease is dead, so it need not wait for the lease to expire.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from latentbench.core.bounds import whole_number
from latentbench.core.console import note
from latentbench.core.errors import UserError
from latentbench.core.interrupts import deferred
from latentbench.planning.plan import RunSpec
from latentbench.running.observer import Report
from latentbench.running.settings import Settings
from latentbench.scheduling.executors.executor import Device
from latentbench.scheduling.executors.ray_sweep import RaySweep, Resources
from latentbench.scheduling.local import OnDone
from latentbench.scheduling.object_store import Store
from latentbench.scheduling.run_requests import fetch_results, prepare_sweep, settled_records
from latentbench.scheduling.scratch import remove_abandoned

VARIABLE = "RAY_ADDRESS"


@dataclass
class RayExecutor:
    """See the module.

    Args:
        address: of a cluster; by default ``RAY_ADDRESS``, and where that is not set either, a cluster of this machine
            alone is started for the call.
        store: see `latentbench.scheduling.executors.choice.Options`.
        jobs: runs side by side at most.
        threads: of each run, and the cores that it takes up.
        gpus: of each run, or a fraction; by default one on a GPU, none else.
        memory: bytes of each run; by default what earlier records of the method say.
    """

    address: str | None = None
    store: str | None = None
    jobs: int | None = None
    threads: int = 1
    gpus: float | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        import ray  # noqa: F401 - whether it is there shows now

        self.address = self.address or os.environ.get(VARIABLE) or None

    def device(self, wanted: Literal["auto", "cpu", "cuda"]) -> Device:
        if self.address is None:  # its cluster is this machine, and takes a while to start
            import torch

            there = torch.cuda.is_available()
        else:
            import ray

            with self._cluster():
                there = ray.cluster_resources().get("GPU", 0) > 0
        if wanted == "cuda" and not there:
            raise UserError("the cluster has no GPU", where="--device cuda", fix="use --device cpu")
        return "cuda" if there and wanted != "cpu" and self.gpus != 0 else "cpu"

    def preview(self, runs: Sequence[RunSpec], wanted: Literal["auto", "cpu", "cuda"]) -> str | None:
        return None

    def run_all(self, runs: Sequence[RunSpec], settings: Settings, report: Report, on_done: OnDone) -> None:
        """See `latentbench.scheduling.executors.executor.Executor`.

        Raises:
            UserError: data, code or store are not the same everywhere.
            KeyboardInterrupt: asked to stop; the runs under way have saved their state.
        """
        store = Store(self.store or settings.results)
        there = settled_records(runs, settings, store, note)
        for spec in runs:
            if (record := there.get(f"{spec.suite} {spec.cell}")) is not None:
                fetch_results(store, record, settings.results)
                on_done(spec, record, True)
        left = [spec for spec in runs if f"{spec.suite} {spec.cell}" not in there]
        if not left:
            return
        context = prepare_sweep(left, store, share_data=self.address is not None and self.store is not None)
        with self._cluster():
            RaySweep(
                Resources(self.jobs, self.threads, self.gpus, self.memory),
                left,
                context,
                replace(settings, threads=self.threads),
                report,
                on_done,
            ).go()

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        import ray

        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of what runs here
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self.address is None:
            note("no --address and no RAY_ADDRESS: a Ray cluster of this machine alone is started for this call")
        started: dict[str, Any] = {"include_dashboard": False} if self.address is None else {}
        handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            with deferred():  # cut short in its start, Ray brings the process down at its end
                try:
                    if self.address is not None:
                        _must_listen(self.address)
                    ray.init(
                        address=self.address or "local",
                        namespace="latentbench",
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        **started,
                    )
                except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as e:
                    raise UserError(
                        f"no Ray cluster answers: {' '.join(str(e).split())[:200]}",
                        where=f"--address {self.address}" if self.address else "--executor ray",
                        fix="start one with `ray start --head`, and give its address",
                    ) from None
                for one, handler in handlers.items():  # Ray has its own for SIGTERM, which ends the process at once
                    signal.signal(one, handler)
            yield
        finally:
            ray.shutdown()
            if self.address is None:
                remove_abandoned()  # Ray ends its workers before they can


def _must_listen(address: str) -> None:
    """Ray itself takes minutes to find out.

    Raises:
        OSError: nobody listens at ``host:port``; other forms of addresses pass.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and (number := whole_number(port)) is not None:
        socket.create_connection((host, number), timeout=10).close()
