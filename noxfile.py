"""Developer tasks: `nox -s tests lint bench docs gpu mutants`, and `everything` for the tests of all suites."""

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"


#: Peers of `bench` and `perf.metric_proof` whose own requirements name TensorFlow, torchvision or a backport of
#: dataclasses, none of which is used here: they come without their requirements. All others are in the extra `bench`.
PEERS = (
    "disentanglement_lib==1.5",
    "torch-fidelity==0.4.0",
    "pythae==0.1.2",
    "vendi-score==0.0.3",
    "bjontegaard==1.3.0",
    "pytorch-msssim==1.0.0",
)
#: What those import of their requirements, beyond what latentbench and its extra `bench` bring.
PEERS_IMPORT = ("cloudpickle", "imageio")


def install(session: nox.Session, *extras: str) -> None:
    session.install("-c", "constraints.txt", "-e", f".[{','.join(extras)}]" if extras else ".")


@nox.session
def tests(session: nox.Session) -> None:
    """The harness's quick tests; of suites and of slow tests those of what changed, a tenth of the others in turn."""
    install(session, "dev")
    session.run("pytest", *session.posargs)


@nox.session
def everything(session: nox.Session) -> None:
    """The tests of the harness and of all suites."""
    install(session, "dev")
    session.run("pytest", "--suites", "all", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy, the layers of the architecture (import-linter), and how suites are laid out."""
    install(session, "dev")
    session.run("python", ".ci/lint.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed as ratios within one run: `nox -s bench -- --only loop --compare results/bench/<earlier>.json`."""
    install(session, "bench", "ray")
    session.install("-c", "constraints.txt", *PEERS_IMPORT)
    session.install("--no-deps", *PEERS)
    session.run("python", "-m", "perf", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """What of the docs is generated: the README's pictures, docs/metrics.md, and docs/suites.md (not in git)."""
    install(session, "bench")
    session.install("-c", "constraints.txt", "networkx", "torchmetrics", *PEERS_IMPORT)
    session.install("--no-deps", *PEERS)
    session.run("latentbench", "run", "quickstart", "--quiet")
    session.run("python", "docs/pictures.py")
    session.run("python", "docs/suites.py")
    session.run("python", "-m", "perf.metric_proof")


@nox.session(python=False)
def changelog(session: nox.Session) -> None:
    """What the next release changes, out of changes/; `nox -s changelog -- VERSION` collects it into CHANGELOG.md."""
    session.run("python", "docs/changelog.py", *session.posargs)


@nox.session
def golden(session: nox.Session) -> None:
    """Accept the engine if short runs of every kind come to the bits of the last accepted one (perf/golden.py)."""
    install(session, "dev")
    session.run("python", "-m", "perf.golden", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """What only a CUDA device can show: tests/gpu, and the speed of stacking, compiling and the loop there."""
    install(session, "dev")
    there = session.run("python", "-c", "import torch; print(torch.cuda.is_available())", silent=True)
    if str(there).strip() != "True":
        session.skip("torch finds no CUDA device here")
    session.run("pytest", "-n", "0", "tests/gpu")
    session.run("python", "-m", "perf", "--only", "stacking", "--only", "compiling", "--only", "loop")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Coverage-guided fuzzing of what strangers may send: `nox -s fuzz -- suite --minutes 30`, or 15 minutes each."""
    install(session, "dev")
    session.install("atheris>=3.0")
    if session.posargs:
        session.run("python", "-m", "perf.fuzz", *session.posargs)
    else:
        for target in ("suite", "record", "rebuild", "checkpoint"):
            session.run("python", "-m", "perf.fuzz", target, "--minutes", "15")


@nox.session
def mutants(session: nox.Session) -> None:
    """Plant the faults of perf/faults one by one and report who notices: `nox -s mutants -- heads metrics`."""
    install(session, "dev")
    session.run("python", "-m", "perf.mutants", *session.posargs)
