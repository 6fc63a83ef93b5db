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
    │   ├── ImageMultiFrame        image_multi_frame
    │   ├── ImageMode              image_mode
    │   ├── ImageCorrupt           image_corrupt
    │   ├── ImageInput             image_input
    │   ├── DecodeTimeout          decode_timeout
    │   └── DecoderDied            decoder_died
    ├── BundleError            a bundle is refused
    │   ├── BundleMissing          bundle_missing
    │   ├── BundleLayout           bundle_layout
    │   ├── BundleTampered         bundle_tampered
    │   ├── BundleDigest           bundle_digest
    │   ├── BundleSignature        bundle_signature
    │   │   ├── BundleUnsigned         bundle_unsigned
    │   │   └── BundleSigner           bundle_signer
    │   ├── BundleGraph            bundle_graph
    │   ├── BundleSelfTest         bundle_self_test
    │   ├── BundleUncalibrated     bundle_uncalibrated
    │   └── ManifestError          manifest_invalid
    ├── PolicyError            policy_invalid
    │   └── PolicyUncovered        policy_uncovered
    ├── EngineError            engine_failed
    │   ├── EngineTimeout          engine_timeout
    │   ├── OutputShape            output_shape
    │   └── OutputNotFinite        output_not_finite
    ├── ProviderError          provider_mismatch
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
    ├── CalibrationError       calibration_failed
    │   ├── BoundUnsupported       bound_unsupported
    │   └── BoundsContradict       bounds_contradict
    └── ExportError            export_failed
        ├── LabelMapError          label_map_invalid
        └── ProofFailed            proof_failed

A message says what failed, what was found and what to do next. `code` is stable: it is the
`error` of a verdict, of a JSON line and of an audit row.
"""

from __future__ import annotations

from .base import (
    MissingExtra,
    OptionError,
    SafeVLMError,
)
from .bundles import (
    BundleDigest,
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
    ManifestError,
)
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
from .running import (
    EngineError,
    EngineTimeout,
    FeaturesMismatch,
    OutputNotFinite,
    OutputShape,
    PolicyError,
    PolicyUncovered,
    ProviderError,
)

__all__ = [
    "BoundUnsupported",
    "BoundsContradict",
    "BundleDigest",
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
    "CheckpointError",
    "DataError",
    "DecodeTimeout",
    "DecoderDied",
    "EndpointError",
    "EndpointGone",
    "EngineError",
    "EngineTimeout",
    "ExportError",
    "FeaturesMismatch",
    "ImageCorrupt",
    "ImageDimensions",
    "ImageEmpty",
    "ImageError",
    "ImageFormat",
    "ImageInput",
    "ImageMode",
    "ImageMultiFrame",
    "ImageNotAFile",
    "ImageNotFound",
    "ImageTooLarge",
    "ImageTooManyPixels",
    "ImageUnreadable",
    "LabelMapError",
    "ManifestError",
    "MissingExtra",
    "OptionError",
    "OutputNotFinite",
    "OutputShape",
    "PolicyError",
    "PolicyUncovered",
    "ProofFailed",
    "ProviderError",
    "RecipeError",
    "RequestRefused",
    "SafeVLMError",
    "TaxonomyError",
    "TrainingError",
]
