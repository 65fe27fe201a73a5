"""A build: stage after stage, step after step; each step's image is the next one's parent.

What is told meanwhile is what Docker's classic builder tells, to the letter where people and
programs read it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import anyio.to_thread
import msgspec

from runtime.images import instructions as settings
from runtime.images.configuration import DEFAULT_PATH
from runtime.images.configuration import Step as Told
from runtime.images.errors import ImageError
from runtime.images.model import Image
from runtime.images.words import substituted
from supervisor import signals
from supervisor.building import bases, cache, commands, copying, downloads
from supervisor.building.arguments import Arguments
from supervisor.building.asked import Asked, Config
from supervisor.building.cache_sources import CacheSources
from supervisor.building.errors import DockerfileRefused, StepFailed
from supervisor.building.instructions import (
    Arg,
    Copy,
    From,
    Instruction,
    Maintainer,
    Plan,
    Run,
    Stage,
    Step,
    read,
    trigger,
)
from supervisor.building.output import Output
from supervisor.building.staging import Staging
from supervisor.container import Container
from supervisor.errors import BadParameter, EngineError

if TYPE_CHECKING:
    from supervisor.engine import Engine

_SCRATCH = "scratch"
_LARGEST_CONFIG = 8 * 1024 * 1024
"""Bytes; nobody's is a thousandth of it, and nobody could pull a larger one."""

Make: TypeAlias = Callable[[Told], Awaitable[Image]]


@dataclass(slots=True)
class _State:
    """Where a stage is.

    Attributes:
        image: What it has come to; None from scratch.
        config: What that passes on.
        has_command: A CMD of this stage, which an ENTRYPOINT leaves.
        triggers: Of its base image, to be done before all else.
    """

    image: Image | None = None
    config: Config = field(default_factory=dict)
    author: str = ""
    has_command: bool = False
    triggers: tuple[str, ...] = ()

    @property
    def short_id(self) -> str:
        return self.image.short_id if self.image else ""


class Build:
    """One build under way."""

    def __init__(
        self,
        engine: Engine,
        asked: Asked,
        plan: Plan,
        staging: Staging,
        output: Output,
        needed: set[str],
    ) -> None:
        """Look whether it can be begun.

        Args:
            needed: Where ids of images go that are needed to its end.

        Raises:
            BadParameter: It has no such target.
        """
        self._engine = engine
        self._needed = needed
        self._asked = asked
        self._escape = plan.escape
        self._staging = staging
        self._output = output
        self._outside = plan.arguments
        self._stages = _with_labels(_up_to(plan.stages, asked.target), asked.labels)
        self._arguments = Arguments(asked.arguments)
        self._sources = CacheSources(engine, asked.cache_from)
        self._done: list[Image | None] = []
        self._names: dict[str, int] = {}
        self._step = 0
        self._steps = len(plan.arguments) + sum(1 + len(one.steps) for one in self._stages)

    async def run(self) -> Image:
        """Build; returns the image.

        Raises:
            StepFailed: A step can't be done.
            EngineError, ImageError: This machine, or a registry, failed.
        """
        state = _State()
        for step in self._outside:
            await self._announce(step)
            if isinstance(step.instruction, Arg):
                with _named(step):
                    pairs = self._expanded_pairs(step.instruction, self._arguments.outside())
                self._arguments.declare_outside(pairs)
        for stage in self._stages:
            state = await self._stage(stage)
        if state.image is None:
            raise StepFailed("No image was generated. Is your Dockerfile empty?")
        unused = self._arguments.unused()
        if unused:
            names = " ".join(unused)
            await self._output.say(
                f"[Warning] One or more build-args [{names}] were not consumed\n"
            )
        return state.image

    async def _stage(self, stage: Stage) -> _State:
        if stage.origin.name in self._names:
            raise StepFailed(f"{stage.origin.name} stage name already used")
        await self._announce(stage.begin)
        self._arguments.begin_stage()
        with _named(stage.begin):
            state = await self._base(stage.origin)
        if state.triggers:
            count = len(state.triggers)
            plural = "s" if count > 1 else ""
            await self._output.say(f"# Executing {count} build trigger{plural}\n")
        for text in state.triggers:
            step = read(trigger(stage.begin.line, text, self._escape), self._escape)
            with _named(step):
                await self._dispatch(state, step.instruction)
        await self._output.say(f" ---> {state.short_id}\n")
        for step in stage.steps:
            await self._announce(step)
            await self._do(state, step)
        if stage.origin.name:
            self._names[stage.origin.name] = len(self._done)
        self._done.append(state.image)
        if state.image is not None:
            self._output.made(state.image.id)
        return state

    async def _announce(self, step: Step) -> None:
        self._step += 1
        await self._output.say(f"Step {self._step}/{self._steps} : {step.source}\n")

    # ── what a stage begins with ────────────────────────────────────────────────────────────

    async def _base(self, origin: From) -> _State:
        variables = self._arguments.outside()
        name = self._expand(origin.image, variables)
        if not name:
            raise StepFailed(f"base name ({origin.image}) should not be blank")
        platform = self._expand(origin.platform, variables) or self._asked.platform
        if name.lower() in self._names:
            image = self._done[self._names[name.lower()]]
        elif name == _SCRATCH:
            image = None
        else:
            image = await bases.find(
                self._engine, self._asked, name, platform, self._output.progress
            )
        self._need(image)
        config = copy.deepcopy(dict(image.config)) if image else {}
        triggers = tuple(config.pop("OnBuild", None) or ())
        if "PATH" not in settings.environment(config):
            config["Env"] = [*(config.get("Env") or ()), f"PATH={DEFAULT_PATH}"]
        return _State(image, config, triggers=triggers)

    async def _source_of(self, name: str) -> Image | None:
        """What `COPY --from` means."""
        number = self._names.get(name.lower(), -1)
        if number < 0 and name.isascii() and name.isdigit():
            number = int(name)
            if number >= len(self._done):
                raise StepFailed(f"invalid from flag value {name}: index out of bounds")
        if number >= 0:
            return self._done[number]
        asked, progress = self._asked, self._output.progress
        try:
            return await bases.find(self._engine, asked, name, asked.platform, progress)
        except (EngineError, ImageError) as error:
            raise StepFailed(f"invalid from flag value {name}: {error}") from error

    # ── one step ────────────────────────────────────────────────────────────────────────────

    async def _do(self, state: _State, step: Step) -> None:
        with _named(step):
            await self._dispatch(state, step.instruction)
        await self._output.say(f" ---> {state.short_id}\n")

    async def _dispatch(self, state: _State, instruction: Instruction) -> None:
        config = copy.deepcopy(state.config)
        if isinstance(instruction, Run):
            await self._run(state, instruction)
        elif isinstance(instruction, Copy):
            await self._copy(state, instruction)
        elif isinstance(instruction, Arg):
            pairs = self._expanded_pairs(instruction, self._variables(state))
            self._arguments.declare(pairs)
            shown = (name if value is None else f"{name}={value}" for name, value in pairs)
            await self._set(state, config, " ".join(["ARG", *shown]))
        elif isinstance(instruction, Maintainer):
            state.author = instruction.name
            await self._set(state, config, f"MAINTAINER {instruction.name}")
        elif isinstance(instruction, From):
            raise DockerfileRefused("FROM isn't allowed as an ONBUILD trigger")
        else:
            expand = functools.partial(
                substituted, variables=self._variables(state), escape=self._escape
            )
            comment = instruction.expanded(expand).apply(config)
            if isinstance(instruction, settings.StopSignal):
                signals.parse(config["StopSignal"])
            if isinstance(instruction, settings.Entrypoint) and not state.has_command:
                # The command that was there are words for another program.
                config.pop("Cmd", None)
            state.has_command |= isinstance(instruction, settings.Cmd)
            if isinstance(instruction, settings.WorkDir):
                await self._make_directory(state, config, comment)
            else:
                await self._set(state, config, comment)

    async def _set(self, state: _State, config: Config, comment: str) -> None:
        """A step that changes the configuration alone."""
        if len(msgspec.json.encode(config)) > _LARGEST_CONFIG:
            raise StepFailed(f"the image's configuration has more than {_LARGEST_CONFIG} bytes")

        async def make(told: Told) -> Image:
            return await anyio.to_thread.run_sync(
                self._engine.images.add_step,
                state.image,
                config,
                told,
                limiter=self._engine.limits.images,
            )

        await self._advance(state, config, self._not_run(config, f" {comment}"), make)

    async def _make_directory(self, state: _State, config: Config, comment: str) -> None:
        order = copying.directory_order(config["WorkingDir"])

        async def make(told: Told) -> Image:
            return await copying.copied(self._engine, order, state.image, config, told)

        await self._advance(state, config, self._not_run(config, comment), make)

    async def _copy(self, state: _State, asked: Copy) -> None:
        variables = self._variables(state)
        wanted = Copy(
            asked.keyword,
            tuple(self._expand(source, variables) for source in asked.sources),
            self._expand(asked.destination, variables),
            asked.stage,
            self._expand(asked.owner, variables),
        )
        roots = [[str(self._staging.context)]]
        if wanted.stage:
            source = await self._source_of(wanted.stage)
            self._need(source)
            roots = [copying.layers_of(self._engine, source)[0]]
        fetched = await downloads.fetch_all(self._engine, self._staging, wanted, self._output)
        roots += [[str(one.directory)] for one in fetched]
        order = copying.order_of(wanted, state.config, roots, [one.name for one in fetched])
        found = await copying.summed(self._engine, order)

        async def make(told: Told) -> Image:
            return await copying.copied(self._engine, found.order, state.image, state.config, told)

        await self._advance(state, state.config, self._not_run(state.config, found.summed), make)

    async def _run(self, state: _State, instruction: Run) -> None:
        parent = state.image
        if parent is None:
            raise StepFailed(
                "RUN has nothing to run in FROM scratch: copy something into the image before"
            )
        argv = instruction.command.argv(state.config)
        environment = settings.environment(state.config)
        given = self._arguments.counting(environment)
        words = [f"{name}={value}" for name, value in sorted(given.items())]
        told_words = [f"|{len(words)}", *words, *argv] if words else argv
        variables = environment | self._arguments.inside(environment)
        working_dir = state.config.get("WorkingDir") or ""
        asked = msgspec.structs.replace(
            self._asked.container,
            image=parent.id,
            image_id=parent.id,
            cmd=tuple(argv),
            env=tuple(f"{name}={value}" for name, value in variables.items()),
            working_dir=working_dir and settings.from_working_directory({}, working_dir),
            user=state.config.get("User") or "",
            mounts=self._asked.mounts(state.config),
            log_driver="none",
            of_build=True,
        )

        async def make(told: Told) -> Image:
            keep_failed = not self._asked.force_remove
            async with commands.container_of(
                self._engine, asked, keep_failed=keep_failed
            ) as container:
                await self._output.say(f" ---> Running in {container.short_id}\n")
                await commands.run(self._engine, container, self._output, " ".join(argv))
                image = await commands.committed(
                    self._engine,
                    container,
                    parent,
                    state.config,
                    told._replace(container=container.id, container_image=parent.id),
                )
                self._need(image)
                await self._let_go(container)
            return image

        await self._advance(
            state, state.config, " ".join(told_words), make, command=tuple(told_words)
        )

    async def _advance(
        self,
        state: _State,
        config: Config,
        created_by: str,
        make: Make,
        command: tuple[str, ...] = (),
    ) -> None:
        """Do a step, or find what it has made before."""
        found = None
        if self._asked.use_cache:
            found = cache.find(self._engine, state.image, created_by, config, state.author, command)
            if found is not None and not self._sources.admit(found):
                found = None
            if found is None:
                found = await self._sources.find(state.image, created_by, config)
        if found is not None:
            self._need(found)  # before a client that may take its time is told
            await self._output.say(" ---> Using cache\n")
        else:
            found = await make(
                Told("", author=state.author, created_by=created_by, command=command)
            )
            self._need(found)
        state.image, state.config = found, config

    def _need(self, image: Image | None) -> None:
        """Have nobody take an image away while the build goes on."""
        if image is not None:
            self._needed.add(image.id)

    async def _let_go(self, container: Container) -> None:
        """Be done with a container whose step is done."""
        if not self._asked.remove:
            await commands.keep(self._engine, container)
            return
        await commands.remove(self._engine, container)
        await self._output.say(f"Removing intermediate container {container.short_id}\n")

    @staticmethod
    def _not_run(config: Config, comment: str) -> str:
        """What a history says of a step that no command has done."""
        return " ".join([*settings.shell_of(config), f"#(nop) {comment}"])

    def _variables(self, state: _State) -> dict[str, str]:
        environment = settings.environment(state.config)
        return self._arguments.inside(environment) | environment

    def _expand(self, text: str, variables: dict[str, str]) -> str:
        return substituted(text, variables, self._escape)

    def _expanded_pairs(
        self, instruction: Arg, variables: dict[str, str]
    ) -> list[tuple[str, str | None]]:
        return [
            (
                self._expand(name, variables),
                None if value is None else self._expand(value, variables),
            )
            for name, value in instruction.pairs
        ]


@contextlib.contextmanager
def _named(step: Step) -> Iterator[None]:
    """What a step's words are refused for is said with the step."""
    try:
        yield
    except ValueError as error:
        raise StepFailed(f'failed to process "{step.source}": {error}') from error


def _up_to(stages: tuple[Stage, ...], target: str) -> tuple[Stage, ...]:
    """The stages up to the one that is wanted."""
    if not target:
        return stages
    for number, stage in enumerate(stages, 1):
        if stage.origin.name == target.lower() or target == str(number - 1):
            return stages[:number]
    raise BadParameter(f"failed to reach build target {target} in Dockerfile")


def _with_labels(stages: tuple[Stage, ...], labels: Mapping[str, str]) -> tuple[Stage, ...]:
    """The stages, the last one with a step more for each label that the client gives."""
    steps = tuple(
        Step(0, f"LABEL {key}={value}", settings.Label(((key, value),), literal=True))
        for key, value in sorted(labels.items())
    )
    last = stages[-1]
    return (*stages[:-1], last._replace(steps=(*last.steps, *steps)))
