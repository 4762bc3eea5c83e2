"""Developer tasks: `nox -s tests lint bench docs gpu`."""

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"


#: Peers of the benchmarks, installed without their needs (TensorFlow, torchvision …), which go unused here.
PEERS = (
    "disentanglement_lib==1.5",
    "torch-fidelity==0.4.0",
    "pythae==0.1.2",
    "vendi-score",
    "bjontegaard",
    "pytorch-msssim",
)


def install(session: nox.Session, *extras: str) -> None:
    session.install("-c", "constraints.txt", "-e", f".[{','.join(extras)}]" if extras else ".")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite."""
    install(session, "dev")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy, and the layers of the architecture (import-linter)."""
    install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed as ratios within one run: `nox -s bench -- --only loop --compare results/bench/<earlier>.json`."""
    install(session)
    session.install("-c", "constraints.txt", "absl-py", "cloudpickle", "imageio", "six", "tqdm")
    # the peers' own requirements name TensorFlow, torchvision and a backport of dataclasses, none of which is used
    session.install("--no-deps", "disentanglement_lib==1.5", "pythae==0.1.2", "torch-fidelity==0.4.0")
    session.run("python", "-m", "bench", *session.posargs)
