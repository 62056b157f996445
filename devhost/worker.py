"""Microsoft's worker, without the gRPC between it and its host: load a function app, call a function.

The worker's messages are protobuf, from a module that it is given. Plain classes do in its place, and
calls go through the worker's entry that needs none.
"""

import asyncio
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.cookies import Morsel
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import azure_functions_runtime as runtime
from azure_functions_runtime.bindings.datumdef import Datum
from azure_functions_runtime.native_invocation import invocation_request_native

from devhost.errors import StartError

logger = logging.getLogger("devhost")

# The worker gives these away as they are: what follows them in an ImportError is its own sys.path and a link.
_NOISE = re.compile(r"\.? Cannot find module\. .*", re.DOTALL)


class _StatusResult(SimpleNamespace):
    Failure, Success = "Failure", "Success"


class _BindingInfo(SimpleNamespace):
    undefined, out, inout = None, 1, 2


_PROTOS = SimpleNamespace(
    BindingInfo=_BindingInfo,
    FunctionMetadataResponse=SimpleNamespace,
    RpcException=SimpleNamespace,
    RpcFunctionMetadata=SimpleNamespace,
    RpcRetryOptions=SimpleNamespace,
    StatusResult=_StatusResult,
    WorkerInitResponse=SimpleNamespace,
    WorkerMetadata=SimpleNamespace,
)


@dataclass(frozen=True)
class Function:
    """One function of the app: its trigger as the decorators describe it, and the names of its parameters."""

    name: str
    id: str
    trigger: Mapping[str, Any]

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True)
class Request:
    """What a caller asks, as the worker wants it: header names in lower case, one value for each name."""

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    parameters: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Response:
    """What a caller gets."""

    status: int
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""


class Worker:
    """A loaded function app. Call it from the loop it was loaded on."""

    def __init__(self, functions: Sequence[Function], timeout_seconds: float | None) -> None:
        self.functions = functions
        self._timeout_seconds = timeout_seconds
        # Invocations are GUIDs, in Azure too; those of one run of the host begin alike and are counted.
        self._run = str(uuid4())[:-12]
        self._invocations = itertools.count(1)

    @classmethod
    async def load(cls, app_folder: Path, timeout_seconds: float | None) -> "Worker":
        """Import the app and index its functions. Raises StartError that says what is wrong with the app."""
        os.chdir(app_folder)
        sys.path.insert(0, str(app_folder))
        runtime.start_threadpool_executor()
        init = SimpleNamespace(capabilities={}, function_app_directory=str(app_folder))
        request = SimpleNamespace(
            request=SimpleNamespace(worker_init_request=init),
            properties={"host": "127.0.0.1", "protos": _PROTOS},
        )
        worker_log = logging.getLogger("azure.functions")
        worker_log.disabled = True  # what goes wrong here comes back in the result
        result = (await runtime.worker_init_request(request)).result
        worker_log.disabled = False
        if result.status != _StatusResult.Success:
            raise StartError(_explain(result.exception, app_folder))
        metadata = (await runtime.functions_metadata_request(request)).function_metadata_results
        if not metadata:
            script = os.environ.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")
            raise StartError(f"There are no functions: {app_folder / script} is missing or registers none.")
        return cls([_read_function(found) for found in metadata], timeout_seconds)

    async def answer(self, function: Function, request: Request) -> Response:
        """Return what an HTTP function answers: 500 without a word where it fails."""
        datum = Datum(
            {
                "method": Datum(request.method, "string"),
                "url": Datum(request.url, "string"),
                "headers": _strings(request.headers),
                "query": _strings(request.query),
                "params": _strings(request.parameters),
                "body": Datum(request.body, "bytes"),
            },
            "http",
        )
        traceparent = request.headers.get("traceparent", "")
        done, returned = await self.invoke(function, datum, traceparent=traceparent)
        if not done:
            return Response(500)
        try:
            return _read_response(returned)
        except (ValueError, TypeError, AttributeError) as error:
            logger.error("%s answered what HTTP cannot carry: %s", function, error)  # noqa: TRY400 - not a fault of ours
            return Response(500)

    async def invoke(self, function: Function, value: Datum, *, traceparent: str = "") -> tuple[bool, Any]:
        """Call a function with what triggered it; return whether it ended well, and what it returned, if anything.

        Raises nothing that a function raises: the worker has logged its traceback.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                done, returned, outputs, _, _ = await invocation_request_native(
                    f"{self._run}{next(self._invocations):012x}",
                    function.id,
                    [(function.trigger["name"], value)],
                    {},
                    traceparent,
                )
        except TimeoutError:
            # A thread cannot be stopped: where a `def` function hangs, its thread stays lost to the pool.
            logger.error("%s was given up after %s s (functionTimeout).", function, self._timeout_seconds)  # noqa: TRY400
            return False, None
        except BaseException as error:
            # SystemExit, CancelledError and their like end a function, not the host; but the host may cancel us.
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            logger.exception("%s ended with %s", function, type(error).__name__)
            return False, None
        if returned is None and outputs:
            returned = outputs[0][1]
        return done, returned


def _strings(values: Mapping[str, str]) -> dict[str, Datum]:
    return {name: Datum(value, "string") for name, value in values.items()}


def _read_function(metadata: SimpleNamespace) -> Function:
    bindings = [json.loads(binding) for binding in metadata.raw_bindings]
    trigger = next(binding for binding in bindings if binding["type"].endswith("Trigger"))
    unknown = {binding["type"] for binding in bindings} - {"httpTrigger", "http", "timerTrigger"}
    if unknown:
        raise StartError(f"{metadata.name}: bindings of type {', '.join(sorted(unknown))} are not known to this host.")
    return Function(metadata.name, metadata.function_id, trigger)


def _explain(exception: SimpleNamespace, app_folder: Path) -> str:
    """Return the message of a failed load, and the line of the app where it happened, if it is one."""
    message = _NOISE.sub("", exception.message).strip()
    places = re.findall(rf'File "({re.escape(str(app_folder))}/[^"]+)", line (\d+)', exception.stack_trace)
    where = "{}:{}: ".format(*places[-1]) if places else ""
    return f"The function app cannot be loaded: {where}{message}"


def _read_response(datum: Datum | None) -> Response:
    if datum is None:
        return Response(204)
    if datum.type != "http":
        body = datum.value.encode() if isinstance(datum.value, str) else bytes(datum.value)
        return Response(200, [(b"content-type", b"text/plain; charset=utf-8")], body)
    value = datum.value
    status = int(value["status_code"].value)
    if not 200 <= status <= 599:  # noqa: PLR2004 - what a final status may be (RFC 9110, section 15)
        raise ValueError(f"status {status}")
    headers = [(name.lower().encode("ascii"), text.value.encode("latin-1")) for name, text in value["headers"].items()]
    for cookies in value["cookies"] or ():
        headers.extend((b"set-cookie", _write_cookie(morsel)) for morsel in cookies.values())
    return Response(status, headers, value["body"].value)


def _write_cookie(morsel: Morsel[str]) -> bytes:
    # ASP.NET escapes a cookie's value, whatever it holds.
    morsel.set(morsel.key, morsel.value, quote(morsel.value, safe=""))
    return morsel.OutputString().encode("latin-1")
