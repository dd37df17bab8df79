"""What every stage shares: the schedule, saving and going on, and the record that the curves are drawn from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vocabulary import OUT

__all__ = ["train"]

SAVE_EVERY_S = 120.0
SHOW_EVERY = 25


def train(
    name: str,
    module: nn.Module,
    loss_of: Callable[[int], dict[str, Tensor]],
    *,
    steps: int,
    rate: float,
    extra: nn.Module | None = None,
    slow: Callable[[str], float] = lambda _: 1.0,
    check: Callable[[], dict[str, float]] | None = None,
    check_every: int = 500,
    warm_up: int = 200,
    until: int | None = None,
) -> None:
    """Train ``module`` (and ``extra``, heads that are thrown away) for ``steps``; goes on where it was stopped.

    ``loss_of(step)`` draws a batch and returns its losses; their sum is minimised. ``slow(name)`` scales the learning
    rate of a parameter; 0 freezes it. Weights go to ``out/nano/NAME.pt``, the record to ``out/nano/NAME.jsonl``.
    ``until``: stop there, on the way; what is reached goes to ``out/nano/NAME-STEP.pt`` as well.
    """
    both = nn.ModuleDict({"module": module} | ({"extra": extra} if extra else {}))
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for path, parameter in both.named_parameters():
        factor = slow(path.removeprefix("module."))
        if parameter.requires_grad and factor:
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": p, "factor": f, "weight_decay": 0.02 if decays else 0.0} for (f, decays), p in groups.items()],
        betas=(0.9, 0.98),
    )
    parameters = [p for group in groups.values() for p in group]
    file = OUT / f"{name}.pt"
    step = 0
    if file.exists():
        saved = torch.load(file, weights_only=True)
        module.load_state_dict(saved["model"])
        if saved["step"] < steps:
            if extra:
                extra.load_state_dict(saved["extra"])
            optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    with (OUT / f"{name}.jsonl").open("a") as record:
        last_saved = time.monotonic()
        means: dict[str, float] = {}
        begun = time.monotonic()
        while step < steps:
            share = step / steps
            scale = min((step + 1) / warm_up, 1) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
            for group in optimizer.param_groups:
                group["lr"] = rate * scale * group["factor"]
            both.train()
            losses = loss_of(step)
            optimizer.zero_grad(set_to_none=True)
            sum(losses.values()).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            for key, loss in losses.items():
                means[key] = means.get(key, 0.0) + loss.item() / SHOW_EVERY
            if step % SHOW_EVERY == 0:
                line: dict[str, Any] = {
                    "step": step,
                    "seconds_a_step": (time.monotonic() - begun) / SHOW_EVERY,
                    **means,
                }
                if check and step % check_every == 0:
                    both.eval()
                    line |= check()
                record.write(json.dumps({k: round(v, 4) for k, v in line.items()}) + "\n")
                record.flush()
                means, begun = {}, time.monotonic()
            if time.monotonic() - last_saved > SAVE_EVERY_S or step == steps:
                _save(file, module, extra, optimizer, step)
                last_saved = time.monotonic()
            if step == until:
                for path in (file, OUT / f"{name}-{step}.pt"):
                    _save(path, module, extra, optimizer, step)
                break
    module.eval()


def _save(file: Path, module: nn.Module, extra: nn.Module | None, optimizer: torch.optim.Optimizer, step: int) -> None:
    state = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    if extra:
        state["extra"] = extra.state_dict()
    torch.save(state, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)


def mixed() -> torch.autocast:
    """Products in bfloat16, which a CPU with AVX512-BF16 computes three times as fast; all else in float32."""
    return torch.autocast("cpu", torch.bfloat16)


def batches_by_length(lengths: list[int], size: int, order: Iterator[int]) -> Iterator[list[int]]:
    """Endless batches of ``size`` indices of about the same length, of indices drawn from ``order``."""
    import random

    shuffler = random.Random(0)
    while True:
        drawn = sorted((next(order) for _ in range(size * 8)), key=lengths.__getitem__)
        chunks = [drawn[i : i + size] for i in range(0, len(drawn), size)]
        shuffler.shuffle(chunks)
        yield from chunks
