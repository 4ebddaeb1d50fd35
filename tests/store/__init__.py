"""Tests of the store's engines."""

import pytest

# The suite is not a test module of its own; its asserts are to explain themselves all the same.
pytest.register_assert_rewrite("tests.store.conformance")
