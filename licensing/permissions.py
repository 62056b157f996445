"""Who may come through a door: what every function declares, and what a role gives (docs/administration.md).

A privilege includes those before it: who may delete may also create, update and read.
"""

from dataclasses import dataclass
from enum import StrEnum


class View(StrEnum):
    """A part of the records, as licensing personnel see them."""

    PRODUCTS = "products"
    CUSTOMERS = "customers"
    CUSTOMER_PRODUCTS = "customerProducts"
    ENVIRONMENTS = "environments"
    REPORTS = "reports"
    NOTICES = "notices"
    USERS = "users"


class Privilege(StrEnum):
    """What may be done in a view, least first."""

    READ = "read"
    UPDATE = "update"
    CREATE = "create"
    DELETE = "delete"

    def includes(self, other: "Privilege") -> bool:
        order = list(Privilege)
        return order.index(self) >= order.index(other)


class Who(StrEnum):
    ANYBODY = "anybody"
    """No token is asked for, and none is looked at."""
    SIGNED_IN = "signed in"
    """Anybody with a token that counts."""
    USER = "user"
    """A user of the publisher with a privilege, its organization admins, and global admins."""
    ORGANIZATION_ADMIN = "organization admin"
    GLOBAL_ADMIN = "global admin"


@dataclass(frozen=True, slots=True)
class Access:
    """What a door asks of who comes. `view` and `privilege` where it asks for a user."""

    who: Who
    view: View | None = None
    privilege: Privilege | None = None

    def __str__(self) -> str:
        return f"{self.view}: {self.privilege}" if self.who is Who.USER else str(self.who)


ANYBODY = Access(Who.ANYBODY)
SIGNED_IN = Access(Who.SIGNED_IN)
ORGANIZATION_ADMIN = Access(Who.ORGANIZATION_ADMIN)
GLOBAL_ADMIN = Access(Who.GLOBAL_ADMIN)


def may(view: View, privilege: Privilege) -> Access:
    """Who has that privilege in that view of the publisher."""
    return Access(Who.USER, view, privilege)
