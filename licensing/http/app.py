"""The function app: registers endpoints and timers as Azure functions."""

from collections.abc import Callable
from typing import Any

import azure.functions as func

from licensing.http import pipeline
from licensing.http.endpoints import Endpoint, Endpoints, Timer
from licensing.http.request import Services


class App(func.FunctionApp):
    """A function app in which every HTTP function declares who may call it."""

    def __init__(self, services: Callable[[], Services]) -> None:
        """`services` is called for each request and for each registered timer. It may raise ConfigurationError."""
        super().__init__()
        self._services = services
        self._declared: set[str] = set()

    def register(self, endpoints: Endpoints) -> None:
        """Add the functions of a feature."""
        for endpoint in endpoints.endpoints:
            self._add_endpoint(endpoint)
        for timer in endpoints.timers:
            self._add_timer(timer)

    def get_functions(self) -> list[Any]:
        """All functions. Raises AssertionError for an HTTP function that was not added by `register`."""
        functions: list[Any] = super().get_functions()
        for function in functions:
            name, trigger = function.get_function_name(), function.get_trigger()
            if trigger.get_binding_name() == "httpTrigger" and name not in self._declared:
                raise AssertionError(f"{name} does not declare who may call it: register it as an endpoint.")
        return functions

    def _add_endpoint(self, endpoint: Endpoint) -> None:
        route = endpoint.route

        async def function(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
            return await pipeline.serve(endpoint, req, context.invocation_id, self._services)

        self._declared.add(route.name)
        function.__name__ = function.__qualname__ = route.name
        function.__doc__ = endpoint.handler.__doc__
        self.route(
            route=route.template,
            methods=list(route.methods),
            auth_level=func.AuthLevel.ANONYMOUS,
            trigger_arg_name="req",
        )(self.function_name(route.name)(function))

    def _add_timer(self, declared: Timer) -> None:
        async def function(timer: func.TimerRequest) -> None:  # noqa: ARG001 - Azure passes it by its name
            await declared.handler(self._services())

        function.__name__ = function.__qualname__ = declared.name
        function.__doc__ = declared.handler.__doc__
        schedule = declared.schedule(self._services().settings)
        self.timer_trigger(schedule=schedule, arg_name="timer", run_on_startup=False)(
            self.function_name(declared.name)(function)
        )
