"""Making a gate fails: data, training, calibration, export."""

from __future__ import annotations

from .base import SafeVLMError


class TaxonomyError(SafeVLMError):
    """A taxonomy is not valid, or a category is not in it."""

    code = "taxonomy_invalid"


class RecipeError(SafeVLMError):
    """A training recipe is not valid."""

    code = "recipe_invalid"


class DataError(SafeVLMError):
    """A data set cannot be read as it stands."""

    code = "data_invalid"


class CheckpointError(SafeVLMError):
    """A checkpoint cannot be read."""

    code = "checkpoint_invalid"


class TrainingError(SafeVLMError):
    """Training cannot start or go on."""

    code = "training_failed"


class EndpointError(SafeVLMError):
    """A model behind an address gave no usable reply; a later request may fare better."""

    code = "endpoint_failed"


class RequestRefused(EndpointError):
    """The model's server refuses one request: asking again gives the same."""

    code = "request_refused"


class EndpointGone(EndpointError):
    """No request can succeed: no access, or no such model."""

    code = "endpoint_gone"


class CalibrationError(SafeVLMError):
    """Temperature and thresholds cannot be set as asked."""

    code = "calibration_failed"


class BoundUnsupported(CalibrationError):
    """There are too few groups of images to show that a bound is kept."""

    code = "bound_unsupported"


class BoundsContradict(CalibrationError):
    """No thresholds keep all of the bounds on these images."""

    code = "bounds_contradict"


class ExportError(SafeVLMError):
    """A checkpoint cannot be exported."""

    code = "export_failed"


class LabelMapError(ExportError):
    """A label map is not valid, or does not fit the classifier that it is for."""

    code = "label_map_invalid"


class ProofFailed(ExportError):
    """An exported graph changed its mind: it is not written."""

    code = "proof_failed"
