"""Names of containers: which are allowed, and a fresh one where nobody chose."""

from __future__ import annotations

import random
import re
from collections.abc import Container as Holder

from supervisor.errors import BadParameter

ALLOWED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
LONGEST = 255

_MOODS = (
    "able agile ample apt astute awake bold brave breezy bright brisk calm candid careful cheery "
    "civil clear clever cosy crisp curious daring deft eager earnest easy exact fair fearless "
    "fine fleet fond frank free fresh gentle glad golden good grand happy hardy hearty honest "
    "jolly keen kind light lively loyal lucid lucky mellow merry mild neat nimble noble open "
    "patient plain polite prompt proud pure quick quiet rapid ready robust sage sharp smart snug "
    "sober solid sound spry stable steady still stout strong sunny sure swift tidy trim true "
    "upbeat valiant vivid warm wise witty zesty"
).split()

_BIRDS = (
    "albatross avocet bittern bluetit bunting buzzard chaffinch condor coot cormorant crane "
    "cuckoo curlew dipper dove dunlin dunnock eagle egret eider falcon fieldfare finch flamingo "
    "fulmar gannet godwit goldfinch goose goshawk grebe gull harrier hawk heron hobby hoopoe ibis "
    "jackdaw jay kestrel kingfisher kite knot lapwing lark linnet magpie mallard martin merlin "
    "moorhen nightjar nuthatch oriole osprey ostrich ouzel owl partridge pelican penguin petrel "
    "pigeon pipit plover puffin quail rail raven redstart robin rook ruff sandpiper shrike siskin "
    "skua skylark snipe sparrow starling stilt stork swallow swan swift tern thrush toucan "
    "turnstone wagtail warbler waxwing wigeon woodcock wren"
).split()


def check(name: str) -> str:
    """Return the name without a leading slash.

    Raises:
        BadParameter: It is empty, too long, or holds other characters (Docker's text).
    """
    bare = name.removeprefix("/")
    if not ALLOWED.fullmatch(bare):
        raise BadParameter(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    if len(bare) > LONGEST:
        raise BadParameter(
            f"Invalid container name: {len(bare)} characters, at most {LONGEST} are allowed"
        )
    return bare


def generate(taken: Holder[str]) -> str:
    """Return a readable name that nobody has."""
    while True:
        name = f"{random.choice(_MOODS)}_{random.choice(_BIRDS)}"
        if name not in taken:
            return name
        # Thousands of containers exhaust the pairs: a number keeps the loop short.
        numbered = f"{name}{random.randrange(10, 10**6)}"
        if numbered not in taken:
            return numbered
