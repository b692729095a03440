"""Muon for convolutions: few steps that reach what many of Adam's do.

A step of Muon moves a weight matrix by an orthogonal one, so that all directions of its inputs are learned at
the same pace (Jordan et al., 2024, `Muon: an optimizer for hidden layers in neural networks`); a convolution
is a matrix of its output channels × the values under its kernel. Steps are as large as Adam's would be at the
same rate (Liu et al., 2025, `Muon is scalable for LLM training`, §2.2). Biases and depthwise kernels, which
are no matrices, go by Adam.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from torch.optim import Adam, Muon, Optimizer

Method = Literal["adam", "muon"]


class ConvolutionMuon:
    """`torch.optim.Muon` and `Adam` over the parameters of a network, with what is used of an Optimizer.

    Args:
        network: its weights must stay where they are in memory: not to be moved afterwards.
        rate: of both.
        decay: weight decay of both.
    """

    def __init__(self, network: nn.Module, rate: float, decay: float) -> None:
        self._all = list(network.parameters())
        kernels = [
            module.weight
            for module in network.modules()
            if isinstance(module, nn.Conv2d) and module.groups == 1
        ]
        held = {id(kernel) for kernel in kernels}
        rest = [one for one in self._all if id(one) not in held]
        # The same memory as two-dimensional parameters, which is all that torch's Muon takes.
        self._kernels = [(kernel, nn.Parameter(kernel.detach().view(len(kernel), -1))) for kernel in kernels]
        matrices = [matrix for _, matrix in self._kernels]
        muon = Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        self._parts: tuple[Optimizer, ...] = (muon, Adam(rest, lr=rate, weight_decay=decay))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both: what is set there is theirs."""
        return [group for part in self._parts for group in part.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self._all:
            parameter.grad = None

    def step(self) -> None:
        """One step down the gradients."""
        for kernel, matrix in self._kernels:
            matrix.grad = None if kernel.grad is None else kernel.grad.view(matrix.shape)
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """As an Optimizer's, `state` by the number of the parameter: the matrices first, then the others."""
        first, second = (part.state_dict()["state"] for part in self._parts)
        return {"state": {**first, **{index + len(self._kernels): one for index, one in second.items()}}}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        count = len(self._kernels)
        first = {index: one for index, one in values["state"].items() if index < count}
        second = {index - count: one for index, one in values["state"].items() if index >= count}
        for part, state in zip(self._parts, (first, second), strict=True):
            part.load_state_dict({**part.state_dict(), "state": state})


AnyOptimiser = Optimizer | ConvolutionMuon


def optimiser(method: Method, network: nn.Module, rate: float, decay: float) -> AnyOptimiser:
    """What descends `network`'s loss by `method`; its parameters must be where they are trained."""
    if method == "muon":
        return ConvolutionMuon(network, rate, decay)
    return Adam(network.parameters(), lr=rate, weight_decay=decay)
