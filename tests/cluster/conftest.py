"""A bundle for all tests that install on hosts: building one takes a minute."""

import shutil
from pathlib import Path

import pytest

from tests.cluster.checkout import BUNDLE, build_bundle, git, make_origin


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the repository `origin` and the `bundle` of what is in it."""
    home = tmp_path_factory.mktemp("source")
    make_origin(home / "origin")
    git(home, "clone", "--quiet", home / "origin", home / "clone")
    build_bundle(home / "clone")
    shutil.move(home / "clone" / BUNDLE, home / "bundle")
    return home
