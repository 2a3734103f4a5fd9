"""The status of a batch. The shop's database may know more labels than the four that every shop has."""

from enum import StrEnum


class Status(StrEnum):
    """Where stock is on its way from an order to a customer."""

    ToOrder = "ToOrder"
    Ordered = "Ordered"
    Arrived = "Arrived"
    Sold = "Sold"

    @classmethod
    def _missing_(cls, value: object) -> "Status":
        """A label of this database beyond the four: the schema has checked it against the database's own."""
        member = str.__new__(cls, value)
        member._name_ = member._value_ = str(value)
        return member
