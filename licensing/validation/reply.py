"""The claims of a validation's reply (docs/protocol.md): what the caller will verify, and nothing else."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from licensing.catalogue.dates import Dates
from licensing.catalogue.environment_cache import Snapshot
from licensing.fields import instant
from licensing.notices.message_text import title_of
from licensing.notices.model import Notice, concerns, is_relevant
from licensing.settings import Settings
from licensing.validation.license_file import LicenseFile
from licensing.validation.model import ACTIONS, Decision, boundaries_of, decide, sentence
from licensing.validation.request import ProductQuery, ValidationRequest

REPLY_TYPE = "license-reply+jwt"
LICENSE_FILE_TYPE = "license-file+jwt"
_HOUR_SECONDS, _DAY_SECONDS = 3600, 86400


def claims(  # noqa: PLR0913 - what a reply is made of
    request: ValidationRequest,
    snapshot: Snapshot,
    decisions: Sequence[Decision],
    *,
    settings: Settings,
    now: datetime,
    reply_id: str,
    license_file: LicenseFile | None = None,
) -> bytes:
    """The claims as JSON. `decisions` are in the order of the products asked for.

    Those of a license file where one is given. It answers nobody's question, so it repeats no nonce.
    """
    publisher = snapshot.state.publisher
    page = f"{settings.public_url}/status/{publisher.id}"
    issued_at = int(now.timestamp())
    expires_at = issued_at + round(settings.reply_days * _DAY_SECONDS)
    refresh_after = issued_at + round(settings.refresh_after_hours * _HOUR_SECONDS)
    if license_file is not None:
        expires_at = refresh_after = int(license_file.expires_at.timestamp())
    span = Dates.at(now), Dates.at(datetime.fromtimestamp(expires_at - 1, UTC))
    support_email = publisher.support_email or settings.support_email
    payload = {
        "iss": settings.public_url,
        "aud": request.publisher_id,
        "sub": request.serial_number,
        **({"nonce": request.nonce} if license_file is None else {}),
        "jti": reply_id,
        "ver": 1,
        "iat": issued_at,
        "refreshAfter": refresh_after,
        "exp": expires_at,
        "stale": snapshot.stale,
        "supportEmail": support_email,
        "products": [
            _product(query, decision, snapshot, span, support_email)
            for query, decision in zip(request.products, decisions, strict=True)
        ],
        "notices": [_notice(notice, page) for notice in _told(snapshot, decisions, now)],
    }
    return to_json(payload)


def _product(
    query: ProductQuery, decision: Decision, snapshot: Snapshot, span: tuple[Dates, Dates], support_email: str
) -> dict[str, Any]:
    status, warnings, product, license_ = decision
    contact = (product and product.support_email) or support_email
    # Each enum as a plain text: to JSON they are slow.
    return {
        "productName": query["productName"],
        "status": str(status),
        "action": str(ACTIONS[status]),
        "warnings": warnings,
        "message": sentence(decision, query["productName"], contact),
        "licenseType": str(license_.license_type) if license_ else None,
        "siteLicense": license_.site_license if license_ else None,
        "numberOfUsers": license_.number_of_users if license_ else None,
        "startDate": license_.start_date if license_ else None,
        "endDate": license_.end_date if license_ else None,
        "featureDisableDate": license_.feature_disable_date if license_ else None,
        "changes": _changes(query, decision, snapshot, span, contact),
        "publisherName": snapshot.state.publisher.name,
        "termsUrl": (product and product.terms_url) or None,
        "userGuideUrl": (product and product.user_guide_url) or None,
        "releaseNotesUrl": (product and product.release_notes_url) or None,
        "supportEmail": (product and product.support_email) or None,
    }


def _changes(
    query: ProductQuery, decision: Decision, snapshot: Snapshot, span: tuple[Dates, Dates], contact: str
) -> list[dict[str, Any]]:
    """The instants in the span at which status, action or message changes by date alone. Most replies have none."""
    product = decision.product
    licenses = snapshot.licenses.get(product.id, ()) if product else ()
    instants = boundaries_of(licenses, *span)
    if not instants:
        return []
    name, users = query["productName"], query.get("enabledUsersCount")
    before = decision.status, sentence(decision, name, contact)
    changes = []
    for at in instants:
        decided = decide(product, snapshot.environment, licenses, dates=Dates.at(at), enabled_users_count=users)
        after = decided.status, sentence(decided, name, contact)
        if after != before:
            status, message = before = after
            change = {
                "at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                "status": str(status),
                "action": str(ACTIONS[status]),
                "message": message,
            }
            changes.append(change)
    return changes


def _told(snapshot: Snapshot, decisions: Sequence[Decision], now: datetime) -> Iterator[Notice]:
    """The notices that are open, or start soon, of the products that were asked for."""
    notices = snapshot.state.others.get(Notice, ())
    if notices:
        product_ids = {decision.product.id for decision in decisions if decision.product is not None}
        yield from (each for each in notices if is_relevant(each, now) and concerns(each, product_ids))


def _notice(notice: Notice, page: str) -> dict[str, Any]:
    return {
        "id": notice.id,
        "title": title_of(notice),
        "kind": notice.notice_kind,
        "status": notice.status,
        "startsAt": notice.starts_at and instant(notice.starts_at),
        "endsAt": notice.ends_at and instant(notice.ends_at),
        "url": f"{page}#{notice.id}",
    }
