"""Replies that are signed together: each gets its own, and nobody holds the others up."""

import asyncio
import json
from typing import Any

import jwt
import pytest

from licensing.signing.keys import KeySet
from licensing.signing.service import Signer
from tests.vectors import make


def claims(number: int) -> bytes:
    return json.dumps({"number": number}).encode()


async def test_sign_together_returns_each_caller_the_signature_of_its_claims(key_set: KeySet) -> None:
    signer = Signer(key_set)
    tokens = await asyncio.gather(*(signer.sign_together(claims(number), make.TYPE) for number in range(50)))
    read = [jwt.decode(token, key_set.current.public_key, algorithms=["RS256"]) for token in tokens]
    assert read == [{"number": number} for number in range(50)]
    assert tokens == [signer.sign(claims(number), make.TYPE) for number in range(50)]


async def test_sign_together_when_one_call_fails_signs_the_others(
    key_set: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer(key_set)
    sign = signer.sign

    def fail_once(claims_json: bytes, typ: str) -> bytes:
        if claims_json == claims(1):
            raise MemoryError
        return sign(claims_json, typ)

    monkeypatch.setattr(signer, "sign", fail_once)
    asked = [signer.sign_together(claims(number), make.TYPE) for number in range(3)]
    first, second, third = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(second, MemoryError)
    assert (first, third) == (sign(claims(0), make.TYPE), sign(claims(2), make.TYPE))
    assert await signer.sign_together(claims(4), make.TYPE) == sign(claims(4), make.TYPE)


async def test_sign_together_skips_cancelled_calls(key_set: KeySet, monkeypatch: pytest.MonkeyPatch) -> None:
    signer, signed = Signer(key_set), list[bytes]()

    def note(claims_json: bytes, _typ: str) -> bytes:
        signed.append(claims_json)
        return claims_json

    monkeypatch.setattr(signer, "sign", note)
    tasks = [asyncio.create_task(signer.sign_together(claims(number), make.TYPE)) for number in range(3)]
    asyncio.get_running_loop().call_soon(tasks[1].cancel)
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    assert signed == [claims(0), claims(2)]


async def test_sign_together_yields_to_event_loop_after_16_signatures(key_set: KeySet) -> None:
    signer, at_a_time = Signer(key_set), list[int]()
    tasks: list[asyncio.Task[Any]] = [
        asyncio.create_task(signer.sign_together(claims(number), make.TYPE)) for number in range(100)
    ]
    seen = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        done = sum(task.done() for task in tasks)
        at_a_time.append(done - seen)
        seen = done
    assert max(at_a_time) == 16
