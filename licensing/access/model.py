"""Who is calling, and what they may do. Pure: default is deny."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from licensing.catalogue.records import Publisher, Role, User
from licensing.catalogue.rules import may_sign_in
from licensing.errors import Forbidden, PublisherNotFound
from licensing.http.permissions import Caller, Identity, Privilege, View
from licensing.identifiers import fold

GLOBAL_ADMIN_ROLE = "GlobalAdmin"
"""The app role of those who host the service. It counts in a token of the service's own directory only: in any other,
whoever administers that directory could give it to themselves."""


def caller_of(identity: Identity, own_directory_id: str) -> Caller:
    """The caller, before any publisher is looked at."""
    in_directory = bool(own_directory_id) and identity.directory_id == own_directory_id
    return Caller(identity, is_global_admin=in_directory and GLOBAL_ADMIN_ROLE in identity.roles)


def belongs_to_directory(identity: Identity, publisher: Publisher, own_directory_id: str) -> bool:
    """Whether the caller is of the directory whose people and applications may be users of the publisher."""
    return identity.directory_id == (publisher.directory_id or own_directory_id)


def find_user(identity: Identity, users: Iterable[User]) -> User | None:
    """Who the caller is among the users of a publisher: bound to them already, or of their address or application.

    The publisher's directory must be the caller's: in another, anybody may have that address.
    """
    of_the_same_name = None
    for user in users:
        if user.identity == identity.key:
            return user
        if identity.is_application:
            is_named = user.application_id != "" and user.application_id == identity.application_id
        else:
            is_named = user.email != "" and fold(user.email) == fold(identity.email)
        if is_named:
            of_the_same_name = user
    return of_the_same_name


def privileges_of(user: User, roles: Mapping[str, Role]) -> dict[View, Privilege]:
    """The highest privilege that the user's roles give, in each view in which they give one."""
    if user.organization_admin:
        return dict.fromkeys(View, Privilege.DELETE)
    best: dict[View, Privilege] = {}
    for role_id in user.role_ids:
        for view, privilege in roles[role_id].privileges.items() if role_id in roles else ():
            if view not in best or privilege.includes(best[view]):
                best[view] = privilege
    return best


def authorize_in_publisher(
    caller: Caller, publisher: Publisher, user: User | None, roles: Mapping[str, Role]
) -> Caller:
    """The caller as a user of the publisher.

    Raises PublisherNotFound for who has nothing to do with it, and Forbidden for a user who may not come in.
    """
    if caller.is_global_admin:
        return replace(caller, privileges=dict.fromkeys(View, Privilege.DELETE))
    if user is None:
        raise PublisherNotFound("No publisher of this id is known here. Check the publisherId.")
    if user.identity not in ("", caller.identity.key):
        raise Forbidden(
            "This address belonged to another account when it was first used here. Ask an organization admin to "
            "delete the user and to add it again."
        )
    if not user.active:
        raise Forbidden("Your user is switched off. Ask an organization admin of the publisher.")
    if not may_sign_in(user, publisher):
        raise Forbidden("The publisher has no users of your email's domain any more. Ask a global admin.")
    return replace(caller, has_organization_admin_flag=user.organization_admin, privileges=privileges_of(user, roles))
