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


class CallerKind(StrEnum):
    ANONYMOUS = "anybody"
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

    caller_kind: CallerKind
    view: View | None = None
    privilege: Privilege | None = None

    def __str__(self) -> str:
        return f"{self.view}: {self.privilege}" if self.caller_kind is CallerKind.USER else str(self.caller_kind)


ANONYMOUS = Access(CallerKind.ANONYMOUS)
SIGNED_IN = Access(CallerKind.SIGNED_IN)
ORGANIZATION_ADMIN = Access(CallerKind.ORGANIZATION_ADMIN)
GLOBAL_ADMIN = Access(CallerKind.GLOBAL_ADMIN)


def requires(view: View, privilege: Privilege) -> Access:
    """Who has that privilege in that view of the publisher."""
    return Access(CallerKind.USER, view, privilege)
