"""Tests of the store's engines."""

import pytest

# The suites are no test modules of their own; their asserts are to explain themselves all the same.
for suite in ("conformance", "racing_conformance", "blob_conformance", "blob_parts_conformance"):
    pytest.register_assert_rewrite(f"tests.store.{suite}")
