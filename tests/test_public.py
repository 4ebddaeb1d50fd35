"""What `import unibus` gives: every name that it announces, and nothing loaded before it is used."""

import subprocess
import sys

import pytest

import unibus

LOADS = """
import sys, unibus
assert not {"aiohttp", "nats", "pydantic", "unibus.client", "unibus.errors"} & set(sys.modules), "loaded too early"
assert issubclass(unibus.errors.RateLimited, unibus.UnibusError)
assert set(unibus.__all__) <= set(dir(unibus))
"""


def test_importing_it_loads_nothing_and_its_errors_are_there_without_another_import() -> None:
    said = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("name", unibus.__all__)
def test_what_it_announces_is_there(name: str) -> None:
    assert getattr(unibus, name) is not None
    assert name in dir(unibus)


def test_what_it_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'disconnect'"):
        _ = unibus.disconnect
