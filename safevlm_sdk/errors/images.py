"""An image cannot be judged."""

from __future__ import annotations

from .base import SafeVLMError


class ImageError(SafeVLMError):
    """An image cannot be judged."""

    code = "image_invalid"


class ImageNotFound(ImageError):
    """No file lies at the path."""

    code = "image_not_found"


class ImageNotAFile(ImageError):
    """The path is a directory, a device, a pipe or a socket."""

    code = "image_not_a_file"


class ImageUnreadable(ImageError):
    """The operating system refused to read the file."""

    code = "image_unreadable"


class ImageEmpty(ImageError):
    """The file or the bytes are empty."""

    code = "image_empty"


class ImageTooLarge(ImageError):
    """The encoded image has more bytes than the limit.

    Attributes:
        param: JSON path of an image in a request to the proxy; None elsewhere.
    """

    code = "image_too_large"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ImageFormat(ImageError):
    """The bytes are not of a format on the allow-list."""

    code = "image_format"


class ImageDimensions(ImageError):
    """A side or the aspect ratio is out of bounds."""

    code = "image_dimensions"


class ImageTooManyPixels(ImageError):
    """The pixels of one frame, or of all frames together, exceed the limit."""

    code = "image_too_many_pixels"


class ImageTooManyViews(ImageError):
    """Covering the image takes more tiles than the bundle's view plan allows."""

    code = "image_too_many_views"


class ImageMultiFrame(ImageError):
    """The image has more frames than the policy judges."""

    code = "image_multi_frame"


class ImageMode(ImageError):
    """The pixel mode has no unambiguous reading as 8-bit RGB."""

    code = "image_mode"


class ImageCorrupt(ImageError):
    """The file is truncated or damaged."""

    code = "image_corrupt"


class ImageInput(ImageError):
    """What was passed is no image: a wrong Python type, array shape or dtype."""

    code = "image_input"


class DecodeTimeout(ImageError):
    """Decoding took longer than the limit and was stopped."""

    code = "decode_timeout"


class DecoderDied(ImageError):
    """The decoding child process died, of memory or of a crash."""

    code = "decoder_died"
