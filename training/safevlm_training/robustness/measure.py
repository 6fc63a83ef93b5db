"""Robustness of a checkpoint at its own thresholds: under corruptions, and under attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safevlm_sdk.errors import CheckpointError
from safevlm_training.data import Example
from safevlm_training.progress import Progress
from safevlm_training.robustness.gate import Gate, load_gate
from safevlm_training.robustness.pictures import Reader, check_labels, shuffled
from safevlm_training.robustness.plan import AttackPlan, RobustnessPlan
from safevlm_training.robustness.results import RobustnessResult, Transfer
from safevlm_training.robustness.under_attack import Attacked, judged_right, measure_attacks
from safevlm_training.robustness.under_corruption import Corrupted, measure_corruptions

CANDIDATES = 10  # images looked at for each one that is to be attacked, at most
Kinds = tuple[tuple[Example, ...], tuple[Example, ...]]


def measure_robustness(
    model_path: str | Path,
    examples: Sequence[Example],
    *,
    plan: RobustnessPlan | None = None,
    transfer_to: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> RobustnessResult:
    """Measures flags under corruptions, and how often attacks that know the weights succeed.

    Equal checkpoints, images and plans give equal results on one machine.

    Args:
        model_path: A calibrated checkpoint.
        examples: Risky and safe images that trained nothing.
        plan: What is measured; the default is bounded: about a quarter of an hour on one core for a small tower.
        transfer_to: Further checkpoints, of other seeds, that judge the attacked images.
        progress: Silent unless given.

    Raises:
        CheckpointError: A checkpoint is damaged or not calibrated, or covers other risks than the first.
        DataError: There is no risky or no safe image, or one has a category that the gate does not cover.
        OutputNotFinite: A model returned NaN or infinity.
    """
    plan, progress = plan or RobustnessPlan(), progress or Progress(False)
    gates = _load(model_path, transfer_to)
    gate = gates[0]
    check_labels(examples, gate.rule.labels)
    kinds = (shuffled(examples, risky=True, seed=plan.seed), shuffled(examples, risky=False, seed=plan.seed))
    reader = Reader(gate.model.config.raster_max_side)
    corrupted = _corrupt(gate, plan, kinds, reader, progress)
    attacked = Attacked(rows=((),) * len(gates), patch_images=0)
    if plan.attack is not None:
        attacked = _attack(gates, plan.attack, kinds, reader, seed=plan.seed, progress=progress)
    return RobustnessResult(
        checkpoint=gate.name,
        digest=gate.digest,
        thresholds=dict(gate.rule.thresholds),
        any_threshold=gate.rule.any_threshold,
        seed=plan.seed,
        risky=corrupted.risky,
        safe=corrupted.safe,
        corruptions=corrupted.rows,
        attack=plan.attack,
        attacks=attacked.rows[0],
        patch_images=attacked.patch_images,
        transfers=tuple(
            Transfer(name=other.name, digest=other.digest, rows=rows)
            for other, rows in zip(gates[1:], attacked.rows[1:], strict=True)
        ),
        skipped=reader.skipped,
    )


def _load(model_path: str | Path, transfer_to: Sequence[str | Path]) -> list[Gate]:
    gates = [load_gate(path) for path in (model_path, *transfer_to)]
    covered = set(gates[0].rule.covered)
    for path, gate in zip(transfer_to, gates[1:], strict=True):
        if set(gate.rule.covered) != covered:
            raise CheckpointError(
                f"{path}: covers {sorted(gate.rule.covered)}, but {model_path} covers {sorted(covered)}; attacks are "
                "transferred between checkpoints that cover the same risks, leave it out"
            )
    return gates


def _corrupt(gate: Gate, plan: RobustnessPlan, kinds: Kinds, reader: Reader, progress: Progress) -> Corrupted:
    risky, safe = (
        reader.read(progress.over(kind[: plan.images], f"corrupt {name} images"))
        for kind, name in zip(kinds, ("risky", "safe"), strict=True)
    )
    return measure_corruptions(gate, plan.corruptions, risky, safe)


def _attack(
    gates: Sequence[Gate], plan: AttackPlan, kinds: Kinds, reader: Reader, *, seed: int, progress: Progress
) -> Attacked:
    max_side = min(plan.max_side, gates[0].model.config.raster_max_side)
    progress.say(f"choose images to attack, of at most {max_side} pixels a side")
    wanted = (plan.images + plan.patch_images, plan.images)
    risky, safe = (
        judged_right(gates[0], reader.read(kind[: CANDIDATES * number]), wanted=number, max_side=max_side)
        for kind, number in zip(kinds, wanted, strict=True)
    )
    return measure_attacks(gates, plan, [*risky, *safe], seed=seed, progress=progress)
