"""A request to the proxy is refused, or cannot be served; each kind has the HTTP status of its answer."""

from __future__ import annotations

from typing import ClassVar

from .base import SafeVLMError


class RequestError(SafeVLMError):
    """A request is refused before anything of it went on.

    Attributes:
        status: Of the HTTP answer.
        param: JSON path of what is wrong, as `messages[0].content[1].type`; None where there is none.
    """

    code = "request_invalid"
    status: ClassVar[int] = 400

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BadRequest(RequestError):
    """The body is no strict JSON, or a value in it is not of the kind that its field takes."""

    code = "bad_request"


class UnknownField(RequestError):
    """A field that is not on the allow-list."""

    code = "unknown_field"


class UnsupportedPart(RequestError):
    """A content part, role, item or tool of a type that is not on the allow-list."""

    code = "unsupported_part"


class TooManyImages(RequestError):
    """The request has more images than the limit."""

    code = "too_many_images"


class ImageEncoding(RequestError):
    """A data URL or its base64 has more than one reading."""

    code = "image_encoding"


class ImageTypeMismatch(RequestError):
    """The image is not of the type that its data URL or Content-Type states."""

    code = "image_type_mismatch"


class EndpointUnknown(RequestError):
    """No such path; nothing unknown is passed on."""

    code = "endpoint_unknown"
    status = 404


class MethodNotAllowed(RequestError):
    """The path exists and does not take this method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestTimeout(RequestError):
    """The client took longer to send its request than the limit."""

    code = "request_timeout"
    status = 408


class BodyTooLarge(RequestError):
    """The request body has more bytes than the limit."""

    code = "body_too_large"
    status = 413


class BodyEncoding(RequestError):
    """The body is of a media type that the endpoint does not take, or is compressed."""

    code = "body_encoding"
    status = 415


class GateFailed(RequestError):
    """The gate failed on an image, and the form of the answer has no place to say so."""

    code = "gate_failed"
    status = 422


class Overloaded(RequestError):
    """Too much work waits already; the same request may succeed later.

    Attributes:
        retry_after: Whole seconds after which it may.
    """

    code = "overloaded"
    status = 429

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UpstreamFailed(RequestError):
    """The upstream's answer broke off or is no answer."""

    code = "upstream_failed"
    status = 502


class UpstreamTimeout(RequestError):
    """The upstream began no answer in time."""

    code = "upstream_timeout"
    status = 504


class EngineUnavailable(RequestError):
    """The gate is not ready, or the upstream cannot be reached."""

    code = "engine_unavailable"
    status = 503


class RemoteImageError(RequestError):
    """An image given by its address is not fetched."""

    code = "remote_image_failed"


class RemoteImageForbidden(RemoteImageError):
    """Images are taken as data URLs only, or the URL is not a plain https URL."""

    code = "remote_image_forbidden"


class RemoteImageHost(RemoteImageError):
    """The host is not on the operator's list."""

    code = "remote_image_host"


class RemoteImageAddress(RemoteImageError):
    """The host's name leads to an address that is not public."""

    code = "remote_image_address"


class ListenError(SafeVLMError):
    """The server cannot listen where it was told to."""

    code = "listen_failed"
