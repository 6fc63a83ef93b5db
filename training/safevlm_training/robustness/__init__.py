"""Robustness of a gate: what corruptions do to its decisions, and what an attacker with its weights can do."""

from safevlm_training.robustness.corruptions import CORRUPTIONS, Corruption, Step
from safevlm_training.robustness.measure import measure_robustness
from safevlm_training.robustness.plan import AttackPlan, RobustnessPlan
from safevlm_training.robustness.results import RobustnessResult
from safevlm_training.robustness.section import console_lines, html_section

__all__ = [
    "CORRUPTIONS",
    "AttackPlan",
    "Corruption",
    "RobustnessPlan",
    "RobustnessResult",
    "Step",
    "console_lines",
    "html_section",
    "measure_robustness",
]
