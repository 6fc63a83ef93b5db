"""`safevlm calibrate` for bundles: new thresholds on the operator's own images, without torch."""
