"""What one task of a Slurm array does."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latentbench.core.errors import UserError
from latentbench.core.interrupts import check, install
from latentbench.running.one import Busy
from latentbench.running.settings import Settings
from latentbench.scheduling.remote import perform_request
from latentbench.scheduling.run_requests import RunRequest, SweepContext

#: Seconds before a run that somebody else is doing is tried again.
PATIENCE = 10.0


@dataclass
class Share:
    """What one task of an array does: its runs, one after another.

    submitit calls `checkpoint` for what goes into the queue again: the same, since the store knows how far it is.
    """

    requests: Sequence[RunRequest]
    context: SweepContext
    settings: Settings

    def __call__(self) -> str | None:
        """Do them; what is wrong with this machine, if no run can be done on it."""
        from submitit import JobEnvironment

        warning = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
        requeue = signal.getsignal(warning)
        install(warning, signal.SIGTERM, signal.SIGINT)
        ask, warned = signal.getsignal(warning), False

        def warn(signum: int, frame: Any) -> None:
            nonlocal warned
            warned = True
            assert callable(ask)
            ask(signum, frame)

        signal.signal(warning, warn)
        try:
            waiting = list(self.requests)
            while waiting:
                waiting = [request for request in waiting if not self._do(request)]
                for _ in range(int(PATIENCE) if waiting else 0):
                    check()
                    time.sleep(1)
        except UserError as e:
            return str(e)
        except KeyboardInterrupt:
            if warned and callable(requeue):
                install()
                requeue(warning, None)
            sys.exit(128 + signal.SIGTERM)
        return None

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _do(self, request: RunRequest) -> bool:
        try:
            perform_request(request, self.context, self.settings)
        except Busy:
            return False
        return True
