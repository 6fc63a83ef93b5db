"""How a gate, and others that the attacker did not see, decide on attacked pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from safevlm_sdk.raster import capped, raster_digest
from safevlm_training.progress import Progress
from safevlm_training.robustness.attacks import pgd, random_signs
from safevlm_training.robustness.effects import Pixels
from safevlm_training.robustness.gate import Gate, Judgement
from safevlm_training.robustness.patch import grey_patch, train_patch, with_patch
from safevlm_training.robustness.pictures import Picture
from safevlm_training.robustness.plan import AttackPlan
from safevlm_training.robustness.rates import mean, rate_of
from safevlm_training.robustness.results import GREY, PATCH, PGD, SIGNS, AttackRow, Goal

Key = tuple[str, Goal, int | None]
Pairs = dict[Key, list[tuple[Judgement, Judgement]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """Rows per gate, the attacked one first, and how many pictures the patch was trained on."""

    rows: tuple[tuple[AttackRow, ...], ...]
    patch_images: int


def measure_attacks(
    gates: Sequence[Gate], plan: AttackPlan, pictures: Sequence[Picture], *, seed: int, progress: Progress
) -> Attacked:
    """Attacks the first gate, and has every gate judge what comes out.

    Args:
        gates: The attacked one first.
        plan: Attacks and their strength.
        pictures: Judged right by the first gate and shrunk to the plan's size, as `judged_right` gives them.
        seed: Of random starts.
        progress: Shows how far it is.
    """
    risky = [picture for picture in pictures if picture.risky]
    training = min(plan.patch_images, len(risky) // 3)
    held_out, trained_on = risky[: len(risky) - training], risky[len(risky) - training :]
    squares: dict[str, Pixels] = {}
    if trained_on:
        progress.say(f"train a universal patch on {training} images")
        views = [picture.pixels for picture in trained_on]
        patch = train_patch(gates[0], views, share=plan.patch_share, steps=plan.patch_steps, seed=seed)
        squares = {PATCH: patch, GREY: grey_patch()}
    found: list[Pairs] = [{key: [] for key in _keys(plan, squares)} for _ in gates]
    attacked = [*held_out[: plan.images], *(picture for picture in pictures if not picture.risky)]
    for picture in progress.over(attacked, "attack"):
        before = [gate.judge(picture.pixels) for gate in gates]
        for key, changed in _variants(gates[0], plan, picture, squares, seed):
            for gate, pairs, first in zip(gates, found, before, strict=True):
                if first.flagged == picture.risky:
                    pairs[key].append((first, gate.judge(changed)))
    return Attacked(
        rows=tuple(tuple(_row(*item) for item in pairs.items()) for pairs in found), patch_images=training
    )


def judged_right(gate: Gate, pictures: Iterable[Picture], *, wanted: int, max_side: int) -> list[Picture]:
    """The first `wanted` pictures that the gate judges right once they are shrunk to `max_side`."""
    right: list[Picture] = []
    for picture in pictures:
        small = capped(picture.pixels, max_side)
        if gate.judge(small).flagged == picture.risky:
            right.append(Picture(example=picture.example, pixels=small))
        if len(right) == wanted:
            break
    return right


def _keys(plan: AttackPlan, squares: dict[str, Pixels]) -> list[Key]:
    goals: tuple[Goal, ...] = ("allow", "flag")
    changes: list[Key] = [(kind, goal, e) for goal in goals for kind in (PGD, SIGNS) for e in plan.epsilons]
    return changes + [(name, "allow", None) for name in squares]


def _variants(
    gate: Gate, plan: AttackPlan, picture: Picture, squares: dict[str, Pixels], seed: int
) -> Iterator[tuple[Key, Pixels]]:
    pixels, flag = picture.pixels, not picture.risky
    goal: Goal = "flag" if flag else "allow"
    for epsilon in plan.epsilons:
        own = _seed(f"{seed}:{raster_digest(pixels)}:{epsilon}")
        attacked = pgd(gate, pixels, epsilon=epsilon, steps=plan.steps, flag=flag, seed=own)
        yield (PGD, goal, epsilon), attacked
        yield (SIGNS, goal, epsilon), random_signs(pixels, epsilon=epsilon, seed=own)
    if picture.risky:
        for name, square in squares.items():
            yield (name, goal, None), with_patch(pixels, square, plan.patch_share)


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _row(key: Key, pairs: Sequence[tuple[Judgement, Judgement]]) -> AttackRow:
    attack, goal, epsilon = key
    return AttackRow(
        attack=attack,
        goal=goal,
        epsilon=epsilon,
        success=rate_of(before.flagged != after.flagged for before, after in pairs),
        score_before=mean(before.score for before, _ in pairs),
        score_after=mean(after.score for _, after in pairs),
    )
