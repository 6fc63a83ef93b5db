"""The part of a report that says what corruptions and attacks do to the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safevlm_training.evaluation.evaluate import Evaluation
from safevlm_training.evaluation.page import Section
from safevlm_training.progress import Progress
from safevlm_training.robustness.measure import measure_robustness
from safevlm_training.robustness.plan import AttackPlan, RobustnessPlan
from safevlm_training.robustness.results import RobustnessResult
from safevlm_training.robustness.section import console_lines, html_section


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardened:
    """What was found, as a section for the report and as lines for the console, too."""

    result: RobustnessResult
    section: Section
    lines: tuple[str, ...]


def harden(
    checkpoint: Path,
    evaluation: Evaluation,
    *,
    corrupted: int,
    attacked: int,
    transfer_to: Sequence[Path] = (),
    progress: bool = True,
) -> Hardened:
    """Measures robustness on images of an evaluation.

    Args:
        checkpoint: The evaluated one.
        evaluation: Whose images are corrupted and attacked.
        corrupted: Risky images, and safe ones, that are corrupted, at most.
        attacked: Risky images, and safe ones, that are attacked; 0 for no attack.
        transfer_to: Further checkpoints that judge the attacked images.
        progress: Show bars on standard error when it is a terminal.

    Raises:
        CheckpointError: A further checkpoint is damaged or covers other risks.
        DataError: There is no risky or no safe image.
    """
    plan = RobustnessPlan(images=corrupted, attack=AttackPlan(images=attacked) if attacked else None)
    examples = [item.example for item in evaluation.sample.items]
    result = measure_robustness(checkpoint, examples, plan=plan, transfer_to=transfer_to, progress=Progress(progress))
    section = Section(key="robustness", html=html_section(result), figures=result.as_json())
    return Hardened(result=result, section=section, lines=console_lines(result))
