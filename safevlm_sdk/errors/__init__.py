"""Every error that SafeVLM SDK raises on purpose.

    SafeVLMError
    ├── ImageError             an image cannot be judged
    │   ├── ImageNotFound          image_not_found
    │   ├── ImageNotAFile          image_not_a_file
    │   ├── ImageUnreadable        image_unreadable
    │   ├── ImageEmpty             image_empty
    │   ├── ImageTooLarge          image_too_large
    │   ├── ImageFormat            image_format
    │   ├── ImageDimensions        image_dimensions
    │   ├── ImageTooManyPixels     image_too_many_pixels
    │   ├── ImageTooManyViews      image_too_many_views
    │   ├── ImageMultiFrame        image_multi_frame
    │   ├── ImageMode              image_mode
    │   ├── ImageCorrupt           image_corrupt
    │   ├── ImageInput             image_input
    │   ├── DecodeTimeout          decode_timeout
    │   └── DecoderDied            decoder_died
    ├── VideoError             video_invalid
    │   ├── VideoFormat            video_format
    │   ├── VideoTooLong           video_too_long
    │   └── VideoCorrupt           video_corrupt
    ├── BundleError            a bundle is refused
    │   ├── BundleMissing          bundle_missing
    │   ├── BundleLayout           bundle_layout
    │   ├── BundleTampered         bundle_tampered
    │   ├── BundleDigest           bundle_digest
    │   ├── BundleSignature        bundle_signature
    │   │   ├── BundleUnsigned         bundle_unsigned
    │   │   └── BundleSigner           bundle_signer
    │   ├── BundleGraph            bundle_graph
    │   ├── BundleEngine           bundle_engine
    │   │   ├── EngineUntrusted        engine_untrusted
    │   │   ├── EngineMismatch         engine_mismatch
    │   │   └── EngineUnreadable       engine_unreadable
    │   ├── BundleSelfTest         bundle_self_test
    │   ├── BundleUncalibrated     bundle_uncalibrated
    │   └── ManifestError          manifest_invalid
    ├── PolicyError            policy_invalid
    │   └── PolicyUncovered        policy_uncovered
    ├── EngineError            engine_failed
    │   ├── EngineTimeout          engine_timeout
    │   ├── EngineBuildError       engine_build_failed
    │   ├── OutputShape            output_shape
    │   └── OutputNotFinite        output_not_finite
    ├── ProviderError          provider_mismatch
    │   └── DeviceMissing          device_missing
    ├── ObserverFailed         observer_failed
    ├── BenchmarkError         benchmark_failed
    ├── OptionError            option_invalid
    ├── FeaturesMismatch       features_mismatch
    ├── MissingExtra           missing_extra
    ├── TaxonomyError          taxonomy_invalid
    ├── RecipeError            recipe_invalid
    ├── DataError              data_invalid
    ├── CheckpointError        checkpoint_invalid
    ├── TrainingError          training_failed
    ├── EndpointError          endpoint_failed
    │   ├── RequestRefused         request_refused
    │   └── EndpointGone           endpoint_gone
    ├── ConversationError      conversation_invalid
    │   ├── ConversationTooManyImages  conversation_too_many_images
    │   ├── ConversationRemoteImage    conversation_remote_image
    │   └── ImageNotJudged         image_not_judged
    ├── ChatEngineUnknown      chat_engine_unknown
    ├── ChatEngineError        chat_engine_failed
    │   ├── ChatEngineUnreachable  chat_engine_unreachable
    │   ├── ChatEngineTimeout      chat_engine_timeout
    │   └── ChatEngineRefused      chat_engine_refused
    ├── RequestError           request_invalid
    │   ├── BadRequest             bad_request
    │   ├── UnknownField           unknown_field
    │   ├── UnsupportedPart        unsupported_part
    │   ├── TooManyImages          too_many_images
    │   ├── ImageEncoding          image_encoding
    │   ├── ImageTypeMismatch      image_type_mismatch
    │   ├── EndpointUnknown        endpoint_unknown
    │   ├── MethodNotAllowed       method_not_allowed
    │   ├── RequestTimeout         request_timeout
    │   ├── BodyTooLarge           body_too_large
    │   ├── BodyEncoding           body_encoding
    │   ├── GateFailed             gate_failed
    │   ├── Overloaded             overloaded
    │   ├── UpstreamFailed         upstream_failed
    │   ├── UpstreamTimeout        upstream_timeout
    │   ├── EngineUnavailable      engine_unavailable
    │   └── RemoteImageError       remote_image_failed
    │       ├── RemoteImageForbidden   remote_image_forbidden
    │       ├── RemoteImageHost        remote_image_host
    │       └── RemoteImageAddress     remote_image_address
    ├── ListenError            listen_failed
    ├── HubError               hub_failed
    │   ├── HubUnreachable         hub_unreachable
    │   ├── HubDenied              hub_denied
    │   ├── HubNotFound            hub_not_found
    │   └── HubContent             hub_content
    ├── CalibrationError       calibration_failed
    │   ├── BoundUnsupported       bound_unsupported
    │   └── BoundsContradict       bounds_contradict
    ├── AuditError             audit_failed
    │   ├── AuditSourceError       audit_source_invalid
    │   ├── AuditMismatch          audit_mismatch
    │   ├── AuditBusy              audit_busy
    │   ├── AuditStopped           audit_stopped
    │   ├── ItemUnusable           item_unusable
    │   └── HashHookFailed         hash_hook_failed
    └── ExportError            export_failed
        ├── LabelMapError          label_map_invalid
        └── ProofFailed            proof_failed

A message says what failed, what was found and what to do next. `code` is stable: it is the
`error` of a verdict, of a JSON line and of an audit row.
"""

from __future__ import annotations

from .auditing import (
    AuditBusy,
    AuditError,
    AuditMismatch,
    AuditSourceError,
    AuditStopped,
    HashHookFailed,
    ItemUnusable,
)
from .base import (
    MissingExtra,
    OptionError,
    SafeVLMError,
)
from .bundles import (
    BundleDigest,
    BundleEngine,
    BundleError,
    BundleGraph,
    BundleLayout,
    BundleMissing,
    BundleSelfTest,
    BundleSignature,
    BundleSigner,
    BundleTampered,
    BundleUncalibrated,
    BundleUnsigned,
    EngineMismatch,
    EngineUnreadable,
    EngineUntrusted,
    ManifestError,
)
from .chatting import (
    ChatEngineError,
    ChatEngineRefused,
    ChatEngineTimeout,
    ChatEngineUnknown,
    ChatEngineUnreachable,
    ConversationError,
    ConversationRemoteImage,
    ConversationTooManyImages,
    ImageNotJudged,
)
from .hub import HubContent, HubDenied, HubError, HubNotFound, HubUnreachable
from .images import (
    DecoderDied,
    DecodeTimeout,
    ImageCorrupt,
    ImageDimensions,
    ImageEmpty,
    ImageError,
    ImageFormat,
    ImageInput,
    ImageMode,
    ImageMultiFrame,
    ImageNotAFile,
    ImageNotFound,
    ImageTooLarge,
    ImageTooManyPixels,
    ImageTooManyViews,
    ImageUnreadable,
)
from .making import (
    BoundsContradict,
    BoundUnsupported,
    CalibrationError,
    CheckpointError,
    DataError,
    EndpointError,
    EndpointGone,
    ExportError,
    LabelMapError,
    ProofFailed,
    RecipeError,
    RequestRefused,
    TaxonomyError,
    TrainingError,
)
from .requests import (
    BadRequest,
    BodyEncoding,
    BodyTooLarge,
    EndpointUnknown,
    EngineUnavailable,
    GateFailed,
    ImageEncoding,
    ImageTypeMismatch,
    ListenError,
    MethodNotAllowed,
    Overloaded,
    RemoteImageAddress,
    RemoteImageError,
    RemoteImageForbidden,
    RemoteImageHost,
    RequestError,
    RequestTimeout,
    TooManyImages,
    UnknownField,
    UnsupportedPart,
    UpstreamFailed,
    UpstreamTimeout,
)
from .running import (
    BenchmarkError,
    DeviceMissing,
    EngineBuildError,
    EngineError,
    EngineTimeout,
    FeaturesMismatch,
    ObserverFailed,
    OutputNotFinite,
    OutputShape,
    PolicyError,
    PolicyUncovered,
    ProviderError,
)
from .videos import VideoCorrupt, VideoError, VideoFormat, VideoTooLong

__all__ = [
    "AuditBusy",
    "AuditError",
    "AuditMismatch",
    "AuditSourceError",
    "AuditStopped",
    "BadRequest",
    "BenchmarkError",
    "BodyEncoding",
    "BodyTooLarge",
    "BoundUnsupported",
    "BoundsContradict",
    "BundleDigest",
    "BundleEngine",
    "BundleError",
    "BundleGraph",
    "BundleLayout",
    "BundleMissing",
    "BundleSelfTest",
    "BundleSignature",
    "BundleSigner",
    "BundleTampered",
    "BundleUncalibrated",
    "BundleUnsigned",
    "CalibrationError",
    "ChatEngineError",
    "ChatEngineRefused",
    "ChatEngineTimeout",
    "ChatEngineUnknown",
    "ChatEngineUnreachable",
    "CheckpointError",
    "ConversationError",
    "ConversationRemoteImage",
    "ConversationTooManyImages",
    "DataError",
    "DecodeTimeout",
    "DecoderDied",
    "DeviceMissing",
    "EndpointError",
    "EndpointGone",
    "EndpointUnknown",
    "EngineBuildError",
    "EngineError",
    "EngineMismatch",
    "EngineTimeout",
    "EngineUnavailable",
    "EngineUnreadable",
    "EngineUntrusted",
    "ExportError",
    "FeaturesMismatch",
    "GateFailed",
    "HashHookFailed",
    "HubContent",
    "HubDenied",
    "HubError",
    "HubNotFound",
    "HubUnreachable",
    "ImageCorrupt",
    "ImageDimensions",
    "ImageEmpty",
    "ImageEncoding",
    "ImageError",
    "ImageFormat",
    "ImageInput",
    "ImageMode",
    "ImageMultiFrame",
    "ImageNotAFile",
    "ImageNotFound",
    "ImageNotJudged",
    "ImageTooLarge",
    "ImageTooManyPixels",
    "ImageTooManyViews",
    "ImageTypeMismatch",
    "ImageUnreadable",
    "ItemUnusable",
    "LabelMapError",
    "ListenError",
    "ManifestError",
    "MethodNotAllowed",
    "MissingExtra",
    "ObserverFailed",
    "OptionError",
    "OutputNotFinite",
    "OutputShape",
    "Overloaded",
    "PolicyError",
    "PolicyUncovered",
    "ProofFailed",
    "ProviderError",
    "RecipeError",
    "RemoteImageAddress",
    "RemoteImageError",
    "RemoteImageForbidden",
    "RemoteImageHost",
    "RequestError",
    "RequestRefused",
    "RequestTimeout",
    "SafeVLMError",
    "TaxonomyError",
    "TooManyImages",
    "TrainingError",
    "UnknownField",
    "UnsupportedPart",
    "UpstreamFailed",
    "UpstreamTimeout",
    "VideoCorrupt",
    "VideoError",
    "VideoFormat",
    "VideoTooLong",
]
