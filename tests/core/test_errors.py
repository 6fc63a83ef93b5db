"""One tree of errors, as its docstring draws it."""

from __future__ import annotations

import inspect
import re

from safevlm_sdk import errors


def test_the_docstring_draws_every_error_with_its_code():
    drawn = dict(re.findall(r"── (\w+) +([a-z_]+)$", errors.__doc__, re.MULTILINE))
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and kind not in (errors.SafeVLMError, errors.ImageError, errors.BundleError)
    }
    assert drawn == {name: kind.code for name, kind in classes.items() if issubclass(kind, Exception)}
    assert len(set(drawn.values())) == len(drawn)


def test_a_missing_extra_names_the_command():
    assert str(errors.MissingExtra("onnxruntime", "cpu")).endswith("pip install 'safevlm-sdk[cpu]'")
