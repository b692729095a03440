"""Runs in anomalib's environment, started by `side_by_side.py`: its models, exported by itself.

Argument: the folder to work in, with images.npy, uint8 (N, 256, 256, 3) RGB. It answers one line of JSON per
line. Nothing is downloaded: backbones are made without their weights, which changes no layer and no time.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import timm
import torch
from anomalib import __version__
from anomalib.deploy import OpenVINOInferencer
from anomalib.models import EfficientAd, Padim, Stfpm, Supersimplenet

SIZE = (256, 256)
FIT_IMAGES = 16


def say(**values: Any) -> None:
    """Answer."""
    print("@@" + json.dumps(values), flush=True)


def tensor(pixels: Any) -> torch.Tensor:
    """(N, H, W, 3) uint8 as (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255


def build(name: str, pixels: Any) -> Any:
    """A model of that name; PaDiM needs the statistics of some images to have a size at all."""
    if name == "padim":
        model = Padim(backbone="resnet18", pre_trained=False)
        net = model.model
        net.train()
        with torch.no_grad():
            for image in pixels[:FIT_IMAGES]:
                net(tensor(image[None]))
        net.fit()
        return model
    if name == "stfpm":
        return Stfpm(backbone="resnet18")
    if name == "efficient_ad":
        return EfficientAd()
    return Supersimplenet()


def systems(name: str, work: Path, pixels: Any) -> dict[str, Callable[[Any], object]]:
    """Export the model, and open it in three ways: each a function of one uint8 (256, 256, 3) image."""
    model = build(name, pixels)
    model.eval()
    model.model.eval()
    folder = work / name
    folder.mkdir()
    exported = Path(model.to_openvino(str(folder), input_size=SIZE))
    inferencer = OpenVINOInferencer(str(exported), device="CPU")

    core = openvino.Core()
    graph = core.read_model(exported)
    graph.reshape([1, 3, *SIZE])
    compiled = core.compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()

    onnx = Path(model.to_onnx(str(folder), input_size=SIZE))
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name

    def prepared(image: Any) -> Any:
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)

    return {
        "OpenVINOInferencer": inferencer.predict,
        "openvino": lambda image: request.infer([prepared(image)]),
        "onnxruntime": lambda image: session.run(None, {entry: prepared(image)}),
    }


def main() -> None:
    """Say that it is ready, answer until the input ends."""
    warnings.filterwarnings("ignore")
    work = Path(sys.argv[1])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    create = timm.create_model
    timm.create_model = lambda *words, **options: create(*words, **{**options, "pretrained": False})
    pixels = np.load(work / "images.npy")
    say(
        anomalib=__version__,
        torch=torch.__version__,
        openvino=openvino.__version__,
        onnxruntime=onnxruntime.__version__,
    )
    opened: dict[str, dict[str, Callable[[Any], object]]] = {}
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "open":
            opened[ask["model"]] = systems(ask["model"], work, pixels)
            say(systems=list(opened[ask["model"]]))
        else:
            run, image = opened[ask["model"]][ask["system"]], pixels[ask["index"]]
            begin = time.perf_counter_ns()
            run(image)
            say(ns=time.perf_counter_ns() - begin)


if __name__ == "__main__":
    main()
