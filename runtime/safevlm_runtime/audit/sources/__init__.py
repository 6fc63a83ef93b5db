"""Where the images of an audit come from: folders, JSON lines, Parquet, tar shards, saved data sets."""

from safevlm_runtime.audit.sources.opening import open_source
from safevlm_runtime.audit.sources.source import (
    ARCHIVE_LINKS,
    FOLDER_LINKS,
    OTHER_FILES,
    Described,
    Kind,
    Source,
)

__all__ = ["ARCHIVE_LINKS", "FOLDER_LINKS", "OTHER_FILES", "Described", "Kind", "Source", "open_source"]
