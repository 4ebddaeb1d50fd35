"""The edge of the generators: reads what is there, asks the pure parts what to make, and writes that as one set.

Must never show a secret, and never write anything while `nodes.env` does not hold.
"""

from collections.abc import Iterable
from pathlib import Path

from unibus.cluster import certs, layout, settings
from unibus.cluster.certificates import Random
from unibus.cluster.nodes import Cluster, parse
from unibus.cluster.staging import NewFile, holding, read, read_secret, write
from unibus.errors import InvalidInput, reason_of


def read_cluster(base: Path) -> Cluster:
    """The checked `nodes.env`. Raises InvalidInput."""
    path = base / layout.NODES
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = reason_of(error) if isinstance(error, OSError) else "it is not text"
        raise InvalidInput(f"cannot read {path}: {why}; type this in the checkout, or name its --dir") from error
    try:
        return parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}") from error


def make_certs(base: Path, how: certs.How, *, now: float, random: Random) -> list[str]:
    """Make or renew what `how` says; the names of the files written, below `base`. Raises InvalidInput, KeyCustody."""
    cluster = read_cluster(base)
    with holding(base, base / layout.SECRETS):
        files = certs.make(cluster, found_files(base, cluster), how, now, random)
        write(base, base / layout.SECRETS, files)
    return list(files)


def check_certs(base: Path, *, now: float) -> list[certs.Row]:
    """How all certificates stand. Writes nothing. Raises InvalidInput, KeyCustody."""
    cluster = read_cluster(base)
    return certs.table(cluster, found_files(base, cluster), now)


def make_settings(base: Path, *, new_secret: bool, random: Random) -> list[str]:
    """Make each node's `cluster.env`, and the secret where there is none; the names of the files that changed.

    With `new_secret` the secret is replaced. Raises InvalidInput, KeyCustody.
    """
    cluster = read_cluster(base)
    files: dict[str, NewFile] = {}
    with holding(base, base / layout.SECRETS):
        if new_secret or read_secret(base / layout.PASS) is None:
            files[layout.PASS] = NewFile(settings.new_secret(random), secret=True)
        for node in cluster.nodes:
            content = settings.render(cluster, node).encode()
            if read(base / layout.settings(node.name)) != content:
                files[layout.settings(node.name)] = NewFile(content, secret=False)
        write(base, base / layout.SECRETS, files)
    return list(files)


def read_pieces(base: Path, node: str) -> dict[str, bytes]:
    """What a node is given, by its names below the node's path. Raises InvalidInput when a generator was not run."""
    found: dict[str, bytes] = {}
    for piece in layout.pieces(node):
        content = (read_secret if piece.secret else read)(base / piece.local)
        if content is None:
            raise InvalidInput(
                f"{base / piece.local} is missing: run generate-cluster-certs and generate-cluster-env first"
            )
        found[piece.remote] = content
    return found


def found_files(base: Path, cluster: Cluster) -> dict[str, bytes]:
    """The certificates and keys that are there, by their names below `base`. Raises KeyCustody, OSError."""
    public = (place.certificate for place in certs.places(cluster))
    secret = (place.key for place in certs.places(cluster))
    return {**_read_all(base, public, secret=False), **_read_all(base, secret, secret=True)}


def _read_all(base: Path, names: Iterable[str], *, secret: bool) -> dict[str, bytes]:
    found = {name: (read_secret if secret else read)(base / name) for name in names}
    return {name: content for name, content in found.items() if content is not None}
