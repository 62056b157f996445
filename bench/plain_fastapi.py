"""What it is compared with: validation as somebody who knows FastAPI would write it, in a page.

One point read of Table Storage and one signature a request; nothing kept, no rules, no versions.
Run as `uvicorn bench.plain_fastapi:app` with STORAGE, STORAGE_TABLE and SIGNING_KEY_FILE in the environment.
"""

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

import jwt
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables.aio import TableClient
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(min_length=1, max_length=128)]


class AskedProduct(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, protected_namespaces=())

    product_name: Name
    model_name: str | None = None
    model_version: str | None = None
    is_installed: bool | None = None
    is_enabled: bool | None = None
    enabled_users_count: int | None = None


class ValidationRequest(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    publisher_id: UUID
    serial_number: Name
    nonce: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,128}$")]
    host_url: str | None = None
    is_production_environment: bool | None = None
    products: Annotated[list[AskedProduct], Field(min_length=1, max_length=200)]


def load_key() -> PrivateKeyTypes:
    return load_pem_private_key(Path(os.environ["SIGNING_KEY_FILE"]).read_bytes(), password=None)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.key = load_key()
    table = TableClient.from_connection_string(os.environ["STORAGE"], os.environ["STORAGE_TABLE"])
    async with table as app.state.table:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/api/v1/licenses/validate")
async def validate(asked: ValidationRequest, request: Request) -> Response:
    try:
        environment = await request.app.state.table.get_entity(str(asked.publisher_id), asked.serial_number)
    except ResourceNotFoundError:
        raise HTTPException(404) from None
    licensed = {product["productName"]: product for product in json.loads(environment["products"])}
    now = int(time.time())
    reply = {
        "iss": "http://127.0.0.1",
        "aud": str(asked.publisher_id),
        "sub": asked.serial_number,
        "nonce": asked.nonce,
        "jti": str(uuid4()),
        "ver": 1,
        "iat": now,
        "refreshAfter": now + 24 * 3600,
        "exp": now + 7 * 24 * 3600,
        "stale": False,
        "products": [licensed.get(product.product_name) for product in asked.products],
        "notices": [],
    }
    token = jwt.encode(reply, request.app.state.key, algorithm="RS256", headers={"typ": "license-reply+jwt"})
    return Response(token, media_type="application/jose", headers={"Cache-Control": "no-store"})
