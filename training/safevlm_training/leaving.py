"""The last thing that a process of several does."""

from __future__ import annotations

import torch.distributed as processes


def leave() -> None:
    """Ends the talk with the other processes, if there are any: its threads would abort a process that just ends."""
    if processes.is_available() and processes.is_initialized():
        processes.destroy_process_group()
