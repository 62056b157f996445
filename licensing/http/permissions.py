"""Access: what an endpoint requires, who the caller is, and what a role grants (docs/administration.md).

A privilege includes those before it: delete includes create, update and read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from licensing.errors import Forbidden
from licensing.identifiers import fold


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
    ANONYMOUS = "anonymous"
    """No token is required, and none is read."""
    SIGNED_IN = "signed in"
    """A caller with a valid access token."""
    USER = "user"
    """A user of the publisher with a privilege, its organization admins, and global admins."""
    ORGANIZATION_ADMIN = "organization admin"
    GLOBAL_ADMIN = "global admin"


@dataclass(frozen=True, slots=True)
class Access:
    """What an endpoint requires of its caller. `view` and `privilege` are set where it requires a user."""

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
    """Require that privilege in that view of the publisher."""
    return Access(CallerKind.USER, view, privilege)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in, verified. A person or an application is named by `directory_id` and `object_id` together."""

    directory_id: str
    """The Entra directory: a GUID in lower case, as all ids here."""
    object_id: str
    email: str
    """The sign-in name, where it is an address; empty for an application. People can edit the `email` claim: it is
    not read."""
    application_id: str
    """The client id of the program that asked for the token. For an application that is who it is."""
    name: str
    is_application: bool
    """It acts for itself (client credentials), not for a person."""
    roles: frozenset[str]
    """App roles: what the directory's administrators have given out."""

    @property
    def key(self) -> str:
        """A key that stays the same when names and addresses change."""
        return f"{self.directory_id}|{self.object_id}"


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of an endpoint, with its privileges in the publisher that the path names."""

    identity: Identity
    is_global_admin: bool = False
    has_organization_admin_flag: bool = False
    """The caller's user in the publisher is an organization admin."""
    privileges: Mapping[View, Privilege] = field(default_factory=dict)

    @property
    def is_organization_admin(self) -> bool:
        return self.is_global_admin or self.has_organization_admin_flag

    @property
    def actor(self) -> str:
        """The caller as the audit names it."""
        if self.identity.is_application:
            return f"application {self.identity.application_id}"
        return fold(self.identity.email) or f"account {self.identity.object_id}"


def check_access(caller: Caller, access: Access) -> None:
    """Raise Forbidden where the caller does not have this access."""
    if access.caller_kind is CallerKind.SIGNED_IN or caller.is_global_admin:
        return
    if access.caller_kind is CallerKind.ORGANIZATION_ADMIN and caller.is_organization_admin:
        return
    if access.caller_kind is CallerKind.USER and access.view is not None and access.privilege is not None:
        held = caller.privileges.get(access.view)
        if held is not None and held.includes(access.privilege):
            return
        raise Forbidden(f"This needs the privilege {access.privilege} in {access.view}. Ask an organization admin.")
    raise Forbidden(f"Only a {access.caller_kind} may do this.")
