"""What counts against the quotas, and when it stops counting."""

import pytest

from unibus.errors import QuotaExceeded, TooLarge
from unibus.services.blob_quota import OVERHEAD, BlobLimits, Ledger
from unibus.store.blob_port import Place

ONE = 1000 + OVERHEAD


def place(owner: str, blob: str = "x") -> Place:
    return Place("room", blob, owner)


def test_a_user_has_so_much_and_no_more() -> None:
    ledger = Ledger(BlobLimits(blob=1000, user=2 * ONE, total=100 * ONE))
    assert ledger.reserve(place("ada", "1"), 1000)
    assert ledger.reserve(place("ada", "2"), 1000)
    with pytest.raises(QuotaExceeded, match="you may store 0 bytes more"):
        ledger.reserve(place("ada", "3"), 1)
    assert ledger.reserve(place("bob", "3"), 1)
    ledger.release(place("ada", "1"))
    ledger.release(place("ada", "1"))
    assert ledger.reserve(place("ada", "3"), 1000)


def test_all_together_have_so_much_and_no_more() -> None:
    ledger = Ledger(BlobLimits(blob=1000, user=2 * ONE, total=2 * ONE))
    ledger.reserve(place("ada"), 1000)
    ledger.reserve(place("bob"), 1000)
    with pytest.raises(QuotaExceeded, match="the bus"):
        ledger.reserve(place("cyd"), 1)
    assert ledger.total == 2 * ONE


def test_begun_again_it_counts_once() -> None:
    ledger = Ledger(BlobLimits(blob=1000, user=ONE, total=ONE))
    assert ledger.reserve(place("ada"), 1000)
    assert not ledger.reserve(place("ada"), 1000)
    assert ledger.total == ONE


def test_one_blob_has_its_own_limit() -> None:
    ledger = Ledger(BlobLimits(blob=1000))
    with pytest.raises(TooLarge, match="1000"):
        ledger.reserve(place("ada"), 1001)
    assert ledger.total == 0


def test_what_is_there_counts_beyond_any_limit() -> None:
    ledger = Ledger(BlobLimits(blob=1, user=1, total=1))
    ledger.note(place("ada"), 1000)
    assert ledger.total == ONE
    with pytest.raises(QuotaExceeded, match="you may store 0 bytes more"):
        ledger.reserve(place("ada", "2"), 1)
    ledger.release(place("ada"))
    assert ledger.total == 0
