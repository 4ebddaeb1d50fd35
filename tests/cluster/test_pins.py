"""What a node is given of the lock is what the installed packages say they need, and only with hashes."""

import re
import tomllib
from importlib.metadata import requires

import pytest

from tests.cluster.example import ROOT
from unibus.cluster.bundle import bundle_id, requirements
from unibus.cluster.pins import Pin, runtime
from unibus.errors import InvalidInput

LOCK = (ROOT / "requirements.lock").read_text()
DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
HASH = "sha256:" + "a" * 64


def needed(name: str, seen: set[str]) -> set[str]:
    """A package and what it needs here, by its own metadata."""
    for text in requires(name) or []:
        found = re.match(r"[A-Za-z0-9._-]+", text)
        assert found is not None
        other = re.sub(r"[-_.]+", "-", found[0]).lower()
        if "extra ==" not in text and other in LOCK and other not in seen and f"\n{other}==" in f"\n{LOCK}":
            seen |= {other} | needed(other, seen | {other})
    return seen


def test_it_is_what_the_packages_themselves_say() -> None:
    pins = runtime(LOCK, DEPENDENCIES)
    names = {pin.name for pin in pins}
    roots = {re.split(r"[\[>=]", text)[0] for text in DEPENDENCIES}
    own = set(roots)
    for root in roots:
        own |= needed(root, set())
    assert own <= names | {"typing-extensions"}
    assert names - own <= {"nkeys"}  # by nats-py's extra
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "schemathesis", "import-linter"}
    assert all(pin.hashes for pin in pins)


def test_a_package_without_hashes_is_not_let_through() -> None:
    with pytest.raises(InvalidInput, match="click has no hashes"):
        runtime("click==8.5.1\n    # via unibus (pyproject.toml)\n", ["click>=8"])


@pytest.mark.parametrize("line", ["click>=8.5.1", "click @ https://example.org/click.whl", "click==8.5.1 --pre"])
def test_a_package_that_is_not_pinned_is_not_let_through(line: str) -> None:
    with pytest.raises(InvalidInput, match="is not a pinned package"):
        runtime(f"{line} \\\n    --hash={HASH}\n", ["click"])


def test_a_dependency_that_is_not_locked_is_named() -> None:
    with pytest.raises(InvalidInput, match="has no new-one: make lock"):
        runtime(LOCK, ["new_one>=1"])


def test_requirements_name_every_wheel_by_its_hash_and_nothing_else() -> None:
    pins = [Pin("pydantic-core", "2.50.4", (HASH,), ()), Pin("click", "8.5.1", (HASH,), ())]
    digests = {
        "pydantic_core-2.50.4-cp311-cp311-manylinux2014_x86_64.whl": "1" * 64,
        "pydantic_core-2.50.4-cp312-cp312-manylinux2014_x86_64.whl": "2" * 64,
        "click-8.5.1-py3-none-any.whl": "3" * 64,
        "click-8.5.10-py3-none-any.whl": "4" * 64,
    }
    assert requirements(pins, digests) == (
        f"pydantic-core==2.50.4 --hash=sha256:{'1' * 64} --hash=sha256:{'2' * 64}\n"
        f"click==8.5.1 --hash=sha256:{'3' * 64}\n"
    )
    with pytest.raises(InvalidInput, match=r"no wheel of pynacl 1\.6"):
        requirements([Pin("pynacl", "1.6", (HASH,), ())], digests)


def test_any_change_of_a_bundle_changes_its_name() -> None:
    assert bundle_id(b"a") != bundle_id(b"b")
    assert re.fullmatch(r"[0-9a-f]{16}", bundle_id(b"a"))
