"""Nobody takes all connections, and none that waits for a request keeps another out."""

from unibus.http.crowd import FIRST_REQUEST_SECONDS, Crowd, Place


class Guest:
    """A connection that can be ended."""

    ended = False

    def force_close(self) -> None:
        """Note that it was."""
        self.ended = True


class House:
    """A crowd, and a clock that a test sets."""

    def __init__(self, most: int) -> None:
        self.now = 0.0
        self.crowd = Crowd(most, lambda: self.now)

    def enter(self, address: str | None, times: int) -> list[Guest]:
        """That many connections from one address, of which none is asked anything; those that were let in."""
        connections = [Guest() for _ in range(times)]
        return [each for each in connections if self.crowd.enter(each, address) is Place.INSIDE]

    def ask(self, address: str | None, times: int = 1) -> list[Guest]:
        """The same; each sends a request that takes its time."""
        connections = self.enter(address, times)
        for each in connections:
            self.crowd.works(each)
        return connections


def test_one_address_has_half_of_all_connections_and_leaves_the_rest() -> None:
    assert len(House(10).ask("192.0.2.1", 8)) == 5
    house = House(10)
    house.ask("192.0.2.1", 5)
    assert len(house.ask("192.0.2.2", 9)) == 5
    assert house.enter("192.0.2.3", 1) == []


def test_who_is_one_too_many_takes_nobodys_place() -> None:
    house = House(10)
    assert len(house.ask("192.0.2.1", 1000)) == 5
    assert len(house.ask("192.0.2.2", 5)) == 5


def test_of_who_is_one_too_many_so_many_are_told_and_half_of_one_address() -> None:
    crowd = House(4).crowd
    places = [crowd.enter(Guest(), "192.0.2.1") for _ in range(6)] + [crowd.enter(Guest(), None) for _ in range(5)]
    inside, told, none = Place.INSIDE, Place.TOLD, Place.NONE
    assert places == [inside, inside, told, told, none, none, inside, inside, none, none, none]


def test_loopback_where_proxies_are_may_have_all() -> None:
    assert len(House(10).ask(None, 12)) == 10


def test_who_leaves_makes_room_for_the_same_address() -> None:
    house = House(4)
    first, second = house.ask("192.0.2.1", 2)
    refused = Guest()
    assert house.crowd.enter(refused, "192.0.2.1") is Place.TOLD
    house.crowd.leave(refused)
    house.crowd.leave(first)
    house.crowd.leave(first)  # a connection may be lost twice over
    assert len(house.ask("192.0.2.1")) == 1
    house.crowd.leave(second)
    assert len(house.crowd) == 1


def test_a_house_for_one_lets_one_in() -> None:
    assert len(House(1).enter("192.0.2.1", 1)) == 1


def test_who_rests_longest_makes_room() -> None:
    house = House(3)
    first, second, third = house.ask(None, 3)
    for guest in (first, second, third):
        house.crowd.rests(guest)
    house.crowd.works(first)
    house.crowd.rests(first)  # it was answered once more, and so rests the shortest
    house.crowd.works(third)
    assert len(house.ask(None, 2)) == 2
    assert [guest.ended for guest in (first, second, third)] == [True, True, False]
    assert house.enter(None, 1) == []  # the others are at work


def test_who_says_nothing_makes_room_once_it_has_had_its_time() -> None:
    house = House(2)
    first, second = house.enter(None, 2)
    house.now += FIRST_REQUEST_SECONDS - 0.1
    assert house.enter(None, 1) == []
    house.crowd.works(first)
    house.now += 0.1
    assert len(house.ask(None)) == 1
    assert [guest.ended for guest in (first, second)] == [False, True]
    assert house.enter(None, 1) == []


def test_who_has_most_connections_makes_room_first() -> None:
    house = House(6)
    (longest,) = house.ask("192.0.2.1")
    many = house.ask("192.0.2.2", 3)
    some = house.ask("192.0.2.3", 2)
    for guest in (longest, *some, *many):
        house.crowd.rests(guest)
    assert len(house.ask("192.0.2.4")) == 1
    assert [guest.ended for guest in (longest, *some, *many)] == [False, False, False, True, False, False]
    # Now two have two: of those the one that rests longest.
    assert len(house.ask("192.0.2.5")) == 1
    assert [guest.ended for guest in (longest, *some)] == [False, True, False]


def test_a_stranger_with_as_many_idle_connections_as_they_like_keeps_nobody_out() -> None:
    """From two addresses, which have half each, and come again at once whenever one is ended."""
    house = House(20)
    house.now += 100
    held = [(guest, address) for address in ("192.0.2.1", "192.0.2.2") for guest in house.enter(address, 10)]
    house.now += FIRST_REQUEST_SECONDS
    for number in range(15):
        assert len(house.enter(f"198.51.100.{number}", 1)) == 1
        for _, address in [each for each in held if each[0].ended]:
            house.enter(address, 1)


def test_whoever_has_idle_ones_takes_no_others_place_too() -> None:
    house = House(4)
    (rests,) = house.ask("192.0.2.1")
    house.crowd.rests(rests)
    at_work = house.ask("192.0.2.3")
    (silent,) = house.enter("192.0.2.2", 1)
    house.ask("192.0.2.3")
    assert house.enter("192.0.2.2", 1) == []
    house.crowd.works(silent)
    assert len(house.enter("192.0.2.2", 1)) == 1
    assert [guest.ended for guest in (rests, silent, *at_work)] == [True, False, False]


def test_who_has_the_half_makes_room_itself() -> None:
    house = House(4)
    (other,) = house.ask("192.0.2.2")
    first, second = house.ask("192.0.2.1", 2)
    for guest in (other, first, second):
        house.crowd.rests(guest)
    assert len(house.ask("192.0.2.1")) == 1
    assert [guest.ended for guest in (other, first, second)] == [False, True, False]


def test_who_left_waits_no_more() -> None:
    house = House(1)
    (gone,) = house.enter(None, 1)
    house.crowd.leave(gone)
    house.crowd.rests(gone)
    house.now += FIRST_REQUEST_SECONDS
    assert len(house.ask(None)) == 1
    assert not gone.ended
    assert house.enter(None, 1) == []
