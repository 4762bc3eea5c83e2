"""Whether the code that a process executes is the code that a run's fingerprint names."""

from __future__ import annotations

from dataclasses import replace

from latentbench.core.errors import UserError
from latentbench.core.imports import load
from latentbench.core.loaded import made_from
from latentbench.core.opened import sha256_of
from latentbench.core.reach import installed
from latentbench.planning.fingerprint import code_definitions, engine_definitions
from latentbench.planning.plan import RunSpec

#: The states of all sources when their hashes were last looked up, and the files' own hashes at that time.
_looked_up: list[tuple[object, dict[str, str]]] = []


class CodeWatch:
    """Notices that sources change under a sweep: what is imported later, or was imported before, is other code.

    Args:
        spec: the run, with the hash of its code as it was planned.
    """

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        for _ in range(2):  # files that are not ours are known once a hash has been made of them
            self._sources = _as_they_are()
            try:
                self._early = None if replace(spec).code_hash == spec.code_hash else ""
            except (UserError, SyntaxError) as e:
                self._early = f", and has an error: {e}"

    def fault(self) -> str | None:
        """What is wrong with the code that is loaded by now, in one line; None if it is what was planned."""
        spec, mend = self._spec, "start the sweep again, and workers that wait for runs"
        if self._early is not None:
            return f"the code of {spec.method} was changed after its runs were planned{self._early} ({mend})"
        try:
            for target in spec.roots().values():
                load(target)
        except Exception:  # the run itself meets it, and says where it came from
            return None
        other = {m for m, (path, made) in made_from().items() if self._sources.get(path, made) != made}
        if other and (hit := sorted(other & _reached(spec))):
            return f"{', '.join(hit[:3])}: the source was changed, and other code was loaded than was planned ({mend})"
        return None


def _as_they_are() -> dict[str, str]:
    """The hash of each source file; definitions are looked at again where a file has changed."""
    states = installed.sources()
    if not _looked_up or _looked_up[0][0] != states:
        installed.forget()  # what was found out before may be of other sources
        _looked_up[:] = [(states, {path: sha256_of(path) for path, _ in states})]
    return _looked_up[0][1]


def _reached(spec: RunSpec) -> set[str]:
    """Modules with a definition that the run, or the engine, reaches."""
    return {module for module, _ in code_definitions(spec.roots()) | engine_definitions()}
