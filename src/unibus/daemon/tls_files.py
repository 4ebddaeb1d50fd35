"""Which certificate files the operator named. Only names: options are read where nothing else of TLS is loaded."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What the operator named: a chain, its key, and the authorities of clients' certificates, if those are wanted."""

    chain: Path
    key: Path
    authorities: Path | None


@dataclass(frozen=True, slots=True)
class RouteTlsFiles:
    """What the operator named: this node's chain, its key, and the authorities of all nodes' route certificates."""

    chain: Path
    key: Path
    authorities: Path
