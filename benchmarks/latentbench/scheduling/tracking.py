"""wandb mirrors every run; our records stay the source of truth, and no run waits for or fails with wandb."""

from __future__ import annotations

import hashlib
import logging
import netrc
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from latentbench.core.console import note
from latentbench.core.paths import stays_inside
from latentbench.core.secrets import hide_in_arguments
from latentbench.running.provenance import git_state
from latentbench.scheduling.track_ledger import mark, note_told

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec
    from latentbench.records.record import Record
    from latentbench.running.settings import Settings, Tracking

PROJECT = "latentbench"
#: Seconds that wandb has for starting; nobody waits for it meanwhile.
INIT_TIMEOUT = 20.0
#: Seconds that the end of a run waits for wandb.
PATIENCE = 10.0

Act = Callable[[Any], None]
_given_up = Event()


def default_mode() -> Tracking:
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
    """One wandb run, or nothing at all once wandb has failed.

    An `Observer`: a thread of its own talks to wandb, so that neither training nor evaluation waits for a network or a
    disk; `finish` alone waits, `PATIENCE` seconds. Where wandb does not start, or does not end in time, this process
    tries no more.
    """

    def __init__(self, mode: Tracking, folder: Path, **init: Any) -> None:
        self._queue: SimpleQueue[tuple[str, Act] | None] | None = None
        self._mode, self._folder, self._failed = mode, folder, False
        if mode == "disabled" or _given_up.is_set():
            return
        self._queue = SimpleQueue()
        told = (self._queue, mode, folder, init, self._fail)
        self._thread = Thread(target=_talk, args=told, name="wandb", daemon=True)
        self._thread.start()

    def _fail(self) -> None:
        self._failed = True

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror a row of the learning curve."""
        values, step = {k: v for k, v in row.items() if k != "step"}, int(row["step"])
        self._enqueue("log", lambda run: run.log(values, step=step))

    def ended(self, record: Record) -> None:
        """Mirror the record's numbers, and end; what went online is noted, so that nothing tells of it again."""
        followed = self._queue is not None
        self.finish(summary_of(record), failed=record.status != "finished")
        if followed and self._mode == "online" and not self._failed and not _given_up.is_set():
            with suppress(OSError):
                note_told(self._folder, mark(record, "online"))

    def interrupted(self) -> None:
        """End; the run goes on another time."""
        self.finish({"status": "interrupted"}, failed=True)

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        def send(run: Any) -> None:
            import wandb

            run.log({name: wandb.Table(columns=columns, data=rows)})

        self._enqueue("log a table", send)

    def finish(self, summary: Mapping[str, Any], *, failed: bool = False) -> None:
        """Mirror the summary and end; at most `PATIENCE` seconds are spent on it."""

        def send(run: Any) -> None:
            run.summary.update(dict(summary))
            run.finish(exit_code=int(failed))

        if self._queue is None:
            return
        self._enqueue("finish", send)
        self._queue.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            _give_up(f"finish within {PATIENCE:.0f} s")
        self._queue = None

    def _enqueue(self, what: str, act: Act) -> None:
        if self._queue is not None:
            self._queue.put((what, act))


def _talk(
    queue: SimpleQueue[tuple[str, Act] | None],
    mode: Tracking,
    folder: Path,
    init: Mapping[str, Any],
    failed: Callable[[], None],
) -> None:
    """Start a wandb run and carry out what is queued for it, until there is no more or something fails."""
    what = "start"
    try:
        run = start(mode, folder, init)
        draw_over_epochs(run)
        while (next_one := queue.get()) is not None:
            what, act = next_one
            act(run)
    except Exception as e:  # whatever wandb raises, the run goes on
        failed()
        if what == "start":
            _give_up(f"start ({type(e).__name__})")
        else:
            note(f"wandb could not {what} ({type(e).__name__}); the run goes on, its record is kept here")


def start(mode: Tracking, folder: Path, init: Mapping[str, Any]) -> Any:
    """A wandb run, whose files lie in `folder`; `init` goes to `wandb.init`."""
    os.environ.setdefault("WANDB_SILENT", "true")
    stays_inside(folder, folder.parent).mkdir(parents=True, exist_ok=True)
    _out_of_home(folder)
    import wandb

    logging.raiseExceptions = False  # on a full disk wandb's log would fill the terminal with tracebacks of its own
    _own_settings_only(wandb.Settings)
    settings = wandb.Settings(
        console="off",
        silent=True,
        init_timeout=INIT_TIMEOUT,
        x_disable_stats=True,
        x_save_requirements=False,
        x_disable_meta=True,
        disable_git=True,  # the address of a remote may hold a password
        save_code=False,
    )
    with _command_line_without_secrets():
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(folder),
            mode=mode,
            settings=settings,
            reinit="finish_previous",
            **init,
        )


#: Where wandb keeps its log and what waits to be sent, unless these variables say otherwise.
_PLACES = {"WANDB_CACHE_DIR": "~/.cache/wandb", "WANDB_DATA_DIR": "~/.local/share/wandb"}


def _out_of_home(folder: Path) -> None:
    """Have wandb keep in `folder` what it would write below a home folder that nobody can write to."""
    for variable, place in _PLACES.items():
        wanted = Path(place).expanduser()
        there = next(p for p in (wanted, *wanted.parents) if p.exists())
        if variable not in os.environ and not (there.is_dir() and os.access(there, os.W_OK)):
            os.environ[variable] = str(folder / variable.lower())


def _own_settings_only(settings: Any) -> None:
    """Have wandb take its settings from the user's own places (environment, home) alone.

    It would read ``wandb/settings`` of the working directory too, which may be a stranger's, and send the user's key to
    the address that stands there.

    Args:
        settings: wandb's class of them.

    Raises:
        RuntimeError: there is such a file, and this version of wandb reads it in a way that is not known here.
    """
    read = getattr(settings, "read_system_settings", None)
    if read is None:
        if any(Path(folder, "settings").exists() for folder in ("wandb", ".wandb")):
            raise RuntimeError("wandb would read the settings of the working directory")
    elif not hasattr(read, "of_user"):

        def of_user(self: Any) -> Any:
            return read(self.model_copy(update={"root_dir": os.devnull}))  # nothing lies below it

        of_user.of_user = True  # type: ignore[attr-defined]
        settings.read_system_settings = of_user


def draw_over_epochs(run: Any) -> None:
    """Have curves drawn over epochs, where a run has them."""
    if hasattr(run, "define_metric"):
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")


@contextmanager
def _command_line_without_secrets() -> Iterator[None]:
    """wandb keeps the command line of the process, whatever its settings."""
    typed = sys.argv
    sys.argv = [*typed[:1], *hide_in_arguments(typed[1:])]
    try:
        yield
    finally:
        sys.argv = typed


def _give_up(what: str) -> None:
    if not _given_up.is_set():
        _given_up.set()
        note(f"wandb could not {what}; this and further runs go on without it, their records are kept here")


def wandb_id(run_id: str, settings: Settings) -> str:
    """The identifier of a run at wandb: the same when it goes on after an interruption, offline too, so that it has one
    curve; another where it is done anew (``--force``), in other results or by another user."""
    parts = [run_id, str(settings.results.resolve()), str(os.getuid()) if hasattr(os, "getuid") else ""]
    if settings.force:
        parts.append(uuid.uuid4().hex)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def track_run(spec: RunSpec, settings: Settings, run_id: str) -> Tracker:
    """A tracker for one run: configuration, and tags to find it by."""
    return Tracker(
        settings.wandb,
        settings.results / "wandb",
        id=wandb_id(run_id, settings),
        resume="allow",
        **described(
            spec,
            version=spec.suite_version,
            run=run_id,
            revision=git_state()[0],
            units={m.key: m.entry.unit for m in spec.metrics},
            asked=spec.settled(),
        ),
    )


def described(
    of: RunSpec | Record,
    *,
    version: int,
    run: str,
    revision: str | None,
    units: Mapping[str, str],
    asked: Mapping[str, Any],
) -> dict[str, Any]:
    """How a run is called at wandb: a name and a group that people read, tags, and its configuration.

    Args:
        of: the run, as it was planned or recorded.
        version: of its suite.
        run: its identifier.
        revision: of the code.
        units: of its metrics.
        asked: its specification.
    """
    named = {k: getattr(of, k) for k in ("suite", "tier", "method", "dataset")}
    return {
        "name": f"{of.method} on {of.dataset}, seed {of.seed}",
        "group": f"{of.suite} v{version}, {of.tier}: {of.method} on {of.dataset}",
        "job_type": "run",
        "tags": [of.suite, of.method, of.dataset, of.tier, f"seed-{of.seed}"],
        "config": {
            **asked,
            **named,
            "suite_version": version,
            "run": run,
            "git_revision": revision,
            "units": dict(units),
        },
    }


def summary_of(record: Record) -> dict[str, Any]:
    """Final metrics, outcome and cost, as wandb's summary."""
    values = {f"metric/{m.name}": m.value for m in record.metrics if m.value is not None}
    errors = {f"standard_error/{m.name}": m.se for m in record.metrics if m.se is not None}
    return {
        **values,
        **errors,
        "status": record.status,
        **{f"cost/{k}": v for k, v in record.cost.model_dump().items()},
    }
