"""Observers that come with the SDK: Prometheus metrics, OpenTelemetry spans, an append-only decision log."""
