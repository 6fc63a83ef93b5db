"""Test vectors for implementations of the decision, and of the gate on uint8 RGB, in other languages.

`python -m safevlm_export.conformance OUT` writes them; `docs/decision.md` says what they mean.
"""
