"""Docker's rules for `rmi`. Pure: what would be untagged and deleted, or who stands in the way.

By name: takes that name away; the last name takes the image with it.
By id:   takes the image with its one name; several names, or a stopped container that uses it,
         need force; a running container can't be overruled, nor can images that were made of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runtime.images import references
from runtime.images.errors import ImageConflict
from runtime.images.model import Image, ImageUser


class Plan(NamedTuple):
    """What to do."""

    untag: tuple[str, ...]
    delete: bool


def is_id_of(image: Image, reference: str) -> bool:
    """Whether the reference means the image by its id, or by the beginning of it."""
    digits = references.id_prefix(reference)
    return digits is not None and image.hex.startswith(digits)


def plan(
    image: Image,
    reference: str,
    force: bool,
    users: Iterable[ImageUser],
    has_children: bool = False,
) -> Plan:
    """What deleting `reference`, which resolved to `image`, does.

    Args:
        has_children: Images were made of its containers, and are there.

    Raises:
        ImageConflict: With Docker's text.
    """
    users = list(users)
    if is_id_of(image, reference):
        if has_children:
            raise ImageConflict(
                f"conflict: unable to delete {image.short_id} (cannot be forced) - image has "
                "dependent child images"
            )
        _check_by_id(image, force, users)
        return Plan((*image.tags, *image.digests), delete=True)
    name = references.parse(reference).tagged()
    gone = (name, *_left_alone(image, name))
    if users and not force and _has_one_name(image):
        raise ImageConflict(
            f'conflict: unable to remove repository reference "{reference}" (must force) - '
            f"container {users[0].container_id[:12]} is using its referenced image "
            f"{image.short_id}"
        )
    if len(image.tags) + len(image.digests) > len(gone):
        return Plan(gone, delete=False)
    # An image that others were made of, or a forced untag of one in use, leaves it without a name.
    return Plan(gone, delete=not has_children and not any(user.running for user in users))


def _has_one_name(image: Image) -> bool:
    """Whether it has one tag at most, and no digest but those of that tag's repository."""
    repositories = {one.partition("@")[0] for one in image.digests}
    repositories |= {one.rpartition(":")[0] for one in image.tags}
    return len(image.tags) <= 1 and len(repositories) <= 1


def _left_alone(image: Image, tag: str) -> tuple[str, ...]:
    """The digests that go with a tag: those of a repository that has no other tag."""
    if tag not in image.tags:
        return ()
    repository = tag.rpartition(":")[0]
    if any(one != tag and one.rpartition(":")[0] == repository for one in image.tags):
        return ()
    return tuple(one for one in image.digests if one.partition("@")[0] == repository)


def _check_by_id(image: Image, force: bool, users: list[ImageUser]) -> None:
    conflict = f"conflict: unable to delete {image.short_id}"
    for user in users:
        if user.running:
            raise ImageConflict(
                f"{conflict} (cannot be forced) - image is being used by running container "
                f"{user.container_id[:12]}"
            )
    if force:
        return
    if not _has_one_name(image):
        raise ImageConflict(
            f"{conflict} (must be forced) - image is referenced in multiple repositories"
        )
    if users:
        raise ImageConflict(
            f"{conflict} (must be forced) - image is being used by stopped container "
            f"{users[0].container_id[:12]}"
        )
