"""The floor of a training, against operations counted by hand."""

from latentbench.planning.plan import plan
from latentbench.spec.loading import load_suite

from perf.floor import MOVED, work


def test_iwae_needs_the_operations_that_its_layers_have():
    suite = load_suite("quickstart")
    runs = {r.method: r for r in plan(suite, "cpu", seeds=[0], datasets=["digits"])}
    spec = next(r for r in runs.values() if r.model == "vae")
    one = work(spec)
    d, z = 64, spec.params["latent_dim"]
    widths = list(spec.params["hidden"])
    ends = [d, *widths]
    encoder = sum(a * b for a, b in zip(ends, widths, strict=False)) + widths[-1] * 2 * z
    ends = [z, *widths[::-1]]
    decoder = (
        sum(a * b for a, b in zip(ends, widths[::-1], strict=False)) + widths[0] * 2 * d
    )  # mean and scale of a pixel
    rows = spec.training["batch_size"]
    k = spec.params.get("k", 1)
    forward = 2 * rows * (encoder + k * decoder)
    first = 2 * rows * d * widths[0]  # nothing wants the gradient of the pixels
    assert one.flops == one.steps * (3 * forward - first)


def test_bytes_grow_with_weights_and_steps():
    suite = load_suite("quickstart")
    spec = next(r for r in plan(suite, "cpu", seeds=[0], datasets=["digits"]) if r.model == "vae")
    one = work(spec)
    assert one.bytes > 4 * MOVED * one.steps * 64 * spec.params["hidden"][0]
    assert one.seconds("h200-fp32") >= one.seconds("h200-bf16") > 0
