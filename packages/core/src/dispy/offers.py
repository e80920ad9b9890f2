"""What plugins offer of one kind: the classes that they return from a register hook, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar, cast

from dispy.discovery import Discovery
from dispy.errors import PluginConflict, PluginError, PluginNotInstalled
from dispy.interfaces import (
    API_VERSION,
    Allocator,
    Command,
    Credentials,
    Executor,
    FaultPolicy,
    StreamSecurity,
    Transport,
)
from dispy.plugged import Plugged

EXTRAS: Mapping[tuple[str, str], str] = {
    ("transport", "tcp"): "tcp",
    ("security", "ssl"): "ssl",
    ("credentials", "secret"): "ssl",
    ("credentials", "certificate"): "ssl",
    ("discovery", "udp"): "std",
    ("executor", "function"): "local",
    ("executor", "program"): "local",
    ("fault policy", "rerun"): "std",
    ("allocator", "spread"): "std",
    ("allocator", "pack"): "std",
    ("command", "node"): "node",
    ("command", "key"): "cli",
    ("command", "cert"): "cli",
}
"""(kind, name) -> the extra of dispy-core that brings what is not installed."""

Offer = TypeVar(
    "Offer",
    bound=Transport | StreamSecurity | Credentials | Discovery | Executor | FaultPolicy | Allocator | Command,
)


class Offers(Generic[Offer]):
    """Everything that plugins offer of one kind.

    A class that cannot be used is set aside; asking for it by name tells why.

    Args:
        label: what it is, for people.
        hook: the hook that returns it.
        base: the class that it must be a subclass of.
        plugins: where to look; each is asked once.
    """

    def __init__(self, label: str, hook: str, base: type[object], plugins: Sequence[Plugged]) -> None:
        self.label = label
        self._hook = hook
        self._base = base
        self._plugins = plugins
        self._classes: dict[str, tuple[type[Offer], Plugged]] = {}
        self._conflicts: dict[str, str] = {}
        """Name -> which two plugins offer it."""
        self._outdated: dict[str, str] = {}
        """Name -> which plugin was written for another version of the interface."""
        self._made: dict[str, Offer] = {}
        for plugin in plugins:
            self._ask(plugin)

    def names(self) -> list[str]:
        """Return the names of all that can be used, sorted."""
        return sorted(name for name in self._classes if name not in self._conflicts)

    def origin(self, name: str) -> Plugged:
        """Return the plugin that offers *name*, one of `names`."""
        return self._classes[name][1]

    def get(self, name: str) -> Offer:
        """Return the offer of this name; it is made at the first call.

        Raises:
            PluginNotInstalled: it lives in a distribution that is not installed.
            PluginConflict: two plugins offer it, or it was written for another version of the interface.
            PluginError: no plugin is known to offer it, or the one that does cannot be used.
        """
        if name in self._conflicts:
            raise PluginConflict(self._conflicts[name])
        if name in self._made:
            return self._made[name]
        if name not in self._classes:
            raise self._missing(name)
        offered, plugin = self._classes[name]
        try:
            self._made[name] = offered()
        except Exception as error:
            raise PluginError(
                f"the {self.label} {name!r} of {plugin} cannot be made: {told(error)}"
            ) from error
        return self._made[name]

    def refuse_broken(self, *names: str) -> None:
        """Raise a PluginError if a plugin that goes by one of *names* is set aside: then that is what is wrong."""
        for plugin in self._plugins:
            if plugin.errors and plugin.name in names:
                raise PluginError(f"{plugin} cannot be used: {'; '.join(plugin.errors)}")

    def _ask(self, plugin: Plugged) -> None:
        if self._hook not in plugin.hooks:
            return
        try:
            answers = plugin.call(self._hook)
        except Exception as error:  # whatever the plugin's own code raises: the others must go on
            plugin.set_aside(f"{self._hook} failed: {told(error)}")
            return
        for offered in _flattened(answers):
            reason = self._admit(plugin, offered)
            if reason:
                plugin.set_aside(reason)

    def _admit(self, plugin: Plugged, offered: object) -> str:
        """Take a class that a plugin offers; return what is wrong with it, or an empty text."""
        if not (isinstance(offered, type) and issubclass(offered, self._base)):
            return f"{self._hook} gave {offered!r}, which is not a subclass of {self._base.__name__}"
        name = getattr(offered, "NAME", None)
        if not isinstance(name, str) or not name:
            return f"{self._hook} gave {offered.__name__}, which has no NAME"
        version = getattr(offered, "API_VERSION", None)
        if version != API_VERSION:
            self._outdated[name] = (
                f"the {self.label} {name!r} of {plugin} was written for version {version!r} of the interface, "
                f"and this dispy has version {API_VERSION}; upgrade whichever is older"
            )
            return self._outdated[name]
        first, origin = self._classes.setdefault(name, (cast(type[Offer], offered), plugin))
        if first is not offered:
            self._conflicts[name] = (
                f"both {origin} and {plugin} offer the {self.label} {name!r}; uninstall one of them"
            )
            return self._conflicts[name]
        return ""

    def _missing(self, name: str) -> PluginError:
        if name in self._outdated:
            return PluginConflict(self._outdated[name])
        self.refuse_broken(name)
        if extra := EXTRAS.get((self.label, name)):
            return PluginNotInstalled(f"the {self.label} {name!r}", extra)
        broken = ", ".join(str(plugin) for plugin in self._plugins if plugin.errors)
        return PluginError(
            f"no installed plugin offers the {self.label} {name!r}"
            f" (there: {', '.join(self.names()) or 'none'}"
            f"{f'; not usable: {broken}' if broken else ''}); install the distribution that brings it, "
            "and check with: dispy plugins"
        )


def told(error: BaseException) -> str:
    """Name an exception and what it says, for a message."""
    return f"{type(error).__name__}: {error}"


def _flattened(answers: Iterable[object]) -> Iterator[object]:
    for answer in answers:
        if isinstance(answer, list | tuple):
            yield from answer
        else:
            yield answer
