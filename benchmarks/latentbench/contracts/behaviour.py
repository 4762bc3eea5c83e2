"""Contract tests of what a model answers: form, support, agreement, and what depends on what."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from latentbench.contracts.finding import NotApplicable
from latentbench.contracts.subject import (
    DRAWS,
    EXACT,
    PATH,
    Answers,
    Subject,
    answers,
    drawn,
    generator,
    require,
    trainable,
)
from latentbench.core.types import Batch

#: Draws by which a Gaussian posterior is measured, and the standard errors that it may be off.
POSTERIOR, ERRORS = 400, 6.0
#: Samples of a model over which its exact posteriors are averaged.
AGGREGATE = 20_000
#: Rows by which answers to a part of the rows are compared, first and last.
PART = slice(3, 6)


def _both(subject: Subject, model: Any, seed: int = 0, batch: Batch | None = None) -> Answers:
    return {**answers(subject, model, batch), **drawn(subject, model, seed, batch)}


def _differing(a: Answers, b: Answers) -> str:
    return ", ".join([k for k in a if not torch.equal(a[k], b[k])][:5])


def built(subject: Subject) -> str | None:
    subject.fresh()
    return None


def trains(subject: Subject) -> str | None:
    subject.trained()
    return None


def determinism(subject: Subject) -> str | None:
    first, second, other = (subject.prepared(seed) for seed in (0, 0, 1))
    if isinstance(first, nn.Module):
        a, b, c = (dict(model.named_parameters()) for model in (first, second, other))
        if wrong := _differing(a, b):
            return f"initial weights differ: {wrong}"
        if not _differing(a, c) and any(p.numel() > 8 and len(p.unique()) == p.numel() for p in a.values()):
            return "initial weights look drawn, and are alike whatever the seed"
    if subject.train(first) != subject.train(second):
        return "losses differ"
    wrong = _differing(_both(subject, first), _both(subject, second))
    return f"{wrong} differ" if wrong else None


def draws(subject: Subject) -> str | None:
    results = []
    for seed in (0, 1):
        with torch.random.fork_rng():
            model = subject.fresh()
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            if hasattr(model, "prepare"):
                model.prepare(subject.x.clone(), generator())
            subject.train(model)
            results.append(_both(subject, model))
            if not torch.equal(torch.get_rng_state(), before):
                return "it draws from torch's global generator"
    first, second = results
    if wrong := _differing(first, second):
        return f"{wrong} depend on something else"
    again = drawn(subject, subject.trained(), seed=3)
    wanted = {"sample", "gradient_estimates", "encode_sample", "bound diffusion"}
    if "ExactLikelihood" not in subject.can:  # without a code every weight is p(x), which is known
        wanted.add("log_weights")
    coded = "encode" in first and "VariationalBound" not in subject.can
    if coded and torch.equal(first["encode"], first["encode_sample"]):  # a code without noise, of no posterior
        wanted -= {"encode_sample"}
    if "exact_gradient" in first and torch.allclose(
        first["gradient_estimates"][0, :EXACT], first["exact_gradient"], rtol=1e-3, atol=1e-5
    ):
        wanted -= {"gradient_estimates"}  # it enumerates
    same = sorted(k for k in wanted & set(again) if torch.equal(again[k], first[k]))
    return f"{', '.join(same)} draw nothing from it" if same else None


def untouched(subject: Subject) -> str | None:
    model, batch = subject.copy(), subject.batch()
    state = copy.deepcopy(model.state_dict()) if isinstance(model, nn.Module) else {}
    _both(subject, model, batch=batch)
    if not torch.equal(batch.x, subject.x):
        return "an answer writes into x"
    if state and (wrong := _differing(state, model.state_dict())):
        return f"an answer changes its {wrong}"
    if trainable(model):
        model.train().loss(batch, generator())
        if not torch.equal(batch.x, subject.x):
            return "the loss writes into batch.x"
    columns = {**subject.rows.columns, **subject.rows.whole}
    return None if not _differing(columns, dict(batch.columns)) else "it writes into batch.columns"


def shapes(subject: Subject) -> str | None:
    model = subject.trained()
    whole = _both(subject, model)
    if not whole:
        raise NotApplicable("it answers nothing about rows")
    if subject.rows.whole:  # rows that refer to one another come all at once
        return _misshapen(subject, whole, len(subject.x))
    return _misshapen(subject, whole, len(subject.x)) or _misshapen(
        subject, _both(subject, model, batch=subject.batch(rows=slice(0, 1))), 1, "for one row, "
    )


def _misshapen(subject: Subject, found: Answers, n: int, when: str = "") -> str | None:
    row = tuple(subject.x.shape[1:])
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(("log_prob", "rate", "distortion", "outlier_score"), (n,))
    wanted |= dict.fromkeys(("log_marginal", "log_marginal_ensemble", "log_model", "log_likelihood", "log_prior"), (n,))
    wanted |= {k: (n,) for k in found if k.startswith("bound ")}
    wanted |= dict.fromkeys(("sample", "reconstruct", "decode"), (n, *row))
    wanted |= dict.fromkeys(("log_weights", "conditional weights"), (DRAWS, n))
    wanted |= {f"path of {steps}": (steps + 1, n, *row) for steps in PATH}
    wanted |= {k: (n, *row[1:]) for k in found if k.startswith("transport")}
    wanted |= {"forecast": (n, 3, *row[1:]), "expected_cost": ()}
    if "gradient_estimates" in found:
        p = found["gradient_estimates"].shape[-1]
        wanted |= {"gradient_estimates": (DRAWS, n, p), "exact_gradient": (min(n, EXACT), p)}
    for name, value in found.items():
        if value.dtype != torch.float32:
            return f"{when}{name} is {value.dtype}, not float32"
        if name in wanted and tuple(value.shape) != wanted[name]:
            return f"{when}{name} is {tuple(value.shape)}, not {wanted[name]}"
        if not value.isfinite().all():
            return f"{when}{name} is not finite"
    codes = {tuple(found[k].shape) for k in ("encode", "encode_sample", "mean", "log_variance") if k in found}
    if len(codes) > 1 or any(len(s) != 2 or s[0] != n for s in codes):
        return f"{when}codes are {', '.join(map(str, sorted(codes)))}, not (N, D) alike"
    return None


def support(subject: Subject) -> str | None:
    require(subject, "Sampler")
    info, x = subject.rows.info, subject.trained().sample(50, generator()).detach()
    if float(x.std(0).max()) == 0.0:
        return "all samples are alike"
    if info.support in ("binary", "discrete"):
        top = 1 if info.support == "binary" else (info.levels or 1) - 1
        if not bool(((x == x.round()) & (x >= 0) & (x <= top)).all()):
            return f"samples lie outside the whole numbers 0 to {top}"
    return None


def rows(subject: Subject) -> str | None:
    if subject.rows.whole:
        raise NotApplicable("its rows refer to one another")
    model = subject.trained()
    whole, part = answers(subject, model), answers(subject, model, subject.batch(rows=PART))
    skipped = {"exact_gradient", "expected_cost", "log_model"}
    if not set(whole) - skipped:
        raise NotApplicable("it answers nothing about rows")
    # an adaptive solver takes its steps for the batch as a whole, and logits move within its tolerance
    loose = {k: 0.02 * float(v.abs().mean()) for k, v in whole.items() if k == "classify"}
    wrong = [
        k
        for k in set(whole) - skipped
        if not torch.allclose(whole[k][PART], part[k], rtol=1e-3, atol=loose.get(k, 1e-4))
    ]
    return f"{', '.join(sorted(wrong))} change with the batch" if wrong else None


def saving(subject: Subject) -> str | None:
    model = subject.trained()
    if not hasattr(model, "state_dict") or not model.state_dict():
        raise NotApplicable("it has no weights")
    from safetensors.torch import load, save

    state = {k: v.detach().contiguous().clone() for k, v in model.state_dict().items()}
    other = subject.prepared(7)
    other.load_state_dict(load(save(state)))
    if isinstance(other, nn.Module):
        other.eval()
    wrong = _differing(_both(subject, model), _both(subject, other))
    return f"{wrong} differ: something that they depend on is not in its state" if wrong else None


def agreement(subject: Subject) -> str | None:
    """Capabilities that say the same thing twice agree."""
    found = _both(subject, subject.trained())
    if "mean" in found:
        if not torch.allclose(found["mean"], found["encode"], rtol=1e-4, atol=1e-5):
            return "encode is not the mean of encode_gaussian"
        model, x = subject.trained(), subject.x
        with torch.no_grad():
            codes = torch.stack([model.encode_sample(x, generator(i)) for i in range(POSTERIOR)]).double()
        spread = found["log_variance"].double().exp()
        off = (codes.mean(0) - found["mean"]) / (spread / POSTERIOR).sqrt()
        if float(off.abs().max()) > ERRORS:
            return f"draws of encode_sample lie {float(off.abs().max()):.3g} s.e. from the mean of encode_gaussian"
        ratio = codes.var(0) / spread
        if float((ratio.log() / (2.0 / POSTERIOR) ** 0.5).abs().max()) > ERRORS:
            return f"draws of encode_sample have {float(ratio.median()):.3g} times the variance of encode_gaussian"
        exact = {"ExactLikelihood", "Sampler"} <= subject.can and "StandardNormalPrior" in subject.declared
        if exact and (said := _aggregate(model)):
            return said
    decoded = found.get("decode") if "reconstruct" in found else None
    if decoded is not None and not torch.allclose(decoded, found["reconstruct"], rtol=1e-3, atol=1e-4):
        return "reconstruct is not the decoded mean of encode_gaussian"
    if "transport to 0.0" in found and not torch.equal(found["transport to 0.0"], subject.x[:, 0]):
        return "transport at time 0 has left the source"
    if PATHS[0] in found and any(not torch.equal(found[PATHS[0]][0], found[p][0]) for p in PATHS):
        return "sample_path starts elsewhere with more steps"
    if not {"mean", "transport to 0.0", PATHS[0]} & set(found):
        raise NotApplicable("it says nothing twice")
    return None


@torch.no_grad()
def _aggregate(model: Any) -> str | None:
    """Where a likelihood is exact, so is the posterior: over samples of the model it averages to the prior N(0, I)."""
    mean, log_variance = (one.double() for one in model.encode_gaussian(model.sample(AGGREGATE, generator(34))))
    moments = (("mean", mean, 0.0, "zero"), ("variance", mean.square() + log_variance.exp(), 1.0, "one"))
    for name, each, expected, said in moments:
        found, error = each.mean(0), each.std(0) / AGGREGATE**0.5
        if bool(((found - expected).abs() > ERRORS * error + 1e-3).any()):
            return f"posteriors of samples have the {name} {found.tolist()} where their prior has {said}"
    return None


PATHS = tuple(f"path of {steps}" for steps in PATH)
