"""Finds plugins and gives out what they offer.

A plugin that is wrong, or that fails in a hook, is set aside: that is logged once (logger ``dispy``), listed by
`PluginManager.describe`, and becomes an exception when somebody asks for it by name. Nothing is looked up when
this module is imported; `PluginManager.load` reads the entry points of the environment.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dispy.builtin import builtin_plugins
from dispy.discovery import Discovery
from dispy.errors import ConflictingInstall, PluginConflict, PluginError, PluginNotInstalled
from dispy.hookspecs import PROJECT, JobEvent, NodeEvent
from dispy.interfaces import (
    Allocator,
    Command,
    Credentials,
    Executor,
    FaultPolicy,
    StreamSecurity,
    Transport,
)
from dispy.offers import Offer, Offers, told
from dispy.plugged import Plugged

ENTRY_POINT_GROUP = PROJECT
CORE_DIST = "dispy-core"

ORIGINAL_DIST = "dispy"
"""Distribution of the original, which owns the import name ``dispy`` too."""

OWN_POLICIES = ("cancel", "rerun")
"""Fault policies that come with dispy, in rising order of preference."""

_logger = logging.getLogger("dispy")


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What is known about a plugin, for ``dispy plugins``; see `dispy.plugged.Plugged`.

    Attributes:
        error: why it, or something that it offers, is not used; empty if all is well.
    """

    name: str
    version: str
    dist: str
    hooks: tuple[str, ...]
    error: str


class PluginManager:
    """All plugins of a process, and what they offer.

    Make one with `load` for each runtime. Classes that plugins offer are made without arguments, once per
    manager, when they are first asked for. It is used by one thread at a time.
    """

    def __init__(self) -> None:
        self._plugins: list[Plugged] = []
        self._failed_observers: set[tuple[str, str]] = set()
        self._forget_offers()

    @classmethod
    def load(
        cls,
        extra_plugins: Iterable[object] = (),
        *,
        entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
    ) -> PluginManager:
        """Take the built-in plugins, the installed ones, and *extra_plugins*.

        An installed plugin that cannot be loaded is set aside.

        Args:
            extra_plugins: modules or objects with hooks; those that are installed too are taken once.
            entry_points: what is installed; None reads the entry points of the environment.

        Raises:
            ConflictingInstall: the original ``dispy`` is in the environment.
            PluginError: one of *extra_plugins* is wrong.
        """
        check_environment()
        manager = cls()
        for name, content in builtin_plugins():
            manager.add(content, name, dist=CORE_DIST)
        if entry_points is None:
            entry_points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
        for entry_point in entry_points:
            manager._add_installed(entry_point)
        for content in extra_plugins:
            manager.add(content)
        return manager

    def add(self, content: object, name: str = "", *, dist: str = "") -> None:
        """Take a plugin; one that is there already is not taken again.

        Args:
            content: a module or object with hooks.
            name: for people; by default the name of the module, or of the object's class.
            dist: the distribution that it belongs to.

        Raises:
            PluginError: it has no hooks, or one of them does not fit its specification.
        """
        if any(plugin.content is content for plugin in self._plugins):
            return
        name = name or getattr(content, "__name__", type(content).__name__)
        plugin = Plugged(name, dist, _version_of(dist))
        plugin.attach(content)
        self._plugins.append(plugin)
        self._forget_offers()

    def _add_installed(self, entry_point: importlib.metadata.EntryPoint) -> None:
        dist = entry_point.dist
        plugin = Plugged(entry_point.name, dist.name if dist else "", dist.version if dist else "")
        self._plugins.append(plugin)
        try:
            plugin.attach(entry_point.load())
        except PluginError as error:
            plugin.set_aside(str(error))
        except Exception as error:  # whatever the plugin's own code raises: the others must go on
            plugin.set_aside(f"it could not be loaded: {told(error)}")

    def _forget_offers(self) -> None:
        self._transport_offers: Offers[Transport] | None = None
        self._security_offers: Offers[StreamSecurity] | None = None
        self._credentials_offers: Offers[Credentials] | None = None
        self._discovery_offers: Offers[Discovery] | None = None
        self._executor_offers: Offers[Executor] | None = None
        self._policy_offers: Offers[FaultPolicy] | None = None
        self._allocator_offers: Offers[Allocator] | None = None
        self._command_offers: Offers[Command] | None = None

    def _transports(self) -> Offers[Transport]:
        if self._transport_offers is None:
            self._transport_offers = Offers("transport", "dispy_register_transport", Transport, self._plugins)
        return self._transport_offers

    def _securities(self) -> Offers[StreamSecurity]:
        if self._security_offers is None:
            self._security_offers = Offers(
                "security", "dispy_register_security", StreamSecurity, self._plugins
            )
        return self._security_offers

    def _credentials(self) -> Offers[Credentials]:
        if self._credentials_offers is None:
            hook = "dispy_register_credentials"
            self._credentials_offers = Offers("credentials", hook, Credentials, self._plugins)
        return self._credentials_offers

    def _discoveries(self) -> Offers[Discovery]:
        if self._discovery_offers is None:
            hook = "dispy_register_discovery"
            self._discovery_offers = Offers("discovery", hook, Discovery, self._plugins)
        return self._discovery_offers

    def _executors(self) -> Offers[Executor]:
        if self._executor_offers is None:
            self._executor_offers = Offers("executor", "dispy_register_executor", Executor, self._plugins)
        return self._executor_offers

    def _policies(self) -> Offers[FaultPolicy]:
        if self._policy_offers is None:
            hook = "dispy_register_fault_policy"
            self._policy_offers = Offers("fault policy", hook, FaultPolicy, self._plugins)
        return self._policy_offers

    def _allocators(self) -> Offers[Allocator]:
        if self._allocator_offers is None:
            hook = "dispy_register_allocator"
            self._allocator_offers = Offers("allocator", hook, Allocator, self._plugins)
        return self._allocator_offers

    def _commands(self) -> Offers[Command]:
        if self._command_offers is None:
            self._command_offers = Offers("command", "dispy_register_command", Command, self._plugins)
        return self._command_offers

    def transport(self, scheme: str) -> Transport:
        """Return the transport for addresses of this scheme.

        Raises:
            PluginNotInstalled: it lives in a distribution that is not installed.
            PluginConflict: two plugins offer it, or it was written for another version of the interface.
            PluginError: no plugin is known to offer it, or the one that does cannot be used.
        """
        return self._transports().get(scheme)

    def security(self, name: str) -> StreamSecurity:
        """Return the way of this name to secure a stream; raises as `transport` does."""
        return self._securities().get(name)

    def credentials(self, name: str) -> Credentials:
        """Return the source of credentials of this name; raises as `transport` does."""
        return self._credentials().get(name)

    def executor(self, name: str) -> Executor:
        """Return the executor of this name; raises as `transport` does."""
        return self._executors().get(name)

    def allocator(self, name: str) -> Allocator:
        """Return the allocator of this name; raises as `transport` does."""
        return self._allocators().get(name)

    def command(self, name: str) -> Command:
        """Return the sub-command of this name; raises as `transport` does."""
        return self._commands().get(name)

    def commands(self) -> list[Command]:
        """Return all sub-commands that can be used, sorted by name; of the others a warning is logged."""
        return _usable(self._commands())

    def discoveries(self) -> list[Discovery]:
        """Return all ways to find nodes that can be used, sorted by name; of the others a warning is logged."""
        return _usable(self._discoveries())

    def fault_policy(self, need_reentrant: bool) -> FaultPolicy:
        """Return the policy that decides what becomes of jobs of lost nodes.

        A policy that does not come with dispy wins over those that do, and "rerun" over "cancel"; the answer is
        the same whatever *need_reentrant* is, so one policy serves all clusters of a process.

        Args:
            need_reentrant: a cluster relies on its jobs being run again.

        Raises:
            PluginNotInstalled: *need_reentrant*, and the policy would not run any job again.
            PluginConflict: two policies that do not come with dispy are installed.
            PluginError: the policy cannot be used.
        """
        offers = self._policies()
        foreign = [name for name in offers.names() if name not in OWN_POLICIES]
        if len(foreign) > 1:
            origins = " and ".join(f"{name!r} of {offers.origin(name)}" for name in foreign)
            raise PluginConflict(f"more than one fault policy is installed: {origins}; uninstall one of them")
        own = [name for name in OWN_POLICIES if name in offers.names()]
        policy = offers.get((foreign or own[::-1] or ["cancel"])[0])
        if not need_reentrant or policy.HONOURS_REENTRANT:
            return policy
        if foreign:
            raise PluginError(
                f"reentrant=True needs a fault policy that runs jobs again, and {policy.NAME!r} of "
                f"{offers.origin(policy.NAME)} does not; uninstall it"
            )
        offers.refuse_broken("faults")
        raise PluginNotInstalled("running jobs of lost nodes again (reentrant=True)", "std")

    def describe(self) -> list[PluginInfo]:
        """Tell about every plugin, built-in ones first; imports all they offer, to find what is wrong."""
        finders = (
            self._transports,
            self._securities,
            self._credentials,
            self._discoveries,
            self._executors,
            self._policies,
            self._commands,
        )
        for find in finders:
            find()
        return [
            PluginInfo(plugin.name, plugin.version, plugin.dist, plugin.hooks, "; ".join(plugin.errors))
            for plugin in self._plugins
        ]

    @property
    def has_job_observers(self) -> bool:
        """True if some plugin hears of jobs; if none does, job events need not even be made."""
        return any("dispy_on_jobs" in plugin.hooks for plugin in self._plugins)

    def on_jobs(self, changes: Sequence[JobEvent]) -> None:
        """Tell the observers of jobs; their exceptions are logged."""
        self._notify("dispy_on_jobs", changes)

    def on_nodes(self, changes: Sequence[NodeEvent]) -> None:
        """Tell the observers of nodes; their exceptions are logged."""
        self._notify("dispy_on_nodes", changes)

    def _notify(self, hook: str, changes: Sequence[JobEvent] | Sequence[NodeEvent]) -> None:
        for plugin in self._plugins:
            if hook not in plugin.hooks:
                continue
            try:
                plugin.call(hook, changes=changes)
            except Exception:  # an observer is a guest: it must not stop anything
                # One that always fails would fill the log: after the first time it is told quietly.
                key = (str(plugin), hook)
                level = logging.DEBUG if key in self._failed_observers else logging.ERROR
                self._failed_observers.add(key)
                _logger.log(level, "%s failed in %s, which is ignored", plugin, hook, exc_info=True)


def _usable(offers: Offers[Offer]) -> list[Offer]:
    usable = []
    for name in offers.names():
        try:
            usable.append(offers.get(name))
        except PluginError as error:
            _logger.warning("%s", error)
    return usable


def check_environment() -> None:
    """Look for the original dispy in the environment.

    Raises:
        ConflictingInstall: it is there; then the files of both lie in one folder, and pip's last call won.
    """
    try:
        original = importlib.metadata.distribution(ORIGINAL_DIST)
    except importlib.metadata.PackageNotFoundError:
        return
    raise ConflictingInstall(
        f"the original dispy {original.version} is installed in this environment, and both own the name 'dispy'; "
        "mend it with these two commands:\n"
        "    pip uninstall dispy\n"
        f"    pip install --force-reinstall {CORE_DIST}"
    )


def _version_of(dist: str) -> str:
    if not dist:
        return ""
    try:
        return importlib.metadata.version(dist)
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return ""
