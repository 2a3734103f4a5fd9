"""Where requests begin."""

import pytest

from bench.client import around, drawn
from bench.errors import BenchError
from bench.operations import Place

EVERY = [Place(f"cursor {number}", "fan", str(number)) for number in range(100)]


def test_every_place_that_is_drawn_has_a_whole_page_behind_it() -> None:
    assert max(int(place.id) for place in drawn(EVERY, page=90)) == 100 - 90 - 1


def test_a_shop_without_a_whole_page_behind_any_item_is_refused() -> None:
    with pytest.raises(BenchError, match=r"100 items, and none has a page of 100 behind it"):
        drawn(EVERY, page=100)


def test_odd_items_are_asked_for_themselves_and_begin_a_page() -> None:
    found = around(EVERY, ["7", "0", "95"], page=90)
    assert [place.id for place in found] == ["0", "0", "6", "7"]
