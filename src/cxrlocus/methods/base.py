"""What a method is to the rest: a Config, a recipe that trains it, and a loader of what was trained."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lightning_fabric import Fabric

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.training.fit import FitConfig, OnStep
from cxrlocus.training.run import RunInfo
from cxrlocus.types import Localizer

ConfigT = TypeVar("ConfigT", bound=FitConfig)

TRANSDUCTIVE = "transductive"
"""The split of films that are learned from by their labels and measured by their boxes."""

Judge = Callable[[Localizer, Index, str, Path], float]
"""``judge(localizer, films, criterion, scratch)``: how well maps agree with the boxes of films; more is better."""


WORDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
"""What the value of an option must be, for a person."""


@dataclass(frozen=True)
class Recipe(Generic[ConfigT]):
    """Everything a method needs to train.

    Args:
        folder: the run folder.
        index: the films that may be trained on (splits "train" and "val").
        config: the method's.
        seed: of everything random.
        fabric: a launched Fabric.
        cache: folder of the decoded films.
        init: safetensors weights of the backbone, or None.
        on_step: called after each step.
        on_film: called with (films decoded, films in all).
        judge: measures maps on validation boxes, for a method that is told to choose its checkpoint by them.
    """

    folder: Path
    index: Index
    config: ConfigT
    seed: int
    fabric: Fabric
    cache: Path
    init: Path | None = None
    on_step: OnStep | None = None
    on_film: Callable[[int, int], None] | None = None
    judge: Judge | None = None


def learned_films(config: Any, index: Index) -> Index:
    """The films of a data set that a Config may learn from.

    Inductive: splits "train" and "val". Transductive: the boxed films of split "test" too, as split "transductive",
    with their labels and without their boxes. So a run's hash of its films says which, as its config does.

    Raises:
        DataError: no film belongs to split "train" or "val".
        ConfigError: the setting is transductive, and no test film has a box.

    Example:
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.methods.options import ClassifierConfig
        >>> from cxrlocus.types import BOXED8
        >>> box = TruthBox("Mass", (0, 0, 9, 9))
        >>> a = Record("a", Path("a"), "1", "train")
        >>> b = Record("b", Path("b"), "2", "test", frozenset({"Mass"}), boxes=(box,))
        >>> films = learned_films(ClassifierConfig(setting="transductive"), Index("some", Path(), BOXED8, (a, b)))
        >>> [(r.image, r.split, len(r.positive), len(r.boxes)) for r in films.records]
        [('a', 'train', 0, 0), ('b', 'transductive', 1, 0)]
    """
    films = index.split("train", "val")
    if config.setting == "inductive":
        return films
    joining = tuple(replace(r, split=TRANSDUCTIVE, boxes=()) for r in index.records if r.split == "test" and r.boxes)
    if not joining:
        raise ConfigError(
            f"{index.root}: setting=transductive learns from the boxed films of split 'test', and there is none. "
            "Use setting=inductive."
        )
    return replace(films, records=films.records + joining)


@dataclass(frozen=True)
class MethodSpec(Generic[ConfigT]):
    """A method: one folder of code, one line in METHODS.

    Args:
        name: its id.
        paper: citation.
        config: its Config class; the defaults are documented there.
        presets: named sets of Config fields, for a machine ("cpu") or a claim ("paper").
        variants: named sets of Config fields, for ablations; "" is the method itself.
        train: carries out the recipe, skipping stages that are done.
        load: a trained run folder to a Localizer.
        stages: what each stage of a Config depends on, in order, for a method whose runs may have stages in common.
    """

    name: str
    paper: str
    config: type[ConfigT]
    presets: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Mapping[str, Any]]
    train: Callable[[Recipe[ConfigT]], None]
    load: Callable[[Path, RunInfo], Localizer]
    stages: Callable[[ConfigT], Mapping[str, Mapping[str, Any]]] = lambda _config: {}

    def configure(
        self, *, variant: str = "", preset: str = "paper", options: Mapping[str, str] | None = None
    ) -> ConfigT:
        """The Config of a preset, changed by a variant, changed by single options given as text.

        Raises:
            ConfigError: a name is unknown or a value has the wrong type.
        """
        for kind, name, known in (("variant", variant, self.variants), ("preset", preset, self.presets)):
            if name not in known:
                raise ConfigError(
                    f"{kind} of {self.name} must be one of {', '.join(repr(k) for k in known)}; got {name!r}."
                )
        chosen: dict[str, Any] = {**self.presets[preset], **self.variants[variant]}
        return replace(self.config(**chosen), **parse_options(self.config, options or {}))


def parse_options(config: type[FitConfig], options: Mapping[str, str]) -> dict[str, Any]:
    """Turn option texts into values of the Config's field types.

    Raises:
        ConfigError: there is no such field, or the text is not a value of its type.

    Example:
        >>> parse_options(FitConfig, {"epochs": "3", "lr": "1e-4", "channels_last": "false"})
        {'epochs': 3, 'lr': 0.0001, 'channels_last': False}
    """
    hints = get_type_hints(config)
    names = [f.name for f in fields(config)]
    values: dict[str, Any] = {}
    for name, text in options.items():
        if name not in names:
            raise ConfigError(f"option {name!r} must be one of {', '.join(names)}.")
        values[name] = _parse(name, text, hints[name])
    return values


def check_options(config: type[FitConfig], values: Mapping[str, Any]) -> None:
    """See that stored values, a run.json's say, are of the Config's field types.

    Raises:
        ConfigError: there is no such field, or a value is not of its type.

    Example:
        >>> check_options(FitConfig, {"epochs": 3, "lr": 1, "schedule": "cosine"})
        >>> check_options(FitConfig, {"schedule": "step"})
        Traceback (most recent call last):
            ...
        cxrlocus.errors.ConfigError: schedule must be one of cosine, constant; got 'step'.
    """
    hints = get_type_hints(config)
    for name, value in values.items():
        if name not in hints:
            raise ConfigError(f"option {name!r} must be one of {', '.join(hints)}.")
        kind = hints[name]
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                raise ConfigError(f"{name} must be one of {', '.join(map(str, get_args(kind)))}; got {value!r}.")
        elif kind in (bool, int, float, str):
            # JSON writes a float that is whole as it likes, and Python counts True as 1.
            right = (int, float) if kind is float else kind
            if not isinstance(value, right) or (isinstance(value, bool) and kind is not bool):
                raise ConfigError(f"{name} must be {WORDS[kind]}; got {value!r}.")


def _parse(name: str, text: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ConfigError(f"{name} must be one of {', '.join(get_args(kind))}; got {text!r}.")
        return text
    if get_origin(kind) in (Union, types.UnionType):
        raise ConfigError(f"{name} cannot be set as text.")
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{name} must be true or false; got {text!r}.")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigError(f"{name} must be {WORDS[kind]}; got {text!r}.") from error
