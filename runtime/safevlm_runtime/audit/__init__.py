"""Judging whole data sets: every item exactly once, however often the run is interrupted."""

from safevlm_runtime.audit.item import Item
from safevlm_runtime.audit.journal import VERDICTS
from safevlm_runtime.audit.judge import Judge, JudgeSettings
from safevlm_runtime.audit.local_pool import LocalPool
from safevlm_runtime.audit.pool import Pool
from safevlm_runtime.audit.record import RECORD, AuditRecord, read_record
from safevlm_runtime.audit.row import Row, row_of
from safevlm_runtime.audit.run import Watching, run_audit
from safevlm_runtime.audit.sources import Source, open_source
from safevlm_runtime.audit.stopping import StopSignals

__all__ = [
    "RECORD",
    "VERDICTS",
    "AuditRecord",
    "Item",
    "Judge",
    "JudgeSettings",
    "LocalPool",
    "Pool",
    "Row",
    "Source",
    "StopSignals",
    "Watching",
    "open_source",
    "read_record",
    "row_of",
    "run_audit",
]
