"""Videos: which frames are judged, and how untrusted files are decoded into them."""

from safevlm_runtime.judging.video.limits import VideoLimits
from safevlm_runtime.judging.video.reader import OpenedVideo, VideoFrame, VideoSource, is_video, open_video
from safevlm_runtime.judging.video.sampling import Sampling

__all__ = ["OpenedVideo", "Sampling", "VideoFrame", "VideoLimits", "VideoSource", "is_video", "open_video"]
