"""Distil: a backbone and any images to a teacher for EfficientAD."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from edgead.bundle.manifest import created_by
from edgead.errors import OutputError, UsageError
from edgead.progress import Progress, Silent

if TYPE_CHECKING:
    from edgead.detectors._efficientad_networks import Size


@dataclass(frozen=True, slots=True)
class DistillResult:
    """What `distill_teacher` made.

    Attributes:
        output: the teacher, a safetensors file for `edgead train efficientad --weights`.
        loss: mean squared error of the last steps; 1 = nothing learned, 0 = says what the backbone says.
        seconds: wall time of this run.
    """

    output: Path
    loss: float
    seconds: float


def distill_teacher(
    size: str,
    output: Path,
    *,
    backbone: str = "efficientnet_lite0",
    images: Path | None = None,
    drawn: float = 0.0,
    weights: Path | None = None,
    steps: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
) -> DistillResult:
    """Make a teacher of a size of EfficientAD that says what `backbone` says.

    While it runs, ``OUTPUT.partial`` beside `output` keeps the state; the same call resumes from it.

    Args:
        size: ``small``, ``medium`` or ``edge``.
        output: the safetensors file to write.
        backbone: which backbone is imitated.
        images: folder of images to show; None = procedurally drawn ones. Never give test images.
        drawn: share of drawn images among the folder's, 0 … 1.
        weights: a file with the backbone's weights; None = by name.
        steps: None = the paper's 60 000. Fewer than 10 000 are a short run, see
            `DistillationRecipe.of_steps`.
        batch: images per step; None = the paper's 16, of a short run 8.
        rate: the optimiser's, the highest; None = the paper's 1e-4, of a short run 2e-3.
        seed: of every random choice.
        overwrite: replace a file at `output`.
        restart: forget an unfinished distillation toward `output`.
        progress: bars and messages.

    Raises:
        UsageError: an unknown size or backbone, a number out of range, or a suffix other than .safetensors.
        OutputError: `output` exists or cannot be written, or an unfinished distillation differs from this
            one.
        DatasetError: no images.
        WeightsError: the backbone's weights do not fit or cannot be had.
        InputError: it diverged.
    """
    from safetensors.torch import save

    from edgead.backbones import _base
    from edgead.backbones._weights import load_weights
    from edgead.bundle._storage import replace_file
    from edgead.detectors import model_file
    from edgead.detectors._efficientad_networks import Size
    from edgead.training._distillation import DistillationRecipe, Target, default_taps, distil
    from edgead.training._other_images import OtherImages
    from edgead.training._state import ResumeState

    started = time.monotonic()
    show = progress if progress is not None else Silent()
    if size not in get_args(Size):
        raise UsageError(f"size {size!r} is unknown; use {', '.join(get_args(Size))}")
    if not 0 <= drawn <= 1:
        raise UsageError(f"a share of {drawn} drawn images: give 0 … 1")
    given: dict[str, Any] = {"batch": batch, "rate": rate}
    recipe = DistillationRecipe.of_steps(steps, **{k: v for k, v in given.items() if v is not None})
    _check_free(output, overwrite=overwrite)
    partial = model_file.partial_path(output)
    if restart:
        model_file.remove(partial)
    network = _base.build(backbone, default_taps(backbone))
    source = load_weights(network, backbone, weights, progress=show)
    side = 2 * recipe.scene
    series = OtherImages(
        images,
        (side, side),
        seed=seed,
        progress=show,
        use="images to learn from",
        enlarge=False,
        drawn=drawn,
    )
    if recipe.schedule == "one_cycle":
        show.say(
            f"a short run of {recipe.steps} steps: small cuts, a rate that rises to {recipe.rate:g} and falls"
        )
    fingerprint = {
        "size": size,
        "backbone": backbone,
        "weights": source.sha256,
        "recipe": asdict(recipe),
        "seed": seed,
        "images": series.identity(),
        "edgead": created_by(),
    }
    teacher, history = distil(
        cast("Size", size),
        Target(network),
        series,
        recipe=recipe,
        seed=seed,
        state=ResumeState(partial, fingerprint),
        progress=show,
    )
    loss = history[-1]["loss"]
    metadata = {
        "kind": "EfficientAD teacher",
        "created_by": created_by(),
        "size": size,
        "backbone": backbone,
        "backbone_sha256": source.sha256,
        "images": str(series.identity()),
        "recipe": str(asdict(recipe)),
        "seed": str(seed),
        "loss": f"{loss:.6f}",
    }
    replace_file(
        output, save({key: value.contiguous() for key, value in teacher.state_dict().items()}, metadata)
    )
    model_file.remove(partial)
    return DistillResult(output, loss, time.monotonic() - started)


def _check_free(output: Path, *, overwrite: bool) -> None:
    """Make sure that the file can be put there, before hours are spent on it."""
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: the teacher is a safetensors file; call it NAME.safetensors")
    if output.exists() and not (overwrite and output.is_file()):
        raise OutputError(f"{output} exists; choose another name or ask to overwrite it")
    if not output.parent.is_dir():
        raise OutputError(
            f"{output} cannot be written: the folder {output.parent} does not exist; make it first"
        )
