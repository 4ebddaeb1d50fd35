"""What a deployment plans, and what it refuses."""

from pathlib import Path

import pytest

from tests.cluster.example import GOLDEN, NAMES, example, place, random_bytes
from unibus.cluster.certs import How
from unibus.cluster.deployment import Local, What, plan
from unibus.cluster.health import NodeHealth
from unibus.cluster.hosts import UNIT_PATH, HostFacts, parse_facts
from unibus.cluster.layout import BUNDLE, INSTALLER, UNIT, pieces
from unibus.cluster.material import make_certs, make_settings
from unibus.cluster.nodes import parse
from unibus.cluster.remote import Ssh, commands, files, gathered, local, look
from unibus.errors import Forbidden, InvalidInput, Unreachable

CLUSTER = example()
SUMS = {"cluster.env": "a" * 64, UNIT_PATH: "b" * 64}
HERE = Local("0123456789abcdef", dict.fromkeys(NAMES, SUMS))
EMPTY = HostFacts(machine="x86_64", python="3.11", venv=True)
RUNS = HostFacts("x86_64", "3.12", True, HERE.bundle, True, 100, 200, SUMS)
STALE = HostFacts("x86_64", "3.12", True, "fedcba9876543210", True, 100, 200, SUMS)
WELL = NodeHealth(answers=True, ok=True, quorum=True)
LONELY = NodeHealth(answers=True)
SILENT = NodeHealth()


def everywhere(facts: HostFacts) -> dict[str, HostFacts]:
    return dict.fromkeys(NAMES, facts)


def health(*each: NodeHealth) -> dict[str, NodeHealth]:
    return dict(zip(NAMES, each, strict=True))


def refused(remote: dict[str, HostFacts], states: dict[str, NodeHealth], **how: object) -> str:
    with pytest.raises(Forbidden) as error:
        plan(CLUSTER, HERE, remote, states, **how)  # type: ignore[arg-type]  # each test knows its own words
    return error.value.message


def test_empty_hosts_get_everything() -> None:
    steps = plan(CLUSTER, HERE, everywhere(EMPTY), {})
    assert [(step.node.name, step.what) for step in steps] == [
        (name, what) for name in NAMES for what in (What.SEND_BUNDLE, What.SEND_FILES, What.INSTALL)
    ]
    assert steps[1].names == tuple(SUMS)


def test_hosts_that_have_everything_get_nothing() -> None:
    assert plan(CLUSTER, HERE, everywhere(RUNS), {}) == []


def test_only_what_differs_is_sent() -> None:
    other = HostFacts("x86_64", "3.12", True, HERE.bundle, True, 100, 200, {**SUMS, "cluster.env": "c" * 64})
    steps = plan(CLUSTER, HERE, {**everywhere(RUNS), "homer": other}, health(WELL, WELL, WELL))
    assert [(step.node.name, step.what, step.names) for step in steps] == [
        ("homer", What.SEND_FILES, ("cluster.env",)),
        ("homer", What.INSTALL, ()),
    ]


@pytest.mark.parametrize(
    "states",
    [
        (SILENT, SILENT, SILENT),
        (WELL, SILENT, SILENT),
        (WELL, WELL, SILENT),  # the two that change are the quorum's half each
        (LONELY, LONELY, LONELY),
        (SILENT, WELL, LONELY),
    ],
)
def test_no_node_that_served_is_changed_while_the_others_have_no_quorum(states: tuple[NodeHealth, ...]) -> None:
    assert "lacks quorum" in refused(everywhere(STALE), health(*states))


def test_a_dead_node_is_replaced_when_the_others_have_quorum() -> None:
    remote = {**everywhere(RUNS), "homer": EMPTY}
    assert {step.node.name for step in plan(CLUSTER, HERE, remote, health(WELL, SILENT, WELL))} == {"homer"}
    assert "lacks quorum" in refused(remote, health(WELL, SILENT, SILENT))


def test_a_fresh_node_beside_one_that_ran_is_not_a_fresh_cluster() -> None:
    assert "lacks quorum" in refused({**everywhere(EMPTY), "homer": RUNS}, {}, only=("magnus",))


def test_a_host_that_does_not_answer_may_have_run() -> None:
    remote = {name: EMPTY for name in NAMES if name != "homer"}
    assert "homer does not answer ssh" in refused(remote, {})
    assert "magnus: the cluster lacks quorum" in refused(remote, {}, only=("magnus",))


def test_a_stopped_cluster_is_changed_by_a_persons_word_and_only_if_it_is_stopped() -> None:
    assert len(plan(CLUSTER, HERE, everywhere(STALE), health(SILENT, SILENT, SILENT), stopped=True)) == 9
    said = refused(everywhere(STALE), health(SILENT, LONELY, SILENT), stopped=True)
    assert "the cluster is not stopped: homer answer" in said


def test_named_nodes_only() -> None:
    steps = plan(CLUSTER, HERE, everywhere(STALE), health(WELL, WELL, WELL), only=("datardos",))
    assert {step.node.name for step in steps} == {"datardos"}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (HostFacts("aarch64", "3.11", True), "magnus is a aarch64: the bundle is for x86_64"),
        (HostFacts("x86_64", "3.9", True), "magnus has python 3.9"),
        (HostFacts("x86_64", "", True), "magnus has python none"),
        (HostFacts("x86_64", "3.11", False), "install python3-venv there"),
    ],
)
def test_a_host_that_cannot_run_it_is_refused_with_the_reason(facts: HostFacts, reason: str) -> None:
    assert reason in refused({**everywhere(EMPTY), "magnus": facts}, {})


def test_one_and_two_nodes_can_be_changed_when_the_rest_is_well() -> None:
    rows = [line for line in example_rows() if "datardos" not in line]
    two = parse("\n".join(rows).replace("KV_REPLICAS=3", "KV_REPLICAS=1"))
    remote = {node.name: STALE for node in two.nodes}
    here = Local(HERE.bundle, dict.fromkeys(remote, SUMS))
    assert plan(two, here, remote, {"magnus": WELL, "homer": WELL}) != []
    with pytest.raises(Forbidden, match="lacks quorum"):
        plan(two, here, remote, {"magnus": WELL})


def example_rows() -> list[str]:
    from tests.cluster.example import NODES

    return NODES.splitlines()


@pytest.mark.parametrize(
    "text",
    ["nonsense", "sum zz", "machine x86_64; rm -rf /", "machine x86_64 name", "installed soon", "\x1b[2J", "sum a b c"],
)
def test_an_answer_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInput, match="not understood"):
        parse_facts(text)


def test_an_answer_is_read() -> None:
    text = (
        "machine x86_64\npython 3.11\nvenv yes\nrelease 0123456789abcdef\ndata yes\ninstalled 100\n"
        f"started 200\nsum {'a' * 64} cluster.env\nsum {'b' * 64} {UNIT_PATH}\n"
    )
    assert parse_facts(text) == HostFacts("x86_64", "3.11", True, HERE.bundle, True, 100, 200, SUMS)
    assert parse_facts("release -\n").release == ""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A `deploy` directory with everything made."""
    base = place(tmp_path / "deploy")
    make_certs(base, How.KEEP, now=1.8e9, random=random_bytes())
    make_settings(base, new_secret=False, random=random_bytes())
    (base / UNIT).write_text("EnvironmentFile=/opt/unibus/cluster.env\n")
    (base / INSTALLER).write_text("#!/bin/sh\n")
    (base / BUNDLE).mkdir(parents=True)
    (base / BUNDLE / "SHA256SUMS").write_text("")
    return base


def test_commands_are_what_is_known_to_be_good(base: Path) -> None:
    ssh = Ssh(Path("/home/me/ssh config"))
    steps = plan(CLUSTER, local(base, CLUSTER), everywhere(EMPTY), {})
    told = "".join(
        f"{step.node.name}: {step.what}\n" + "".join(f"  {word}\n" for word in commands(step, base, "0123", base, ssh))
        for step in steps
    )
    assert told.replace(str(base), "DEPLOY") == (GOLDEN / "commands.txt").read_text()


def test_no_command_and_no_listing_holds_a_secret(base: Path) -> None:
    secret = (base / "cluster/secrets/cluster.pass").read_text().strip()
    steps = plan(CLUSTER, local(base, CLUSTER), everywhere(EMPTY), {})
    with gathered(base, CLUSTER.nodes[0]) as at:
        assert (at / "cluster.pass").read_text().strip() == secret
        assert at.stat().st_mode & 0o077 == 0
        assert {path.stat().st_mode & 0o077 for path in at.rglob("*") if path.is_file()} == {0}
        told = repr([commands(step, base, "0123", at, Ssh()) for step in steps]) + repr(steps)
    assert not at.exists()
    assert secret not in told
    assert "PRIVATE" not in told


def test_the_route_authoritys_key_and_other_nodes_keys_stay_here(base: Path) -> None:
    authority = (base / "cluster/secrets/route-ca.key").read_bytes()
    clients = (base / "tls/ca.key").read_bytes()
    for node in CLUSTER.nodes:
        sent = files(base, node)
        assert {authority, clients}.isdisjoint(sent.values())
        others = {(base / "cluster/out" / other.name / "route.key").read_bytes() for other in CLUSTER.others(node.name)}
        assert others.isdisjoint(sent.values())


def test_what_was_not_made_is_named(base: Path) -> None:
    (base / "cluster/out/homer/route.key").unlink()
    with pytest.raises(InvalidInput, match=r"homer/route\.key is missing: run generate-cluster-certs"):
        local(base, CLUSTER)


def test_looking_tells_who_does_not_answer() -> None:
    def answers(command: list[str], given: str) -> str:
        assert given.startswith("set -eu")
        if "root@192.0.2.1" in command:
            return "machine x86_64\n"
        if "deploy@homer.example.org" in command:
            assert command[-1].startswith("sudo -n sh -s -- /srv/unibus/node-2 ")
            return "welcome to homer!\n"
        raise Unreachable("ssh did not succeed: no route to host")

    found, silent = look(CLUSTER, Ssh(), answers)
    assert set(found) == {"magnus"}
    assert silent["datardos"] == "ssh did not succeed: no route to host"
    assert "not understood" in silent["homer"]


def test_every_piece_has_one_place_of_its_own() -> None:
    remote = [piece.remote for piece in pieces("magnus")]
    assert len(set(remote)) == len(remote) == 7
    assert {piece.remote for piece in pieces("magnus") if piece.secret} == {
        "cluster.pass",
        "tls/route.key",
        "tls/server.key",
    }
