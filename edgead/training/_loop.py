"""What trainings by steps share: enough images, rates, the loop with its saved states, items drawn ahead."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from edgead.errors import DatasetError, InputError
from edgead.progress import Progress
from edgead.training._muon import AnyOptimiser

_Item = TypeVar("_Item")

Schedule = Literal["paper", "one_cycle"]

_WARM_UP = 0.1


def check_enough(detector: str, count: int, held_out: int, least: int) -> None:
    """Make sure that there are images to train on.

    Raises:
        DatasetError: fewer than `least`.
    """
    if count < least:
        raise DatasetError(
            f"{count} good images to train on, {held_out} are held out; {detector} needs at least {least} to "
            "train on: add good images"
        )


def one_cycle(step: int, steps: int) -> float:
    """Share of the highest rate in `step`, from 0: rises for a tenth of `steps`, then falls as a cosine."""
    rise = max(1, round(_WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


class Falling(Protocol):
    """A recipe whose rate falls, see `set_rate`."""

    @property
    def steps(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def drop_at(self) -> float: ...


def set_rate(optimiser: AnyOptimiser, recipe: Falling, step: int) -> None:
    """Give all parameters the rate of step `step`, which counts from 0, as the recipe's schedule has it."""
    if recipe.schedule == "paper":
        factor = 0.1 if step >= int(recipe.drop_at * recipe.steps) else 1.0
    else:
        factor = one_cycle(step, recipe.steps)
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate * factor


class Steps:
    """How far a training is, and what its losses were.

    Attributes:
        done: optimiser steps so far.
        history: mean losses between two saved states.
    """

    def __init__(self) -> None:
        self.done = 0
        self.history: list[dict[str, float]] = []

    def descend(self, losses: Tensor, names: Sequence[str], optimiser: AnyOptimiser) -> list[float]:
        """One step of `optimiser` down the sum of `losses`, which are called `names`; returns their values.

        Raises:
            InputError: one is no finite number; nothing was changed.
        """
        values: list[float] = losses.detach().double().tolist()
        for name, value in zip(names, values, strict=True):
            if not math.isfinite(value):
                raise InputError(
                    f"training diverged: the loss '{name}' became {value} in step {self.done + 1}; the last "
                    "saved state is kept; look for odd images among the good ones, or train with another seed"
                )
        optimiser.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return values

    def go_on(
        self,
        step: Callable[[], Sequence[float]],
        names: Sequence[str],
        *,
        until: int,
        save_every: int,
        save: Callable[[], None],
        progress: Progress,
        task: str = "training",
    ) -> None:
        """Take steps until `until` of them are done.

        Args:
            step: one optimiser step; returns the losses called `names`.
            names: of the losses.
            until: steps in all.
            save_every: steps between two calls of `save`; it is also called after the last one.
            save: keeps the state.
            progress: gets a bar.
            task: name of the bar.
        """
        sums, count = torch.zeros(len(names), dtype=torch.float64), 0
        with progress.task(task, until - self.done) as bar:
            while self.done < until:
                losses = step()
                sums, count = sums + torch.tensor(losses, dtype=torch.float64), count + 1
                self.done += 1
                bar.advance(loss=sum(losses))
                if self.done % save_every == 0 or self.done == until:
                    means = (sums / count).tolist()
                    self.history.append({"step": self.done, **dict(zip(names, means, strict=True))})
                    save()
                    sums, count = torch.zeros_like(sums), 0


def drawn_ahead(draw: Callable[[int], _Item], batch: int, first: int) -> Generator[list[_Item], None, None]:
    """The items of step `first` and of those behind it, each step's drawn by threads beside the one before.

    Args:
        draw: item `number` of the training, which depends on that number only.
        batch: items per step.
        first: step to begin with.

    Closing it waits for the threads.
    """
    with ThreadPoolExecutor() as pool:

        def begin(step: int) -> list[Future[_Item]]:
            return [pool.submit(draw, number) for number in range(step * batch, (step + 1) * batch)]

        ready = begin(first)
        for step in itertools.count(first + 1):
            drawn, ready = ready, begin(step)
            yield [item.result() for item in drawn]
