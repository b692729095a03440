"""Runs in anomalib's environment, started by `anomalib_models.py`: one model, as anomalib makes and runs it.

Arguments: the folder to work in, with fit.npy, judged.npy and frames.npy, uint8 (N, 256, 256, 3) RGB; the
model's name; how many vectors a memory bank has; a checkpoint, or nothing for random weights. It saves
model.ckpt and what its torch model says of judged.npy there, and then answers one line of JSON per line.
Nothing is downloaded: random weights come with batch norms that have the statistics of real images.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import timm
import torch
from anomalib import __version__
from anomalib.deploy import CompressionType, OpenVINOInferencer
from anomalib.models import Fastflow, Padim, Patchcore, ReverseDistillation, Stfpm
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

SIZE = (256, 256)
SETTLING = 16  # images for batch norms
CALIBRATION = 48  # images for INT8_PTQ
CORESET_DIM = 32
STEPS, BATCH = 40, 8  # of a student's or a decoder's training
MODELS: dict[str, Callable[[], Any]] = {
    "patchcore": Patchcore,
    "padim": Padim,
    "stfpm": Stfpm,
    "reverse_distillation": ReverseDistillation,
    "fastflow": Fastflow,
}


def say(**values: Any) -> None:
    """Answer."""
    print("@@" + json.dumps(values), flush=True)


def tensor(pixels: Any) -> torch.Tensor:
    """(N, H, W, 3) uint8 as (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255


def settle(run: Callable[[torch.Tensor], Any], network: nn.Module, images: torch.Tensor) -> Any:
    """Give batch norms what a trained network has: statistics, and in residual branches a weight above 0."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = 1.0
        if not norm.weight.any():
            nn.init.constant_(norm.weight, 0.3)
    with torch.no_grad():
        found = run(images)
    for norm in norms:
        norm.eval()
    return found


def build(name: str, fit: Any, bank: int) -> Any:
    """The model of that name by anomalib's defaults, fitted as far as its maps need it."""
    model = MODELS[name]()
    net = model.model.eval()
    images = model.pre_processor(tensor(fit[:SETTLING])).clone()
    holder = {"stfpm": "teacher_model", "reverse_distillation": "encoder"}.get(name, "feature_extractor")
    frozen = getattr(net, holder)
    backbone = getattr(frozen, "feature_extractor", frozen)
    taps = settle(backbone, backbone, images)
    if name == "stfpm":
        teach(model, frozen, fit)
    elif name == "reverse_distillation":
        coded = settle(net.bottleneck, net.bottleneck, list(taps))
        settle(net.decoder, net.decoder, coded)
        teach(model, frozen, fit)
    elif name in ("padim", "patchcore"):
        net.train()
        with torch.no_grad():
            for image in fit:
                net(model.pre_processor(tensor(image[None])))
        if name == "padim":
            net.fit()
        else:
            vectors = torch.vstack(net.embedding_store)
            net.embedding_store.clear()
            net.memory_bank = vectors[spread(vectors, bank)].clone()
    return model


def teach(model: Any, frozen: nn.Module, fit: Any) -> None:
    """Train a student or a decoder as anomalib does, from its random start, for a few steps.

    The map of a random decoder is the same everywhere, and that of a student which equals its teacher but for
    little noise is nearly nothing: any rounding would move them by more than they vary.
    """
    # Contiguous: anomalib's loss of Reverse Distillation views what the encoder makes of them as vectors.
    images = model.pre_processor(tensor(fit)).contiguous()
    net, optimiser = model.model, model.configure_optimizers()
    net.train()
    frozen.eval()
    for step in range(STEPS):
        chosen = torch.arange(step * BATCH, (step + 1) * BATCH) % len(images)
        loss = model.loss(*net(images[chosen]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()


def restore(name: str, checkpoint: str) -> Any:
    """The model of a checkpoint; banks and Gaussians have another shape there than in a new model."""
    model = MODELS[name]()
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    for key, value in state.items():
        holder, _, leaf = key.rpartition(".")
        module = model.get_submodule(holder)
        if leaf in module._buffers:
            module._buffers[leaf] = value.clone()
    model.load_state_dict(state)
    return model


def spread(vectors: torch.Tensor, count: int) -> torch.Tensor:
    """Greedy k-centre choice of `count` vectors on random projections, as anomalib's own, of fewer values."""
    points = vectors @ torch.randn(vectors.shape[1], CORESET_DIM)
    squares = points.square().sum(1)
    far = torch.full((len(points),), torch.inf)
    chosen = torch.empty(count, dtype=torch.int64)
    farthest = 0
    for place in range(count):
        chosen[place] = farthest
        far = torch.minimum(far, torch.addmv(squares + squares[farthest], points, points[farthest], alpha=-2))
        far[farthest] = -1
        farthest = int(far.argmax())
    return chosen


def judge(model: Any, pixels: Any) -> tuple[Any, Any]:
    """Raw maps (N, H, W) and scores (N,) of anomalib's torch model."""
    maps, scores = [], []
    with torch.no_grad():
        for image in pixels:
            said = model.model(model.pre_processor(tensor(image[None])))
            maps.append(said.anomaly_map[0, 0].numpy())
            scores.append(float(said.pred_score))
    return np.stack(maps), np.array(scores)


def normalise(model: Any, maps: Any, scores: Any) -> None:
    """Limits of anomalib's post-processor, as validation leaves them, so wide that nothing is clipped."""
    for kind, values in (("image", scores), ("pixel", maps)):
        low, high = float(values.min()), float(values.max())
        for key, value in (("min", 2 * low - high), ("max", 2 * high - low), ("threshold", (low + high) / 2)):
            getattr(model.post_processor, ("_" if key == "threshold" else "") + f"{kind}_{key}").fill_(value)


def raw(model: Any, kind: str, values: Any) -> Any:
    """Undo `normalise`."""
    post = model.post_processor
    low, high = (float(getattr(post, f"{kind}_{key}")) for key in ("min", "max"))
    return (np.asarray(values, np.float64) - 0.5) * (high - low) + float(getattr(post, f"_{kind}_threshold"))


class Calibration:
    """What INT8_PTQ asks of a data module."""

    train_batch_size = 1

    def __init__(self, pixels: Any) -> None:
        self._items = [{"image": image} for image in tensor(pixels)]

    def setup(self, stage: str) -> None:
        """Nothing to do."""

    def val_dataloader(self) -> Any:
        """One image at a time."""
        return DataLoader(self._items, batch_size=1)


def export(model: Any, work: Path, name: str, fit: Any, judged: Any) -> tuple[Any, str]:
    """The inferencer of anomalib's export NAME and the form of its graph; NAME.npz says what it finds.

    The default form where it runs on one image, else the one with a fixed batch of 1.
    """
    options: dict[str, Any] = {"input_size": SIZE}
    if name == "INT8_PTQ":
        options |= {
            "compression_type": CompressionType.INT8_PTQ,
            "datamodule": Calibration(fit[:CALIBRATION]),
        }
    error = ""
    for form, extra in (("default", {}), ("fixed batch", {"onnx_kwargs": {"dynamic_axes": None}})):
        try:
            path = model.to_openvino(str(work / f"{name} {form}"), **options, **extra)
            inferencer = OpenVINOInferencer(str(path), device="CPU")
            found = [inferencer.predict(image) for image in judged]
        except Exception as reason:  # whatever the peer's export fails of, its other form is tried
            error += f"{form}: {type(reason).__name__}: {str(reason).strip()[:200]}; "
            continue
        np.savez(
            work / f"{name}.npz",
            maps=np.stack([raw(model, "pixel", np.squeeze(one.anomaly_map)) for one in found]),
            scores=np.array([raw(model, "image", np.squeeze(one.pred_score)) for one in found]),
        )
        return inferencer, form
    raise RuntimeError(error)


def main() -> None:
    """Build, say that it is ready, answer until the input ends."""
    warnings.filterwarnings("ignore")
    work, name, bank, given = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    timm.create_model = partial(without_weights, timm.create_model)
    fit, judged, frames = (np.load(work / f"{part}.npy") for part in ("fit", "judged", "frames"))
    model = (restore(name, given) if given else build(name, fit, bank)).eval()
    model.model.eval()
    maps, scores = judge(model, judged)
    np.savez(work / "torch.npz", maps=maps, scores=scores)
    normalise(model, maps, scores)
    trainer = Trainer(logger=False, accelerator="cpu", devices=1, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(work / "model.ckpt")
    say(anomalib=__version__, torch=torch.__version__, openvino=openvino.__version__)
    opened: dict[str, Any] = {}
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "export":
            try:
                opened[ask["system"]], form = export(model, work, ask["system"], fit, judged)
            except RuntimeError as reason:
                say(error=str(reason))
            else:
                say(form=form)
        else:
            run, image = opened[ask["system"]].predict, frames[ask["index"]]
            begin = time.perf_counter_ns()
            run(image)
            say(ns=time.perf_counter_ns() - begin)


def without_weights(create: Callable[..., Any], *words: Any, **options: Any) -> Any:
    """A backbone as `create` makes it, without looking for its weights."""
    return create(*words, **{**options, "pretrained": False})


if __name__ == "__main__":
    main()
