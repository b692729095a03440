"""The flow against its definition and against autograd's Jacobian, and the training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.detectors._flow import Flow, FlowStep
from edgead.detectors.fastflow import FastFlow
from edgead.errors import DatasetError, InputError, UsageError
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Silent, Task
from edgead.training import fastflow
from edgead.training._state import ResumeState

CONFIG: dict[str, Any] = {
    "backbone": "efficientnet_lite0",
    "taps": ["stage2", "stage3", "stage5"],
    "geometry": {"height": 32, "width": 48},
    "flow_steps": 3,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scatter(network: nn.Module) -> None:
    """Weights, scales, offsets and orders that no initialisation gives."""
    for module in network.modules():
        if isinstance(module, FlowStep):
            module.global_scale.data.normal_(2, 1)
            module.global_offset.data.normal_(0, 0.5)
            module.order.copy_(torch.randperm(len(module.order)))
        elif isinstance(module, nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.5)


def detector(**changes: Any) -> FastFlow:
    torch.manual_seed(0)
    network = FastFlow.from_config(CONFIG | changes)
    scatter(network)
    return network.eval()


def plain_step(step: FlowStep, x: Tensor, kernel: int) -> Tensor:
    """As FrEIA's AllInOneBlock is described: the order is a product with a one-hot matrix."""
    s = step.state_dict()
    cut = x.shape[1] - x.shape[1] // 2
    hidden = F.conv2d(x[:, :cut], s["subnet.0.weight"], s["subnet.0.bias"], padding=kernel // 2)
    a = 0.1 * F.conv2d(hidden.relu(), s["subnet.2.weight"], s["subnet.2.bias"], padding=kernel // 2)
    n = x.shape[1] - cut
    x2 = x[:, cut:] * torch.exp(2.0 * torch.tanh(a[:, :n])) + a[:, n:]
    scale = 0.1 * 2.0 * torch.log1p(torch.exp(0.5 * s["global_scale"]))
    matrix = torch.eye(x.shape[1], dtype=x.dtype)[s["order"]]
    return F.conv2d(torch.cat([x[:, :cut], x2], 1) * scale + s["global_offset"], matrix[..., None, None])


@pytest.mark.parametrize(
    ("channels", "only_3x3", "ratio"), [(6, False, 1.0), (7, False, 1.0), (8, True, 0.6)]
)
def test_the_flow_is_freia_s(channels: int, only_3x3: bool, ratio: float) -> None:
    torch.manual_seed(0)
    flow = Flow(channels, steps=3, only_3x3=only_3x3, hidden_ratio=ratio, clamp=2.0).double()
    scatter(flow)
    x = torch.randn(2, channels, 5, 4, dtype=torch.float64)
    expected = x
    with torch.no_grad():
        for number, step in enumerate(flow.steps):
            assert isinstance(step, FlowStep)
            kernel = 3 if only_3x3 or number != 1 else 1
            assert step.subnet[0].weight.shape[2] == kernel
            expected = plain_step(step, expected, kernel)
        found, _ = flow(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_log_determinant_is_autograd_s() -> None:
    torch.manual_seed(0)
    flow = Flow(5, steps=4, only_3x3=False, hidden_ratio=1.0, clamp=2.0).double()
    scatter(flow)
    x = torch.randn(1, 5, 2, 3, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(lambda value: flow(value)[0], x).view(30, 30)
    assert float(flow(x)[1].detach()) == pytest.approx(
        float(torch.linalg.slogdet(matrix).logabsdet), abs=1e-9
    )


def test_a_step_starts_with_scale_one() -> None:
    step = FlowStep(4, kernel=1, hidden_ratio=1.0, clamp=2.0)
    torch.testing.assert_close(step.scale, torch.ones(1, 4, 1, 1))


def test_the_map_is_the_mean_of_likelihoods() -> None:
    network = detector()
    image = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8)
    expected = np.zeros((32, 48))
    with torch.no_grad():
        for tap, norm, flow in zip(
            network.backbone(network.backbone.normalise(image)), network.norms, network.flows, strict=True
        ):
            assert isinstance(norm, nn.LayerNorm)
            values = tap[0].double().numpy()
            values = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
            values = values * norm.weight.numpy() + norm.bias.numpy()
            z = flow(torch.from_numpy(values).float()[None])[0][0].double().numpy()
            small = torch.from_numpy(-np.exp(-(z**2).sum(0) / len(z) / 2))[None, None]
            expected += F.interpolate(small, size=(32, 48), mode="bilinear")[0, 0].numpy() / 3
        raw = network(image).anomaly_map[0].numpy()
    np.testing.assert_allclose(raw[0], expected, rtol=1e-3, atol=1e-5)
    score, _, found = Postprocess(network.post_recipe).scores(raw)
    np.testing.assert_allclose(found, raw[0], rtol=1e-6)
    assert score == found.max()


def test_the_loss_is_the_negative_log_likelihood() -> None:
    network = detector()
    pixels = torch.randint(0, 256, (2, 32, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        found = fastflow.losses(network, pixels)
        for value, (z, logarithm) in zip(
            found, network.latent(network.backbone.normalise(pixels)), strict=True
        ):
            standard = torch.distributions.Normal(0.0, 1.0).log_prob(z.double()).sum((1, 2, 3))
            constant = 0.5 * z[0].numel() * np.log(2 * np.pi)
            expected = -(standard + logarithm.double() + constant).mean()
            assert float(value) == pytest.approx(float(expected), rel=1e-4)


def stripes(count: int, seed: int) -> npt.NDArray[np.uint8]:
    grating = 128 + 60 * np.sin(np.arange(48) * np.pi / 4)[None, None, :, None]
    noise = np.random.default_rng(seed).normal(0, 3, (count, 32, 48, 3))
    return np.clip(grating + noise, 0, 255).astype(np.uint8)


def fit(
    folder: Path, network: FastFlow, *, seed: int = 0, progress: Any = None, **changes: Any
) -> dict[str, Any]:
    return fastflow.fit(
        network,
        changes.pop("images", stripes(8, 0)),
        stripes(3, 1),
        recipe={"steps": 5, "batch": 2, "save_every": 2, **changes},
        seed=seed,
        state=ResumeState(folder / "m.partial", {}),
        progress=progress if progress is not None else Silent(),
    )


def test_it_learns_what_is_normal(tmp_path: Path) -> None:
    network = detector()
    record = fit(tmp_path, network, steps=60, batch=4, save_every=20)
    losses = [
        sum(value for key, value in entry.items() if "unlikeliness" in key) for entry in record["history"]
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
    odd = stripes(3, 1)
    odd[:, 8:24, 16:32] = 255
    with torch.no_grad():
        good, bad = (network(torch.from_numpy(value)).anomaly_map for value in (stripes(3, 1), odd))
    assert float(bad.amax((1, 2, 3)).min()) > float(good.amax((1, 2, 3)).max())


class _Interrupting(Silent):
    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        class Bar:
            left = 3

            def advance(self, steps: int = 1, **status: object) -> None:
                self.left -= steps
                if self.left <= 0:
                    raise KeyboardInterrupt

        yield Bar()


def test_an_interrupted_training_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    whole, resumed, other = detector(), detector(), detector()
    for folder in ("whole", "other"):
        (tmp_path / folder).mkdir()
    expected = fit(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting())
    assert fit(tmp_path, resumed) == expected
    fit(tmp_path / "other", other, seed=1)
    ours, theirs, others = whole.state_dict(), resumed.state_dict(), other.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert not torch.equal(ours["flows.2.steps.0.order"], others["flows.2.steps.0.order"])
    assert torch.equal(ours["flows.2.steps.0.order"].sort().values, torch.arange(112))


def test_what_cannot_be_trained_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"5 good images to train on.*at least 8"):
        fit(tmp_path, detector(), images=stripes(5, 0))
    network = detector()
    next(iter(network.backbone.parameters())).data.fill_(torch.nan)
    with pytest.raises(InputError, match="the loss 'unlikeliness stage2' became nan in step 1"):
        fit(tmp_path, network)


def test_the_backbone_stays_as_it_is_and_the_config_survives() -> None:
    network = detector().train()
    assert not any(module.training for module in network.backbone.modules())
    trained = {name.split(".")[0] for name, value in network.named_parameters() if value.requires_grad}
    assert trained == {"norms", "flows"}
    assert FastFlow.from_config(json.loads(json.dumps(network.config_dict()))).config == network.config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"flow_steps": 0}, "flow_steps 0"),
        ({"hidden_ratio": 0}, "must be positive"),
        ({"clamp": -1}, "must be positive"),
        ({"taps": ["layer1"]}, "layer1"),
        ({"colour": 1}, "does not fit"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_says_why(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        detector(**change)
