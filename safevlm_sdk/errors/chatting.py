"""Between an application and a language model: conversations that are refused, and engines that do not answer."""

from __future__ import annotations

from .base import SafeVLMError


class ConversationError(SafeVLMError):
    """A conversation holds something that is not known here, and nothing of it is passed on."""

    code = "conversation_invalid"


class ConversationTooManyImages(ConversationError):
    """A request holds more images than are judged for one."""

    code = "conversation_too_many_images"


class ConversationRemoteImage(ConversationError):
    """A conversation names an image by an address, and nothing is fetched."""

    code = "conversation_remote_image"


class ImageNotJudged(ConversationError):
    """An engine was given an image that no gate has judged."""

    code = "image_not_judged"


class ChatEngineUnknown(SafeVLMError):
    """No installed package brings an engine of this name, or the one that is named cannot be loaded."""

    code = "chat_engine_unknown"


class ChatEngineError(SafeVLMError):
    """A language model's engine gave no usable answer."""

    code = "chat_engine_failed"


class ChatEngineUnreachable(ChatEngineError):
    """There is no connection to the engine, or it broke."""

    code = "chat_engine_unreachable"


class ChatEngineTimeout(ChatEngineError):
    """The engine did not answer in time."""

    code = "chat_engine_timeout"


class ChatEngineRefused(ChatEngineError):
    """The engine refuses the request: asking again gives the same."""

    code = "chat_engine_refused"
