"""The registry of connections: a revocation reaches all that is there and all that is on its way."""

from unibus.bus.registry import FORGET_AFTER, Registry

ALICE, BOB = "UALICE", "UBOB"
RED, BLUE = frozenset({"red"}), frozenset({"blue"})


def test_revoking_a_user_reaches_every_state_of_its_connections() -> None:
    registry = Registry()
    registry.asked(1, ALICE, 0.0)
    registry.asked(2, ALICE, 0.0).rooms = RED
    registry.asked(3, ALICE, 0.0).rooms = BLUE
    registry.asked(4, BOB, 0.0)
    assert registry.came_up(3)
    assert registry.revoke(ALICE) == [1, 2, 3]
    assert not registry.came_up(1)
    assert not registry.came_up(2)
    assert registry.came_up(4)


def test_revoking_a_room_reaches_what_may_write_there_and_what_is_undecided() -> None:
    registry = Registry()
    undecided = registry.asked(1, ALICE, 0.0)
    registry.asked(2, ALICE, 0.0).rooms = RED
    registry.asked(3, ALICE, 0.0).rooms = BLUE
    assert registry.revoke(ALICE, "red") == [1, 2]
    assert undecided.revoked
    assert registry.came_up(3)


def test_a_connection_nobody_asked_for_may_not_stay() -> None:
    assert not Registry().came_up(9)


def test_only_connections_that_never_came_up_are_forgotten_with_time() -> None:
    registry = Registry()
    registry.asked(1, ALICE, 0.0)
    registry.asked(2, ALICE, 0.0)
    registry.came_up(2)
    registry.asked(3, ALICE, FORGET_AFTER)
    assert registry.revoke(ALICE) == [1, 2, 3]
    registry.asked(4, BOB, FORGET_AFTER + 0.1)
    assert registry.revoke(ALICE) == [2, 3]


def test_what_is_gone_is_not_counted_or_reached() -> None:
    registry = Registry()
    registry.asked(1, ALICE, 0.0)
    registry.came_up(1)
    assert len(registry) == 1
    registry.gone(1)
    registry.gone(1)
    assert len(registry) == 0
    assert registry.revoke(ALICE) == []


def test_everybody_is_revoked_once_who_is_on_the_way_too() -> None:
    registry = Registry()
    registry.asked(1, ALICE, 0.0).rooms = RED
    registry.asked(2, BOB, 0.0)
    assert registry.came_up(1)
    assert registry.revoke_all() == [1, 2]
    assert registry.revoke_all() == []
    assert not registry.came_up(2)
    registry.asked(3, BOB, 0.0)
    assert registry.revoke_all() == [3]
