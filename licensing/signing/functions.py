"""Public endpoints of the public keys."""

import json

from licensing.errors import NotFound
from licensing.http.endpoints import Endpoints
from licensing.http.permissions import ANONYMOUS
from licensing.http.request import Request
from licensing.http.response import Response
from licensing.signing.service import Signer

endpoints = Endpoints()

# Clients that meet a key they do not know ask anew; the others need not ask more often than this.
_HEADERS = {"Cache-Control": "public, max-age=300"}


def _jwk_set(request: Request) -> Response:
    document = request.services.get(Signer).jwk_set(request.services.clock())
    return Response(json.dumps(document).encode(), "application/jwk-set+json", headers=_HEADERS)


@endpoints.route("GET", ".well-known/jwks.json", ANONYMOUS)
async def well_known_keys(request: Request) -> Response:
    """Every published key as a JWK Set (RFC 7517), where OpenID clients look for it."""
    return _jwk_set(request)


@endpoints.route("GET", "api/v1/keys", ANONYMOUS)
async def list_keys(request: Request) -> Response:
    """Every published key as a JWK Set (RFC 7517)."""
    return _jwk_set(request)


# One function for `signed`, `{kid}.pem` and `{kid}.xml`: Azure picks among routes that overlap by the functions'
# names, and is known not to match a dot between a parameter and an extension (Azure/azure-functions-host#9876,
# Azure/azure-webjobs-sdk-extensions#547).
@endpoints.route("GET", "api/v1/keys/{file}", ANONYMOUS)
async def get_key_file(request: Request) -> Response:
    """The signed JWK Set, or one published key as PEM or as .NET's XML. Raises NotFound."""
    signer, now = request.services.get(Signer), request.services.clock()
    match request.route_params["file"].rpartition("."):
        case ("", "", "signed"):
            signed = signer.signed_jwk_set(now, request.services.settings.public_url)
            return Response(signed, "application/jose", headers=_HEADERS)
        case (kid, ".", "pem"):
            return Response(signer.public_pem(kid, now).encode(), "application/x-pem-file", headers=_HEADERS)
        case (kid, ".", "xml"):
            return Response(signer.public_xml(kid, now).encode(), "application/xml", headers=_HEADERS)
        case _:
            raise NotFound("Ask for keys/signed, keys/{kid}.pem or keys/{kid}.xml.")
