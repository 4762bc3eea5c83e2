"""A step of preprocessing: images of half the height and width."""

from __future__ import annotations

from dataclasses import replace

from latentbench.core.errors import UserError
from latentbench.data.step import State, Step
from latentbench.declare import step
from torch import Tensor


@step("halve")
class Halve(Step):
    """(..., H, W) -> (..., H/2, W/2): means of squares of 2 x 2 pixels. Back go squares of one value."""

    name = "halve"
    new_variable = True

    def bind(self, state: State) -> State:
        if len(state.shape) < 2 or state.shape[-2] % 2 or state.shape[-1] % 2 or state.support == "discrete":
            raise UserError("halve needs images of even sides, in real values", fix="put it after to_unit")
        *before, height, width = state.shape
        return replace(state, shape=(*before, height // 2, width // 2))

    def map(self, y: Tensor) -> Tensor:
        return y.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((-3, -1))

    def inverse(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(2, -1).repeat_interleave(2, -2)
