"""Every random choice of a training has a named seed of its own, derived from one number."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, name: str, step: int = 0) -> int:
    """A 63-bit seed for the choice `name` at `step`: the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{name}:{step}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, name: str, step: int = 0) -> torch.Generator:
    """A random generator for the choice `name` at `step`."""
    return torch.Generator().manual_seed(derive(seed, name, step))


def place(seed: int, number: int, count: int) -> int:
    """Which of `count` images is the `number`th that a training sees: a new order in every epoch."""
    epoch, at = divmod(number, count)
    return int(torch.randperm(count, generator=generator(seed, "order", epoch))[at])
