"""Which containers a list or a prune is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runtime.images.errors import ImageError
from supervisor.api import filters as filtering
from supervisor.api import prune_filters
from supervisor.api.filters import Filters
from supervisor.api.views import health_status, network_name
from supervisor.container import Container
from supervisor.engine import Engine
from supervisor.states import ALIVE, State

KNOWN = frozenset(
    [
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    ]
)
PRUNE_KNOWN = prune_filters.LABELS_AND_TIME

# Both in the order in which Docker's message names them.
_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTHS = ("none", "starting", "healthy", "unhealthy")

Test = Callable[[Container], bool]


def listed(
    engine: Engine, filters: Filters, everything: bool, limit: int | None
) -> list[Container]:
    """Return the containers that `GET /containers/json` is about, newest first.

    Args:
        everything: Those that don't run, too; so do a limit and the filters status, before, since.
        limit: At most so many; None or 0 and below for all.

    Raises:
        BadParameter: A filter's value can't be.
        NoSuchContainer: `before` or `since` names none.
    """
    tests = _tests(engine, filters)
    if (
        not everything
        and not (limit and limit > 0)
        and not (filters.keys() & {"status", "before", "since"})
    ):
        tests.insert(0, lambda c: c.state in ALIVE or c.state is State.RESTARTING)
    chosen = [c for c in engine.containers.all() if all(test(c) for test in tests)]
    chosen.sort(key=lambda c: c.created_ns, reverse=True)
    return chosen[:limit] if limit and limit > 0 else chosen


def _tests(engine: Engine, filters: Filters) -> list[Test]:
    tests: list[Test] = []
    for name, values in filters.items():
        match name:
            case "id":
                tests.append(_matches(values, "id", lambda c: (c.id,)))
            case "name":
                tests.append(_matches(values, "name", lambda c: (c.name, f"/{c.name}")))
            case "label":
                tests.append(_labelled(values))
            case "status":
                tests.append(_in_state(filtering.one_of(filters, name, "state", _STATES)))
            case "exited":
                tests.append(_exited(filtering.exit_codes(filters, name)))
            case "ancestor":
                tests.append(_of_image(_image_ids(engine, values)))
            case "before":
                tests.append(_before(engine.containers.find(values[0])))
            case "since":
                tests.append(_since(engine.containers.find(values[0])))
            case "network":
                tests.append(_in_network(values))
            case "health":
                tests.append(_in_health(filtering.one_of(filters, name, "health", _HEALTHS)))
            case "is-task":
                if filtering.single_flag(filters, name):
                    tests.append(_never)
            case "expose":
                tests.append(_exposing(filtering.ports(filters, name)))
            case "publish":
                # No container has published ports yet; what is no port is refused all the same.
                filtering.ports(filters, name)
                tests.append(_never)
            case "volume":
                tests.append(_mounts(values))
    return tests


def _never(_container: Container) -> bool:
    return False


def _matches(values: list[str], name: str, texts: Callable[[Container], Iterable[str]]) -> Test:
    patterns = [filtering.pattern(value, name) for value in values]
    return lambda c: any(p.search(text) for p in patterns for text in texts(c))


def _labelled(values: list[str]) -> Test:
    return lambda c: filtering.labels_match(values, c.config.labels)


def _in_state(states: frozenset[str]) -> Test:
    return lambda c: c.life.state.value in states


def _in_health(healths: frozenset[str]) -> Test:
    return lambda c: health_status(c) in healths


def _exited(codes: frozenset[int]) -> Test:
    return lambda c: c.state is State.EXITED and c.life.exit_code in codes


def _of_image(ids: frozenset[str]) -> Test:
    return lambda c: c.config.image_id in ids


def _mounts(values: list[str]) -> Test:
    return lambda c: any(
        value in (point.volume or point.source, point.target)
        for point in c.config.mounts.points
        for value in values
    )


def _before(other: Container) -> Test:
    return lambda c: c.created_ns < other.created_ns


def _since(other: Container) -> Test:
    return lambda c: c.created_ns > other.created_ns


def _exposing(wanted: list[filtering.Ports]) -> Test:
    return lambda c: any(ports.include(port) for port in c.config.exposed_ports for ports in wanted)


def _in_network(values: list[str]) -> Test:
    return lambda c: network_name(c) in values


def _image_ids(engine: Engine, references: list[str]) -> frozenset[str]:
    """The images meant, and all that were made of them."""
    found: set[str] = set()
    for reference in references:
        try:
            found.add(engine.images.resolve(reference).id)
        except ImageError:
            continue  # an image that is not here has no containers
    # A child is younger than its parent.
    for image in reversed(engine.images.images()):
        if image.parent in found:
            found.add(image.id)
    return frozenset(found)


def prunable(filters: Filters, now_ns: int) -> Test:
    """Return the test for containers that a prune is about, besides their not running.

    Raises:
        BadParameter: `until` is no time.
    """
    fits = prune_filters.fits(filters, now_ns)
    return lambda c: fits(c.config.labels, c.created_ns)
