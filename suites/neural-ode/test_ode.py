"""Models with differential equations: densities, gradients and memory against other ways to the same numbers."""

from __future__ import annotations

import math

import pytest
import torch
from latentbench.core.capabilities import capabilities_of
from latentbench.core.errors import Diverged, UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.neural_ode.cnf import CNF, END
from latentbench.papers.neural_ode.latent import LatentODE, RecurrentPredictor, _Law
from latentbench.papers.neural_ode.measure import backward_evaluations_share, evaluations, solver_evaluations
from latentbench.papers.neural_ode.odenet import Continuous, OdeNet, norm
from latentbench.papers.neural_ode.perceptron import OneLayerPerceptron
from latentbench.papers.neural_ode.planar import PlanarFlow
from latentbench.papers.neural_ode.solver import Solver
from torch import Tensor

from tests.evaluation.views import view_of

PLANE = DataInfo((2,), "real", 24)
IMAGES = DataInfo((1, 13, 12), "unit", 12)
SERIES = DataInfo((20, 2), "real", 12, columns={"observed": (20,), "y": ()})


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Turn(torch.nn.Module):
    """A rotation with rate 3."""

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return 3.0 * torch.stack([-y[..., 1], y[..., 0]], -1)


class TestSolver:
    @pytest.mark.parametrize(
        "choice", [{"rk4": {"steps": 40}}, {"rk4": {"steps": 12}}, {"dopri5": {"tolerance": 1e-6}}]
    )
    def test_known_solution_both_ways(self, choice: dict):
        solve, y = Solver(choice, adjoint=False), torch.tensor([[1.0, 0.0]])
        angle = 3.0 * torch.linspace(0, 2, 31)
        expected = torch.stack([angle.cos(), angle.sin()], -1)
        torch.testing.assert_close(solve(Turn(), y, torch.linspace(0, 2, 31))[:, 0], expected, rtol=0, atol=1e-2)
        torch.testing.assert_close(solve.on_grid(Turn(), y, 2.0, 31)[:, 0], expected, rtol=0, atol=1e-2)
        back = solve(Turn(), solve(Turn(), y, torch.tensor([0.0, 2.0]))[-1], torch.tensor([2.0, 0.0]))[-1]
        torch.testing.assert_close(back, y, rtol=0, atol=1e-2)

    def test_the_fixed_rule_is_of_fourth_order(self):
        y, errors = torch.tensor([[1.0, 0.0]], dtype=torch.float64), []
        for steps in (8, 16, 32):
            end = Solver({"rk4": {"steps": steps}}, adjoint=False)(Turn(), y, torch.tensor([0.0, 1.0]).double())[-1]
            errors.append((end - torch.tensor([[math.cos(3), math.sin(3)]]).double()).norm().item())
        assert 12 < errors[0] / errors[1] < 40
        assert 12 < errors[1] / errors[2] < 40

    @pytest.mark.parametrize("adjoint", [False, True])
    def test_gradients(self, adjoint: bool):
        """dy/dt = a y: y(1) = e^a, whose derivative is e^a too; by the steps and by the adjoint equation."""

        class Growth(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a = torch.nn.Parameter(torch.tensor(0.7))

            def forward(self, t: Tensor, y: Tensor) -> Tensor:
                return self.a * y

        f = Growth()
        start = torch.ones(1, 1, requires_grad=True)
        end = Solver({"rk4": {"steps": 20}}, adjoint=adjoint)(f, start, torch.tensor([0.0, 1.0]))[-1]
        end.sum().backward()
        assert f.a.grad.item() == pytest.approx(math.exp(0.7), rel=1e-3)
        assert start.grad.item() == pytest.approx(math.exp(0.7), rel=1e-3)

    @pytest.mark.parametrize("adjoint", [False, True])
    def test_the_adjoint_keeps_no_steps(self, adjoint: bool):
        """Its memory does not grow with the steps, since the law is not followed on the way forward."""
        followed = set()

        class Noted(Turn):
            def forward(self, t: Tensor, y: Tensor) -> Tensor:
                followed.add(torch.is_grad_enabled())
                return super().forward(t, y)

        start = torch.ones(1, 2, requires_grad=True)
        Solver({"rk4": {"steps": 4}}, adjoint=adjoint)(Noted(), start, torch.tensor([0.0, 1.0]))
        assert followed == {not adjoint}

    def test_an_equation_without_a_solution_is_an_outcome(self):
        """dy/dt = y² from 1 has no value at time 2."""

        class Explosive(torch.nn.Module):
            def forward(self, t: Tensor, y: Tensor) -> Tensor:
                return y * y

        with pytest.raises(Diverged, match="cannot be solved"):
            Solver("dopri5", adjoint=False)(Explosive(), torch.ones(1), torch.tensor([0.0, 2.0]))

    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            ("euler", "solver"),
            ({"rk4": {"steps": 0}}, "steps is 0"),
            ({"rk4": {"tolerance": 1}}, "no parameter 'tolerance'"),
            ({"dopri5": {"tolerance": 0}}, "tolerance is 0"),
        ],
    )
    def test_refusals(self, choice: object, message: str):
        with pytest.raises(UserError, match=message):
            Solver(choice, adjoint=False)
        with pytest.raises(UserError, match="adjoint"):
            Solver("rk4", adjoint=1)


class TestFlows:
    def model(self, kind: str) -> CNF | PlanarFlow:
        torch.manual_seed(3)
        if kind == "planar":
            model: CNF | PlanarFlow = PlanarFlow(PLANE, layers=6)
            with torch.no_grad():
                model.u.mul_(20)  # far from the identity
            return model
        return far(CNF(PLANE, width=8))

    @pytest.mark.parametrize("kind", ["planar", "cnf"])
    def test_density_is_normalised(self, kind: str):
        side = torch.linspace(-12, 12, 281)
        grid = torch.cartesian_prod(side, side)
        with torch.no_grad():
            mass = self.model(kind).log_prob(grid).exp().sum() * (side[1] - side[0]) ** 2
        assert mass.item() == pytest.approx(1.0, abs=0.01)

    @pytest.mark.parametrize("kind", ["planar", "cnf"])
    def test_log_determinant_against_autograd(self, kind: str):
        model, x = self.model(kind), torch.randn(5, 2, generator=gen())

        def to_base(row: Tensor) -> Tensor:
            return model(row[None])[0][0] if isinstance(model, PlanarFlow) else model._flow(row[None], END)[0][0]

        for row in x:
            jacobian = torch.autograd.functional.jacobian(to_base, row)
            z = to_base(row)
            expected = -0.5 * z.square().sum() - math.log(2 * math.pi) + torch.linalg.slogdet(jacobian)[1]
            torch.testing.assert_close(model.log_prob(row[None])[0], expected, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("kind", ["planar", "cnf"])
    def test_samples_come_from_the_density(self, kind: str):
        model = self.model(kind)
        with torch.no_grad():
            drawn = model.sample(4000, gen())
            if isinstance(model, PlanarFlow):
                z = torch.randn(4000, 2, generator=gen())
                torch.testing.assert_close(model(model.inverse(z))[0], z, rtol=0, atol=1e-3)
            else:
                z, _ = model._flow(drawn, END)
                torch.testing.assert_close(z, torch.randn(4000, 2, generator=gen()), rtol=0, atol=5e-3)
        assert drawn.isfinite().all()

    def test_planar_layers_stay_invertible(self):
        """w·û > -1 whatever u and w are (Rezende & Mohamed 2015, appendix A.1)."""
        model = PlanarFlow(PLANE, layers=50)
        with torch.no_grad():
            model.u.copy_(torch.randn(50, 2, generator=gen()) * 30)
        moved, inner = model._moved()
        torch.testing.assert_close((moved * model.w).sum(-1), inner, rtol=1e-3, atol=1e-3)
        assert (inner >= -1).all()
        side = moved - model.u
        assert (side[:, 0] * model.w[:, 1] - side[:, 1] * model.w[:, 0]).abs().max() < 1e-3, "moved along w alone"

    def test_adjoint_and_steps_give_the_same_gradients(self):
        x, grads = torch.randn(20, 2, generator=gen()), []
        for adjoint in (False, True):
            torch.manual_seed(0)
            model = CNF(PLANE, width=8, solver={"rk4": {"steps": 60}}, adjoint=adjoint)
            model.loss(Batch(x, 20), gen())["loss"].backward()
            grads.append([p.grad for p in model.parameters()])
        for a, b in zip(*grads):
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-4)

    def test_field_has_its_formula(self):
        """Chen et al. 2018, eqs. 9 and 10: a mean over gated hidden units, and minus the trace of its Jacobian."""
        field = far(CNF(PLANE, width=4)).field
        z, t = torch.randn(2, generator=gen()), torch.tensor(3.7)
        numbers = field.net(t.view(1))
        w, u, b, gates = numbers[:8].view(4, 2), numbers[8:16].view(4, 2), numbers[16:20], torch.sigmoid(numbers[20:])
        expected = sum(gates[n] * u[n] * torch.tanh(w[n] @ z + b[n]) for n in range(4)) / 4
        dz, change = field(t, (z[None], torch.zeros(1)))
        torch.testing.assert_close(dz[0], expected)
        jacobian = torch.autograd.functional.jacobian(lambda v: field(t, (v[None], torch.zeros(1)))[0][0], z)
        torch.testing.assert_close(change[0], -jacobian.trace())

    def test_the_units_turn_with_time(self):
        """Section 4.1: the flow fits circles by rotating its units, so that their directions depend on time."""
        field = far(CNF(PLANE, width=4)).field
        early, late = (torch.atan2(w[:, 1], w[:, 0]) for w in (field.units(torch.tensor(t))[0] for t in (0.0, END)))
        assert (early - late).abs().min() > 0.05

    def test_densities_are_measured_without_the_coarse_solver_of_training(self):
        x = torch.randn(50, 2, generator=gen())
        model = far(CNF(PLANE, width=8, solver={"rk4": {"steps": 2}}))
        with torch.no_grad():
            coarse, measured = model.train().log_prob(x), model.eval().log_prob(x)
            model.exact = Solver({"rk4": {"steps": 400}}, adjoint=False)
            truth = model.log_prob(x)
        assert (coarse - truth).abs().max() > 0.05
        torch.testing.assert_close(measured, truth, rtol=0, atol=2e-3)


def far(model: CNF) -> CNF:
    """The flow, in evaluation mode and far from the identity."""
    torch.manual_seed(3)
    with torch.no_grad():
        for p in model.field.parameters():
            p.copy_(torch.randn(p.shape) / p[0].numel() ** 0.5)
    return model.eval()


def images(n: int = 12) -> Batch:
    return Batch(torch.rand(n, 1, 13, 12, generator=gen(1)), n, columns={"y": torch.randint(3, (n,), generator=gen(2))})


CLASSIFIERS = {
    "residual": {"middle": "residual", "blocks": 2},
    "ode": {"solver": {"rk4": {"steps": 2}}},
    "ode-adaptive": {"solver": {"dopri5": {"tolerance": 1e-3}}, "adjoint": False},
}


@pytest.mark.parametrize("name", CLASSIFIERS)
class TestClassifier:
    def build(self, name: str, **more: object) -> OdeNet:
        torch.manual_seed(0)
        return OdeNet(IMAGES, classes=3, channels=6, **{**CLASSIFIERS[name], **more})

    def test_contract(self, name: str):
        model = self.build(name)
        assert capabilities_of(model) == {"Trainable", "Classifier"}
        logits = model.classify(images().x)
        assert logits.shape == (12, 3)
        assert torch.equal(logits, self.build(name).classify(images().x))
        out = model.loss(images(), gen())
        torch.testing.assert_close(out["loss"], torch.nn.functional.cross_entropy(logits, images().columns["y"]))
        assert out["error"].item() == (logits.argmax(-1) != images().columns["y"]).float().mean().item()
        out["loss"].backward()
        for key, p in model.named_parameters():
            assert p.grad is not None, key
            assert p.grad.abs().max() > 0, key

    def test_learns(self, name: str):
        model, batch = self.build(name), images()
        optimiser = torch.optim.Adam(model.parameters(), 2e-2)
        for _ in range(60):
            optimiser.zero_grad()
            loss = model.loss(batch, gen())["loss"]
            loss.backward()
            optimiser.step()
        assert loss < 0.5 * math.log(3)


def test_full_sizes_are_the_papers():
    """0.60 and 0.22 million parameters (Chen et al. 2018, Table 1)."""
    info = DataInfo((1, 28, 28), "unit", 60000)
    sizes = [sum(p.numel() for p in OdeNet(info, middle=m).parameters()) for m in ("residual", "ode")]
    assert sizes[0] / 1e6 == pytest.approx(0.60, abs=0.03)
    assert sizes[1] / 1e6 == pytest.approx(0.22, abs=0.015)


def test_classifier_refusals():
    with pytest.raises(UserError, match="needs images"):
        OdeNet(PLANE)
    with pytest.raises(UserError, match="10x10"):
        OdeNet(DataInfo((1, 9, 12), "unit", 12))
    with pytest.raises(UserError, match="no column y"):
        OdeNet(IMAGES).loss(Batch(images().x, 12), gen())
    with pytest.raises(UserError, match="middle"):
        OdeNet(IMAGES, middle="rnn")
    with pytest.raises(UserError, match="an even number"):
        OdeNet(IMAGES, channels=5)
    assert norm(64).num_groups == 32


def series(n: int = 12, seen: int = 7) -> Batch:
    g = gen(4)
    angle = torch.linspace(0, 3, 20) + torch.rand(n, 1, generator=g)
    x = torch.stack([angle.cos(), angle.sin()], -1)
    flags = (torch.rand(n, 20, generator=g).argsort(1).argsort(1) < seen).to(torch.uint8)
    return Batch(x, n, columns={"observed": flags})


SEQUENCES = {
    "ode": (LatentODE, {"latent_dim": 3, "width": 6}),
    "ode-adaptive": (LatentODE, {"latent_dim": 3, "width": 6, "solver": "dopri5", "adjoint": True}),
    "rnn-vae": (LatentODE, {"latent_dim": 3, "width": 6, "dynamics": "rnn"}),
    "rnn": (RecurrentPredictor, {"width": 6}),
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("observed", [None, "observed"])
class TestSeries:
    def build(self, name: str, observed: str | None) -> torch.nn.Module:
        torch.manual_seed(0)
        cls, params = SEQUENCES[name]
        return cls(SERIES, observed=observed, **params)

    def test_contract(self, name: str, observed: str | None):
        model, batch = self.build(name, observed), series()
        assert capabilities_of(model) == {"Trainable", "Forecaster"}
        for length in (1, 13, 45):
            ahead = model.forecast(batch.x, batch.columns, length)
            assert ahead.shape == (12, length, 2)
            assert ahead.isfinite().all()
        assert torch.equal(ahead, self.build(name, observed).forecast(batch.x, batch.columns, 45))
        torch.testing.assert_close(model.forecast(batch.x, batch.columns, 13), ahead[:, :13], rtol=1e-3, atol=1e-3)
        out = model.loss(batch, gen())
        assert torch.equal(out["loss"], model.loss(batch, gen())["loss"])
        out["loss"].backward()
        for key, p in model.named_parameters():
            assert p.grad is not None, key

    def test_what_is_not_observed_is_not_looked_at(self, name: str, observed: str | None):
        model, batch = self.build(name, observed), series()
        other = batch.x + 100.0 * (batch.columns["observed"] == 0)[..., None]
        same = torch.equal(
            model.forecast(batch.x, batch.columns, 3), model.forecast(other, batch.columns, 3)
        ) and torch.equal(
            model.loss(batch, gen())["loss"], model.loss(Batch(other, 12, columns=batch.columns), gen())["loss"]
        )
        assert same == (observed is not None)


class TestLatentODE:
    def test_loss_is_the_negative_elbo(self):
        """Gaussian log-likelihood of the observed points plus KL(q || N(0, I)), from torch's own distributions."""
        torch.manual_seed(0)
        model, batch = LatentODE(SERIES, observed="observed", latent_dim=3, width=6, noise=0.2), series()
        values, places = model._seen(batch.x, batch.columns)
        mean, log_std = model._posterior(values, places)
        q = torch.distributions.Normal(mean, log_std.exp())
        z = mean + log_std.exp() * torch.randn(mean.shape, generator=gen())
        path = torch.distributions.Normal(model.read(model._path(z, 20)), 0.2)
        log_p = (path.log_prob(batch.x).sum(-1) * batch.columns["observed"]).sum(1)
        kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.tensor(0.0), torch.tensor(1.0)))
        torch.testing.assert_close(model.loss(batch, gen())["loss"], (kl.sum(1) - log_p).mean(), rtol=1e-4, atol=1e-3)

    def test_recognition_runs_from_the_last_observation_to_the_first(self):
        """Its last state has read the first observation last, each with the gap before it."""
        torch.manual_seed(0)
        model, batch = LatentODE(SERIES, observed="observed", latent_dim=3, width=6, encoder_width=5), series()
        values, places = model._seen(batch.x, batch.columns)
        w, h = model.recognise, torch.zeros(12, 5)
        for i in reversed(range(values.shape[1])):
            gap = (places[:, i] - (places[:, i - 1] if i else 0)).float()[:, None] / 20
            read = torch.cat([values[:, i], gap], 1)
            h = torch.tanh(read @ w.weight_ih_l0.T + w.bias_ih_l0 + h @ w.weight_hh_l0.T + w.bias_hh_l0)
        mean, log_std = model._posterior(values, places)
        torch.testing.assert_close(torch.cat([mean, log_std], 1), model.code(h))

    def test_with_a_linear_law_it_is_the_kalman_smoother(self):
        """dz/dt = a z and x = w z + b + noise, irregularly observed: at the smoother's own posterior of z_0 the loss is
        the exact negative log-likelihood, elsewhere it is more by the KL, and the forecast is the smoother's mean."""
        a, noise, n = 0.8, 0.4, 12

        class Linear(_Law):
            def __init__(self) -> None:
                torch.nn.Module.__init__(self)

            def forward(self, t: Tensor, z: Tensor) -> Tensor:
                return a * z

        torch.manual_seed(0)
        info = DataInfo((n, 2), "real", 1, columns={"observed": (n,)})
        model = LatentODE(info, observed="observed", latent_dim=1, noise=noise, solver={"rk4": {"steps": 11}})
        model.law, model.read = Linear(), torch.nn.Linear(1, 2)
        w, b = model.read.weight[:, 0].detach().double(), model.read.bias.detach().double()
        x = torch.randn(1, n, 2, generator=gen(4))
        seen = torch.zeros(1, n)
        seen[0, [0, 2, 3, 7, 10]] = 1.0
        growth = torch.exp(a * torch.arange(n).double() / (n - 1))
        gain = (growth[seen[0] > 0, None] * w).flatten()
        data = (x[0][seen[0] > 0].double() - b).flatten()
        mean, precision = torch.zeros(()).double(), torch.ones(()).double()
        for h, y in zip(gain, data):  # one observed number after the other, as a Kalman filter takes them
            k = h / (precision * noise**2 + h * h)
            mean, precision = mean + k * (y - h * mean), precision + h * h / noise**2
        covariance = gain[:, None] * gain + noise**2 * torch.eye(len(gain))
        exact = torch.distributions.MultivariateNormal(torch.zeros(len(gain)).double(), covariance).log_prob(data)
        batch = Batch(x.expand(40_000, -1, -1), 1, columns={"observed": seen.expand(40_000, -1)})

        def loss(shift: float) -> float:
            q = torch.stack([mean + shift, -0.5 * precision.log()]).float()
            model._posterior = lambda values, places: tuple(q.expand(len(values), 1, 2).unbind(-1))
            with torch.no_grad():
                return model.loss(batch, gen(7))["loss"].item()

        assert loss(0.0) == pytest.approx(-exact.item(), abs=0.03)
        assert loss(0.5) == pytest.approx(-exact.item() + 0.125 * precision.item(), abs=0.05)
        loss(0.0)
        ahead = torch.exp(a * torch.arange(n, n + 20).double() / (n - 1))
        expected = (mean * ahead[:, None] * w + b).float()
        found = model.forecast(x, {"observed": seen}, 20)[0]
        torch.testing.assert_close(found.detach(), expected, rtol=2e-3, atol=2e-3)

    def test_the_path_goes_on_by_the_same_law(self):
        """The state at grid point 2 (T - 1) solves the equation over twice the time."""
        torch.manual_seed(0)
        model = LatentODE(SERIES, latent_dim=3, width=6, solver={"rk4": {"steps": 19}})
        z = torch.randn(4, 3, generator=gen())
        path = model._path(z, 39)
        end = Solver({"dopri5": {"tolerance": 1e-6}}, adjoint=False)(model.law, z, torch.tensor([0.0, 1.0, 2.0]))
        assert path.shape == (4, 39, 3)
        torch.testing.assert_close(path[:, [0, 19, 38]], end.transpose(0, 1), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("layers", [1, 2])
    def test_hidden_layers_of_the_law(self, layers: int):
        law = LatentODE(SERIES, latent_dim=3, width=6, law_layers=layers).law
        widths = [m.out_features for m in law.modules() if isinstance(m, torch.nn.Linear)]
        assert widths == [6] * layers + [3]

    def test_order_of_observations(self):
        values, places = LatentODE(SERIES, observed="observed")._seen(series().x, series().columns)
        assert (places.diff(dim=1) > 0).all()
        for row in range(12):
            assert torch.equal(values[row], series().x[row][places[row]])


def test_recurrent_predictor_loss():
    """-Σ log N(x_{i+1}; prediction from x_1 .. x_i and the gaps, σ²), step by step."""
    torch.manual_seed(0)
    model, batch = RecurrentPredictor(SERIES, observed="observed", width=6), series()
    values, places = model._seen(batch.x, batch.columns)
    h, total = torch.zeros(12, 6), torch.zeros(12)
    for i in range(values.shape[1] - 1):
        gap = (places[:, i + 1] - places[:, i]).float()[:, None] / 20
        w = model.net
        h = torch.tanh(
            torch.cat([values[:, i], gap], 1) @ w.weight_ih_l0.T + w.bias_ih_l0 + h @ w.weight_hh_l0.T + w.bias_hh_l0
        )
        normal = torch.distributions.Normal(model.out(h), model.log_std.exp())
        total = total - normal.log_prob(values[:, i + 1]).sum(-1)
    torch.testing.assert_close(model.loss(batch, gen())["loss"], total.mean(), rtol=1e-4, atol=1e-3)


def test_recurrent_forecast():
    """Step by step: the gap to the end of the grid, and then its own predictions, one apart."""
    torch.manual_seed(0)
    model, batch = RecurrentPredictor(SERIES, observed="observed", width=6), series()
    values, places = model._seen(batch.x, batch.columns)
    assert places[:, -1].unique().numel() > 1
    w, h, found = model.net, torch.zeros(12, 6), []
    gaps = [*places.diff(dim=1).T, 20 - places[:, -1], torch.ones(12), torch.ones(12)]
    for i, gap in enumerate(gaps):
        at = values[:, i] if i < values.shape[1] else found[-1]
        read = torch.cat([at, gap.float()[:, None] / 20], 1)
        h = torch.tanh(read @ w.weight_ih_l0.T + w.bias_ih_l0 + h @ w.weight_hh_l0.T + w.bias_hh_l0)
        found.append(model.out(h))
    torch.testing.assert_close(model.forecast(batch.x, batch.columns, 3), torch.stack(found[-3:], 1))


@pytest.mark.parametrize("cls", [LatentODE, RecurrentPredictor])
def test_series_refusals(cls: type):
    with pytest.raises(UserError, match="needs series"):
        cls(PLANE)
    with pytest.raises(UserError, match="no column of 20 flags"):
        cls(SERIES, observed="y")
    model, batch = cls(SERIES, observed="observed"), series()
    with pytest.raises(UserError, match="no column 'observed'"):
        model.loss(Batch(batch.x, 12), gen())
    uneven = batch.columns["observed"].clone()
    uneven[0] = 1
    with pytest.raises(UserError, match="different numbers"):
        model.loss(Batch(batch.x, 12, columns={"observed": uneven}), gen())


@pytest.fixture(scope="module")
def trained() -> tuple[OdeNet, Batch]:
    torch.manual_seed(3)
    model = OdeNet(IMAGES, classes=3, channels=4)
    for p in model.parameters():
        p.data.mul_(3)  # far from the law whose solution is a straight line
    return model, Batch(torch.rand(6, 1, 13, 12), 12, columns={"y": torch.tensor([0, 1, 2, 0, 1, 2])})


class TestEvaluations:
    @pytest.mark.parametrize("tolerance", [1e-1, 1e-4])
    def test_are_the_calls_of_the_law(self, trained: tuple[OdeNet, Batch], tolerance: float):
        model, batch = trained
        calls: list[bool] = []
        assert isinstance(model.middle, Continuous)
        hook = model.middle.field.register_forward_hook(lambda *_: calls.append(True))
        try:
            there, back = evaluations(model, batch, tolerance)
            assert there + back == len(calls)
            calls.clear()
            with torch.no_grad():
                Solver({"dopri5": {"tolerance": tolerance}}, adjoint=False)(
                    model.middle.field, model.down(batch.x), torch.tensor([0.0, 1.0])
                )
            assert there == len(calls)
            assert back > 0
        finally:
            hook.remove()

    def test_a_tighter_tolerance_takes_more_both_ways(self, trained: tuple[OdeNet, Batch]):
        loose, tight = (evaluations(*trained, tolerance) for tolerance in (1e-1, 1e-5))
        assert loose[0] < tight[0]
        assert loose[1] < tight[1]

    def test_residual_blocks_have_none(self):
        model = OdeNet(IMAGES, classes=3, channels=4, middle="residual", blocks=1)
        with pytest.raises(UserError, match="an equation"):
            evaluations(model, Batch(torch.rand(2, 1, 13, 12), 12, columns={"y": torch.tensor([0, 1])}), 1e-3)

    def test_metrics_count_their_rows_and_leave_no_gradient(self, trained: tuple[OdeNet, Batch]):
        model, batch = trained
        view = view_of(batch.x.numpy(), columns={"y": batch.columns["y"].numpy()})
        settings = {"tolerance": 1e-2, "rows": 4}
        there, back = evaluations(model, Batch(batch.x[:4], 12, columns={"y": batch.columns["y"][:4]}), 1e-2)
        found = solver_evaluations(model, view, settings, gen())
        assert (found.value, found.n) == (there, 4)
        found = backward_evaluations_share(model, view, settings, gen())
        assert (found.value, found.n) == (back / there, 4)
        assert all(p.grad is None for p in model.parameters())


def test_perceptron_is_two_linear_maps_and_a_tanh():
    model = OneLayerPerceptron(IMAGES, classes=3, hidden=5)
    x, y = torch.rand(4, 1, 13, 12), torch.tensor([0, 2, 1, 1])
    first, second = model.body[1], model.body[3]
    logits = torch.tanh(x.flatten(1) @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(model.classify(x), logits)
    loss = model.loss(Batch(x, 12, columns={"y": y}), gen())
    torch.testing.assert_close(loss["loss"], -(logits.log_softmax(-1)[torch.arange(4), y]).mean())
    torch.testing.assert_close(loss["error"], (logits.argmax(-1) != y).float().mean())
    assert sum(p.numel() for p in OneLayerPerceptron(DataInfo((1, 28, 28), "unit", 9)).parameters()) == 238_510
    with pytest.raises(UserError, match="no column y"):
        model.loss(Batch(x, 12), gen())
