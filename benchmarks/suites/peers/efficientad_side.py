"""Runs in anomalib's environment, for `efficientad_anomalib.py` and `int8_peers.py`: its own EfficientAd.

Arguments: the folder to work in, with good.npy and test.npy; a checkpoint, or nothing for random weights. It
saves model.ckpt there, and then answers one line of JSON per line.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib import __version__
from anomalib.data.utils import read_image
from anomalib.deploy import CompressionType, OpenVINOInferencer
from anomalib.models.image.efficient_ad.lightning_model import EfficientAd
from lightning.pytorch import Trainer
from models_side import Calibration, say, tensor


def fill(net: Any, good: torch.Tensor) -> None:
    """Statistics and quantiles of good images for a network with random weights."""
    with torch.no_grad():
        said = torch.cat([net.teacher.eval()(image[None]) for image in good])
        net.mean_std["mean"].copy_(said.mean((0, 2, 3), keepdim=True))
        net.mean_std["std"].copy_(said.std((0, 2, 3), keepdim=True))
        net.eval()
        maps = [net.get_maps(image[None], normalize=False) for image in good]
        for name, place in (("st", 0), ("ae", 1)):
            values = torch.cat([pair[place].flatten() for pair in maps])
            for letter, level in (("a", 0.9), ("b", 0.995)):
                net.quantiles[f"q{letter}_{name}"].copy_(torch.quantile(values, level))


def score(model: Any, work: Path, paths: list[str]) -> None:
    """Maps and scores of test.npy, and of the files as anomalib itself resizes them, into peer.npz."""
    net = model.model
    with torch.no_grad():
        found = [net(tensor(image[None])) for image in np.load(work / "test.npy")]
        own = []
        for path in paths:
            image = model.pre_processor.transform(read_image(path, as_tensor=True)[None])
            own.append(float(net(image).pred_score))
    np.savez(
        work / "peer.npz",
        maps=np.stack([one.anomaly_map[0, 0].numpy() for one in found]),
        scores=np.array([float(one.pred_score) for one in found]),
        own=np.array(own),
    )


def main() -> None:
    """Build, say that it is ready, answer until the input ends."""
    warnings.filterwarnings("ignore")
    work, given = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    model = EfficientAd()
    if given:
        model.load_state_dict(torch.load(given, map_location="cpu", weights_only=False)["state_dict"])
    else:
        fill(model.model, tensor(np.load(work / "good.npy")))
    trainer = Trainer(logger=False, accelerator="cpu", devices=1, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(work / "model.ckpt")
    model.eval()
    model.model.eval()
    say(anomalib=__version__, torch=torch.__version__)
    pixels = np.load(work / "test.npy")
    inferencer: Any = None
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "score":
            score(model, work, ask["paths"])
            say()
        elif ask["do"] == "export":
            options = {}
            if "compression" in ask:
                options = {
                    "compression_type": CompressionType(ask["compression"]),
                    "datamodule": Calibration(np.load(work / "good.npy")),
                }
            path = model.to_openvino(str(work), input_size=(256, 256), **options)
            inferencer = OpenVINOInferencer(str(path), device="CPU")
            say()
        elif ask["do"] == "engine maps":
            maps = [np.squeeze(inferencer.predict(image).anomaly_map) for image in pixels]
            np.save(work / "engine_maps.npy", np.stack(maps))
            say()
        else:
            image = pixels[ask["index"]]
            begin = time.perf_counter_ns()
            inferencer.predict(image)
            say(ns=time.perf_counter_ns() - begin)


if __name__ == "__main__":
    main()
