"""Muon for convolutions: few steps that reach what many of Adam's do.

A step of Muon moves a weight matrix by an orthogonal one, so that all directions of its inputs are learned at
the same pace (Jordan et al., 2024, `Muon: an optimizer for hidden layers in neural networks`); a convolution
is a matrix of its output channels × the values under its kernel. Steps are as large as Adam's would be at the
same rate (Liu et al., 2025, `Muon is scalable for LLM training`, §2.2). Biases and depthwise kernels, which
are no matrices, go by Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Adam, Muon, Optimizer

Method = Literal["adam", "muon"]


class ConvolutionMuon:
    """`torch.optim.Muon` and `Adam` over the parameters of networks, with what is used of an Optimizer.

    Args:
        networks: their weights must stay where they are in memory: not to be moved afterwards.
        rate: of both.
        decay: weight decay of both.
    """

    def __init__(self, networks: Sequence[nn.Module], rate: float, decay: float) -> None:
        self._all = [parameter for network in networks for parameter in network.parameters()]
        self._kernels: list[tuple[Tensor, nn.Parameter]] = []
        matrices, rest = [], []
        for network in networks:
            kernels = [
                module.weight
                for module in network.modules()
                if isinstance(module, nn.Conv2d) and module.groups == 1
            ]
            held = {id(kernel) for kernel in kernels}
            rest.append({"params": [one for one in network.parameters() if id(one) not in held]})
            # The same memory as two-dimensional parameters, which is all that torch's Muon takes.
            pairs = [(kernel, nn.Parameter(kernel.detach().view(len(kernel), -1))) for kernel in kernels]
            matrices.append({"params": [matrix for _, matrix in pairs]})
            self._kernels += pairs
        muon = Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        self._parts: tuple[Optimizer, ...] = (muon, Adam(rest, lr=rate, weight_decay=decay))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """One per network of Muon, then one per network of Adam: what is set there is theirs."""
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


def optimiser(method: Method, networks: Sequence[nn.Module], rate: float, decay: float = 0.0) -> AnyOptimiser:
    """What descends a loss of `networks` by `method`; their parameters must be where they are trained.

    Returns:
        An optimiser whose groups are of one network each, in the order of `networks`, once or twice.
    """
    if method == "muon":
        return ConvolutionMuon(networks, rate, decay)
    groups = [{"params": list(network.parameters())} for network in networks]
    return Adam(groups, lr=rate, weight_decay=decay)
