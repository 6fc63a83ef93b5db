"""How good a checkpoint is on labelled images: figures with intervals, as JSON and as a page."""
