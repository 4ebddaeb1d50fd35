"""The edge towards hosts: commands for ssh and rsync, and the one place that runs them.

Every command is a value first, so that a dry run shows exactly what would be run. All names in them have passed
`nodes.parse`. Must never put a secret into a command, nor change a host but by a step of a plan.
"""

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from unibus.cluster import layout
from unibus.cluster.bundle import current
from unibus.cluster.deployment import Local, Step, What
from unibus.cluster.hosts import FACTS, SERVICE, UNIT_PATH, HostFacts, parse_facts
from unibus.cluster.material import read_pieces
from unibus.cluster.nodes import Cluster, ClusterNode, bracketed
from unibus.cluster.rolling import Restart, Start
from unibus.cluster.settings import unit_for
from unibus.cluster.staging import SENDING
from unibus.errors import InvalidInput, Unreachable, reason_of

Run = Callable[[list[str], str], str]
"""Runs a command with a text as its input; its output. Raises Unreachable with what it said when it fails."""

_UNIT_NAME = Path(UNIT_PATH).name
_MODES = "--chmod=D0700,F0600"


@dataclass(frozen=True, slots=True)
class Ssh:
    """How hosts are reached: `config` is another file than ssh's own."""

    config: Path | None = None

    def words(self) -> list[str]:
        """ssh and its options; nobody is there to be asked for a password."""
        config = [] if self.config is None else ["-F", str(self.config)]
        return ["ssh", *config, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]

    def on(self, node: ClusterNode, *command: str) -> list[str]:
        """`command` on the node, as root."""
        return [*self.words(), f"{node.user}@{node.public}", shlex.join([*_root(node), *command])]

    def copy(self, source: Path, node: ClusterNode, target: str) -> list[str]:
        """rsync of what is in the directory `source` into `target` below the node's path."""
        there = f"{node.user}@{bracketed(node.public)}:{node.path}/{target}/"
        as_root = [f"--rsync-path={shlex.join([*_root(node), 'rsync'])}"] if _root(node) else []
        how = ["--recursive", "--checksum", "--delete", "--mkpath", _MODES, *as_root, "-e", shlex.join(self.words())]
        return ["rsync", *how, f"{source}/", there]


def run(command: list[str], given: str) -> str:
    """Run a command to its end; its standard output. Raises Unreachable."""
    outcome = subprocess.run(command, input=given, capture_output=True, text=True, check=False)  # noqa: S603 - made above
    if outcome.returncode:
        said = " ".join(outcome.stderr.split())[-300:] or f"status {outcome.returncode}"
        raise Unreachable(f"{command[0]} did not succeed: {said}")
    return outcome.stdout


def look(cluster: Cluster, ssh: Ssh, run: Run) -> tuple[dict[str, HostFacts], dict[str, str]]:
    """The facts of all nodes that answer, and why the others do not. Changes nothing."""
    found: dict[str, HostFacts] = {}
    silent: dict[str, str] = {}
    for node in cluster.nodes:
        names = [piece.remote for piece in layout.pieces(node.name)]
        try:
            found[node.name] = parse_facts(run(ssh.on(node, "sh", "-s", "--", str(node.path), *names), FACTS))
        except (Unreachable, InvalidInput) as error:
            silent[node.name] = error.message
    return found, silent


def local(base: Path, cluster: Cluster) -> Local:
    """What is here for all nodes. Raises InvalidInput when something was not made, KeyCustody."""
    bundle = current(base / layout.BUNDLE)
    if bundle is None:
        raise InvalidInput("there is no bundle yet: run unibus cluster bundle")
    return Local(bundle, {node.name: _sums(files(base, node)) for node in cluster.nodes})


def files(base: Path, node: ClusterNode) -> dict[str, bytes]:
    """What stands on a node besides the bundle: its pieces by their names below its path, and its unit."""
    try:
        unit = (base / layout.UNIT).read_text("utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot read {base / layout.UNIT}: {reason_of(error)}") from error
    return {**read_pieces(base, node.name), UNIT_PATH: unit_for(node, unit).encode()}


def commands(step: Step, base: Path, bundle: str, files_at: Path, ssh: Ssh) -> list[str]:
    """The command of a step; `files_at` is the directory that `gathered` has made."""
    path = str(step.node.path)
    match step.what:
        case What.SEND_BUNDLE:
            return ssh.copy(base / layout.BUNDLE, step.node, "incoming/bundle")
        case What.SEND_FILES:
            return ssh.copy(files_at, step.node, "incoming/files")
        case What.INSTALL:
            return ssh.on(step.node, "sh", f"{path}/incoming/files/install-node", path, bundle)


def service(action: Start | Restart, node: ClusterNode, ssh: Ssh) -> list[str]:
    """The command that starts or restarts a node's service."""
    verb = ["enable", "--now"] if isinstance(action, Start) else ["restart"]
    return ssh.on(node, "systemctl", *verb, SERVICE)


@contextmanager
def gathered(base: Path, node: ClusterNode) -> Iterator[Path]:
    """A private directory with all that is sent to a node beside the bundle, for as long as it is entered."""
    with tempfile.TemporaryDirectory(dir=base / layout.SECRETS, prefix=SENDING) as name:
        directory = Path(name)
        sent: Mapping[str, bytes] = {
            **{_UNIT_NAME if at == UNIT_PATH else at: content for at, content in files(base, node).items()},
            "install-node": (base / layout.INSTALLER).read_bytes(),
        }
        for at, content in sent.items():
            (directory / at).parent.mkdir(exist_ok=True)
            (directory / at).touch(0o600)
            (directory / at).write_bytes(content)
        yield directory


def _root(node: ClusterNode) -> list[str]:
    return [] if node.user == "root" else ["sudo", "-n"]


def _sums(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: sha256(content).hexdigest() for name, content in contents.items()}
