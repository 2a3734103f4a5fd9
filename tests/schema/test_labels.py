"""What the database's labels are called in GraphQL."""

import pytest
from graphql import assert_enum_value_name
from hypothesis import given
from hypothesis import strategies as st

from schema.labels import labels_by_name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Lost", "Lost"),
        ("LOST_2", "LOST_2"),
        ("_lost", "_lost"),
        ("In transit", "In_transit"),
        ("in-transit (sea)", "in_transit_sea"),
        ("Gestört", "Gestort"),
        ("2nd hand", "Status_2nd_hand"),
        ("null", "Status_null"),
        ("__lost", "lost"),
        ("到着", "Status_"),
        ("", "Status_"),
    ],
)
def test_a_label_is_called(label: str, name: str) -> None:
    assert labels_by_name([label])[name] == label


def test_the_four_are_always_there_and_come_first() -> None:
    assert list(labels_by_name(["Lost", "Sold"])) == ["ToOrder", "Ordered", "Arrived", "Sold", "Lost"]


def test_a_name_that_is_taken_is_numbered_and_the_label_that_is_its_own_name_keeps_it() -> None:
    names = labels_by_name(["In transit", "In_transit", "in transit", "In  transit", "Sold!"])
    assert names["In_transit"] == "In_transit"
    assert names["In_transit_2"] == "In transit"
    assert names["In_transit_3"] == "In  transit"
    assert names["in_transit"] == "in transit"
    assert names["Sold_2"] == "Sold!"


@given(st.lists(st.text(max_size=8), unique=True, max_size=12))
def test_every_label_has_a_name_of_its_own_that_graphql_takes(labels: list[str]) -> None:
    names = labels_by_name(labels)
    assert sorted(names.values()) == sorted({*labels, "ToOrder", "Ordered", "Arrived", "Sold"})
    for name in names:
        assert_enum_value_name(name)
        assert not name.startswith("__")
