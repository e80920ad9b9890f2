"""One plugin, alone in a pluggy manager of its own, so that whatever is wrong with it stays with it."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Iterator, Mapping

import pluggy

from dispy import hookspecs
from dispy.errors import PluginError

TRACE_VARIABLE = "DISPY_TRACE_HOOKS"
"""If this is set to ``1`` when a plugin is loaded, each call of its hooks is printed to standard error."""

_logger = logging.getLogger("dispy")


class Plugged:
    """A plugin and the hooks that it implements.

    Attributes:
        name: name of its entry point, or of the plugin object.
        dist: its distribution; empty if it was passed in by the program.
        version: version of its distribution; empty if that is not known.
        content: the module or object that has the hooks; None before `attach` succeeds.
        hooks: names of the hooks that it implements, sorted; empty before `attach` succeeds.
        errors: why it, or something that it offers, is not used; in the order found.
    """

    def __init__(self, name: str, dist: str = "", version: str = "") -> None:
        self.name = name
        self.dist = dist
        self.version = version
        self.content: object = None
        self.hooks: tuple[str, ...] = ()
        self.errors: list[str] = []
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)

    def __str__(self) -> str:
        origin = f"{self.dist} {self.version}".strip()
        return f"plugin {self.name!r} of {origin}" if origin else f"plugin {self.name!r}"

    def attach(self, content: object) -> None:
        """Take the hooks of a module or object.

        Raises:
            PluginError: it has none, or one of them does not fit its specification.
        """
        manager = self._pluggy
        manager.add_hookspecs(hookspecs)
        hooks = tuple(sorted(self._checked_hooks(content)))
        if not hooks:
            raise PluginError(f"{self} has no hooks: mark its functions with dispy.hookspecs.hookimpl")
        try:
            manager.register(content, name=self.name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{self} does not fit the hooks of this dispy: {error}") from error
        if os.environ.get(TRACE_VARIABLE) == "1":
            self._trace()
        self.content, self.hooks = content, hooks

    def call(self, hook: str, **arguments: object) -> list[object]:
        """Call a hook; return its answer in a list, or an empty one for None. Raises what the plugin raises."""
        answers: list[object] = getattr(self._pluggy.hook, hook)(**arguments)
        return answers

    def set_aside(self, reason: str) -> None:
        """Note and log that the plugin, or something that it offers, is not used."""
        if reason not in self.errors:
            self.errors.append(reason)
            _logger.warning("%s is not used: %s", self, reason)

    def _checked_hooks(self, content: object) -> Iterator[str]:
        for name in dir(content):
            options = self._pluggy.parse_hookimpl_opts(content, name)
            if options is None:
                continue
            function = getattr(content, name)
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                raise PluginError(
                    f"{self}: {name} is an async function; hooks are plain functions: let it return a class "
                    "whose methods are async"
                )
            if options["hookwrapper"] or options["wrapper"]:
                raise PluginError(f"{self}: {name} is a wrapper; plugins cannot wrap the hooks of others")
            yield name

    def _trace(self) -> None:
        def before(hook_name: str, _impls: object, kwargs: Mapping[str, object]) -> None:
            arguments = ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
            print(f"hook: {self}: {hook_name}({arguments})", file=sys.stderr)

        def after(outcome: pluggy.Result[object], hook_name: str, _impls: object, _kwargs: object) -> None:
            error = outcome.exception
            ending = f"raised {error!r}" if error else f"gave {outcome.get_result()!r}"
            print(f"hook: {self}: {hook_name} {ending}", file=sys.stderr)

        self._pluggy.add_hookcall_monitoring(before, after)
