"""`unibus posture` at a terminal and in a monitor: the table, the faults, the exit status."""

from pathlib import Path

from tests.cli.commands import Person, Town


def test_a_node_without_tls_and_one_that_is_not_there_are_faults(stranger: Person, town: Town) -> None:
    ran = stranger.run("posture", town.url, "http://127.0.0.1:9")
    assert ran.status == 1
    head, there, silent = ran.out.splitlines()
    assert head.split()[:5] == ["node", "status", "auth", "acl", "tls"]
    assert there.split()[:5] == ["unibus", "ok", "enforce", "yes", "no"]
    assert silent.split()[:2] == ["http://127.0.0.1:9", "silent"]
    told = ran.err.splitlines()
    assert told[0] == "unibus: clients are not served over tls"
    assert told[1].startswith("http://127.0.0.1:9: ")
    assert len(told) == 2


def test_a_monitor_gets_the_same_as_json(stranger: Person, town: Town) -> None:
    ran = stranger.run("--json", "posture")
    assert ran.status == 1
    node, end = ran.json
    assert (node["url"], node["health"]["bus_auth"], node["silence"]) == (town.url, "enforce", None)
    assert end == {"faults": ["unibus: clients are not served over tls"]}


def test_what_is_neither_url_nor_nodes_env_is_refused_in_one_line(stranger: Person, tmp_path: Path) -> None:
    (tmp_path / "nodes.env").write_text("NODE=a <A_PUBLIC> 10.0.0.1 root /opt/unibus\n")
    for given, said in (
        ("nowhere", "nowhere is no URL and cannot be read as a nodes.env: no such file or directory"),
        (str(tmp_path / "nodes.env"), f"{tmp_path / 'nodes.env'}: put the real values in place of <A_PUBLIC>"),
    ):
        ran = stranger.run("posture", given)
        assert (ran.status, ran.out) == (1, "")
        assert ran.err.splitlines() == [f"unibus: {said}"]
