"""Not a license server: the worker, one signature and nothing else. What no function app on this machine can pass."""

import azure.functions as func
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_PADDING = padding.PKCS1v15()
_HASH = hashes.SHA256()
_REPLY = b"x" * 5_700  # as large as a reply for ten products

app = func.FunctionApp()


@app.route(route="api/v1/licenses/validate", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def validate(req: func.HttpRequest) -> func.HttpResponse:
    """The same bytes every time, signed and the signature thrown away."""
    _KEY.sign(req.get_body() + _REPLY, _PADDING, _HASH)
    return func.HttpResponse(_REPLY, mimetype="application/jose")
