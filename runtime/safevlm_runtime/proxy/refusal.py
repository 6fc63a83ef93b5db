"""What is answered in the place of the model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The answer to a request of which nothing goes on.

    Attributes:
        text: The policy's words.
        request_id: As in the decision log.
        error: The code of what failed, where the gate failed: then no risk was found.
    """

    text: str
    request_id: str
    error: str | None

    @property
    def told(self) -> dict[str, str | None]:
        """The field `safevlm` of the answer: what the headers say, for clients whose library hides these."""
        return {"action": "block", "error": self.error, "verdict": self.request_id}
