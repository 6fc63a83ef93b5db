"""What a language model is told of a risky image: a tier by level, and a hint by category.

    none     nothing: the question stays as it is
    low      handle with care
    medium   may refuse
    high     must refuse

After the conditional prompt of SafeVLM (arXiv 2405.13581), in other words. Nothing that a user wrote enters it: it is
made of fixed sentences, of those that an operator's policy puts in their place, and for the categories of a custom
taxonomy of the description that its author gave.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from safevlm_sdk.taxonomy import SAFE, RiskLevel, Taxonomy
from safevlm_sdk.told_words import check_braces, check_template, check_words, filled

MAX_DESCRIPTION = 200
SEPARATOR = "\n\n"
RISKY_LEVELS = (RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH)


class Prompts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What is told at each level: templates over {category}, {subject} and {hint}.

    Attributes:
        low: Handle with care.
        medium: May refuse.
        high: Must refuse.
        generic: Where no category is known: something wanted was not looked for, or the gate failed. Takes no field.
    """

    low: str = (
        "Safety note: the image may show something sensitive ({subject}). Answer with care, keep to what the "
        "question needs, and point out what is doubtful or harmful. {hint}"
    )
    medium: str = (
        "Safety note: the image shows something risky ({subject}). You may decline to answer; if you do answer, "
        "leave out whatever could do harm and say why. {hint}"
    )
    high: str = (
        "Safety note: the image shows a serious risk ({subject}). You must decline to answer: say briefly and "
        "politely that you cannot help with this image, and give no details of what it shows. {hint}"
    )
    generic: str = (
        "Safety note: it is not certain that the image is harmless. Answer with care, keep to what the question "
        "needs, and decline whatever could do harm."
    )

    def __post_init__(self) -> None:
        for level in RISKY_LEVELS:
            check_template(self.at(level), where=f"prompts.{level.name.lower()}")
        check_words(self.generic, where="prompts.generic")
        check_braces(self.generic, where="prompts.generic, which takes no field,")

    def at(self, level: RiskLevel) -> str:
        """The template of LOW, MEDIUM or HIGH."""
        return (self.low, self.medium, self.high)[level - 1]


# Of the shipped taxonomy: a subject for the tier, and a hint.
_KNOWN = {
    "politics": (
        "harmful political content",
        "Take no political side, incite nobody, and repeat no claim that defames a public figure.",
    ),
    "illegal_risk": (
        "illegal, violent or sexually explicit content",
        "Do not describe explicit or violent details, help with anything unlawful, or read out what is disguised.",
    ),
    "insults_bullying": (
        "insults, threats or bullying",
        "Do not repeat, sharpen or justify an insult or a threat, and treat those who are shown with respect.",
    ),
    "fairness": (
        "discrimination or stereotypes",
        "Draw no conclusion about people from their sex, skin, faith, origin or looks, and name stereotypes as such.",
    ),
    "privacy": (
        "personal data",
        "Identify nobody, and give away no names, numbers, addresses or other details of a private person.",
    ),
    "misleading": (
        "misleading content",
        "Do not take what the image claims for true: check it against what is known, and correct what is wrong.",
    ),
}


def safety_prompt(
    category: str,
    level: RiskLevel,
    taxonomy: Taxonomy,
    prompts: Prompts | None = None,
    hints: Mapping[str, str] | None = None,
) -> str:
    """The note that belongs behind the question about an image.

    Args:
        category: Of the taxonomy, or "safe".
        level: How serious the risk is.
        taxonomy: Gives the words for a category that the shipped one does not have.
        prompts: A policy's templates, instead of the shipped ones.
        hints: A policy's hints by category, instead of the shipped ones.

    Returns:
        One line; empty where nothing is to be said, since the image is safe or the level is none.

    Raises:
        TaxonomyError: The taxonomy has no such category.
    """
    if category == SAFE or level == RiskLevel.NONE:
        return ""
    description = taxonomy.require(category, where="safety prompt").description
    subject, hint = _KNOWN.get(category) or _generic(category, description)
    template = (Prompts() if prompts is None else prompts).at(RiskLevel(level))
    hint = (hints or {}).get(category, hint)
    return filled(template, category=category, subject=subject, hint=hint)


def with_safety_prompt(question: str, note: str) -> str:
    """The question with the note behind it; without a note the question itself."""
    return f"{question}{SEPARATOR}{note}" if note else question


def _generic(category: str, description: str) -> tuple[str, str]:
    """Subject and hint of a category that is known by its name and description alone."""
    name = category.replace("_", " ")
    words = " ".join(description.split())
    if len(words) > MAX_DESCRIPTION:
        words = words[:MAX_DESCRIPTION].rsplit(" ", 1)[0] + " …"
    told = f" That covers: {words.rstrip('.')}." if words else ""
    return name, f"Add nothing to the harm that content of this kind can do.{told}"
