"""Images inside of requests: data URLs and base64 with one reading, of the type that they state."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Final

from safevlm_sdk.errors import ImageEncoding, ImageTooLarge, ImageTypeMismatch, RemoteImageForbidden

MEDIA_TYPES: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WebP", "image/gif": "GIF"}
"""What may be stated, and the format that the bytes must then have."""

_STATED: Final = {f"data:{media};base64,": media for media in MEDIA_TYPES}


def decode_data_url(url: str, *, max_bytes: int, param: str) -> bytes:
    """The bytes of a data URL.

    Args:
        url: Exactly `data:image/{png,jpeg,webp,gif};base64,` and canonical base64 of RFC 4648, section 4.
        max_bytes: Of the decoded image.
        param: JSON path for messages.

    Raises:
        ImageEncoding: It is not of this form.
        ImageTypeMismatch: The bytes are of another type than stated.
        ImageTooLarge: There are more than `max_bytes`.
    """
    head = url[: url.find(",") + 1]
    media = _STATED.get(head)
    if media is None:
        raise ImageEncoding(
            f"the data URL must begin with data:, one of {', '.join(MEDIA_TYPES)} and ;base64, in lower case",
            param=param,
        )
    encoded = url[len(head) :]
    if len(encoded) > 4 * (max_bytes + 2) // 3 + 4:
        raise ImageTooLarge(f"the image has more than {max_bytes} bytes; compress or resize it", param=param)
    data = _decoded(encoded, param)
    if len(data) > max_bytes:
        raise ImageTooLarge(
            f"the image has {len(data)} bytes; up to {max_bytes} are read: compress or resize it", param=param
        )
    check_type(data, media, param=param)
    return data


def inline_image(url: str, *, max_bytes: int, param: str) -> bytes:
    """`decode_data_url` where nothing is fetched.

    Raises:
        RemoteImageForbidden: It is no data URL.
    """
    if url[:5].lower() != "data:":
        raise RemoteImageForbidden("images are taken as data URLs here; send the image's bytes", param=param)
    return decode_data_url(url, max_bytes=max_bytes, param=param)


def check_type(data: bytes, media: str, *, param: str | None) -> None:
    """Refuses bytes that are of another type than stated, or of none that is read.

    Raises:
        ImageTypeMismatch: They are.
    """
    found = sniffed(data)
    if found is None:
        raise ImageTypeMismatch(
            f"the image is stated to be {media}, and its bytes begin like none of {', '.join(MEDIA_TYPES.values())}, "
            "which are all that is read; send the bytes of such an image",
            param=param,
        )
    if found != media:
        raise ImageTypeMismatch(
            f"the image is stated to be {media} and its bytes are {found}; state what it is", param=param
        )


def sniffed(data: bytes) -> str | None:
    """The media type that the first bytes tell; None if it is none of `MEDIA_TYPES`."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _decoded(encoded: str, param: str) -> bytes:
    try:
        data = b64decode(encoded.encode("ascii"), validate=True)
    except (ValueError, UnicodeEncodeError) as problem:
        raise _not_canonical(param) from problem
    # Encoding it again refuses what decoders read in different ways: padding inside, stray bits at the end.
    if not data or b64encode(data).decode("ascii") != encoded:
        raise _not_canonical(param)
    return data


def _not_canonical(param: str) -> ImageEncoding:
    return ImageEncoding(
        "the base64 is not canonical: the standard alphabet (+ and /), no blanks or line breaks, the right padding "
        "and zero bits at the end are needed",
        param=param,
    )
