"""Temperature and thresholds with guarantees that hold for finite samples; needs scipy (`safevlm-sdk[calibrate]`).

    images -> Sample per image (logits of every view, group) -> steps of a nested family of thresholds
           -> one number per group -> the step that a flag bound or a miss bound allows -> Result, page, record

Only `bounds` and `temperature` import scipy; nothing here runs a graph.
"""
