"""Which words of an operator may reach a language model, or stand in a conversation that it reads later.

Prompts, hints and refusals are written once by whoever runs the gate. What could end a turn, begin another one or
stand for an image in some model's chat template is refused when the policy is read: angle brackets (`<|im_start|>`,
`</s>`, `<image>`, `<start_of_turn>`), a word in square brackets (`[INST]`, `[/IMG]`), names of roles before a colon,
`###`, and characters that cannot be seen (controls, line breaks, marks of direction).
"""

from __future__ import annotations

import re
import unicodedata

MAX_WORDS = 2000

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # spelling in Persian and in many scripts of India needs them
_CONTROL = re.compile(r"[<>]|\[\s*/?\s*[a-z_]+\s*\]|#{3,}|\b(?:user|assistant|system|human|model)\s*:", re.IGNORECASE)
_FIELD = re.compile(r"\{(category|subject|hint)\}")


def check_words(text: str, *, where: str) -> None:
    """Refuses words that are empty, too long, or could be taken for more than words.

    Args:
        text: One line.
        where: What the words are, for the message.

    Raises:
        ValueError: They are refused; the message says why.
    """
    if not text.strip() or len(text) > MAX_WORDS:
        raise ValueError(f"{where} has {len(text)} characters; write 1 to {MAX_WORDS}")
    for character in text:
        if unicodedata.category(character) in _UNSEEN and character not in _JOINERS:
            raise ValueError(
                f"{where} holds U+{ord(character):04X}, which cannot be seen; write plain text in one line"
            )
    # Some tokenizers fold wide and compatible characters: they must be no way round.
    for read in (text, unicodedata.normalize("NFKC", text)):
        found = _CONTROL.search(read)
        if found:
            raise ValueError(
                f"{where} holds {found.group()!r}, which a chat template may take for a mark of its own; leave it out"
            )


def check_template(text: str, *, where: str) -> None:
    """Refuses a template that holds other braces than {category}, {subject} and {hint}, or refused words.

    Raises:
        ValueError: It is refused.
    """
    check_words(text, where=where)
    check_braces(_FIELD.sub("", text), where=where)


def check_braces(text: str, *, where: str) -> None:
    """Refuses braces.

    Raises:
        ValueError: There are some.
    """
    folded = unicodedata.normalize("NFKC", text)
    if "{" in folded or "}" in folded:
        raise ValueError(f"{where} holds a brace; the fields of a prompt are {{category}}, {{subject}} and {{hint}}")


def filled(template: str, *, category: str, subject: str, hint: str) -> str:
    """The template with its fields filled in once: what a value holds is never filled in again."""
    values = {"category": category, "subject": subject, "hint": hint}
    return _FIELD.sub(lambda field: values[field.group(1)], template)
