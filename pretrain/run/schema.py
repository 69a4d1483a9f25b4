"""Declared types and ranges of settings: pydantic checks, one sentence tells what does not fit.

A tool's settings are a Settings class with a field for each key of ours; keys without a field
belong to a framework and are left to it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pretrain.run.options import did_you_mean

MOST = 10**9  # steps, images, channels: more is a slip of the keyboard
SPECIAL = {  # what pydantic calls a problem -> what was wanted
    "too_short": "of at least {min_length} values",
    "too_long": "of at most {max_length} values",
    "string_too_short": "not empty",
    "model_type": "keys with values",
}
WORDS = {  # pydantic's -> ours
    "Input should be ": "",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid list": "a list",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}

KINDS = {  # JSON schema's -> ours
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "keys with values",
    "null": "None",
}
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}

Count = Annotated[int, Field(ge=1, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
LearningRate = Annotated[float, Field(gt=0, le=100)]  # far above every recipe's
WeightDecay = Annotated[float, Field(ge=0, le=1000)]
Share = Annotated[float, Field(ge=0, le=1)]
DropRate = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(gt=0, lt=1)]  # of an average
LayerDecay = Annotated[float, Field(gt=0, le=1)]
ImageShare = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]


class Settings(BaseModel):
    """Settings with declared types and ranges; a number is not text, and neither is infinite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


class ClosedSettings(Settings):
    """Settings of which every key must be known."""

    model_config = ConfigDict(extra="forbid")


def require(
    schema: type[Settings],
    values: Mapping[str, Any],
    error: Callable[[str], Exception] = ValueError,
) -> None:
    """Raise `error` with one sentence unless `values` are as `schema` declares them.

    The sentence names each key that does not fit, its value, and what is allowed.
    """
    try:
        schema.model_validate(values)
    except ValidationError as found:
        raise error("; ".join(_complaints(found, schema))) from None


def _complaints(found: ValidationError, schema: type[Settings]) -> list[str]:
    """Return a clause for each key; what the members of a union say is told together."""
    clauses: list[str] = []
    ranges: dict[str, tuple[Any, list[str]]] = {}
    for problem in found.errors(include_url=False):
        key, siblings, may_be_none = _place(problem, schema)
        if problem["type"] == "missing":
            clauses.append(f"{key} is missing")
        elif problem["type"] == "extra_forbidden":
            name = key.rpartition(".")[2]
            clauses.append(f"{key} is not a setting{did_you_mean(name, siblings)}")
        else:
            _, wanted = ranges.setdefault(key, (problem["input"], []))
            more = (_wanted(problem), "None" if may_be_none else "")
            wanted += [words for words in more if words and words not in wanted]
    return clauses + [
        f"{key}={value!r}: must be {' or '.join(wanted)}" for key, (value, wanted) in ranges.items()
    ]


def _wanted(problem: Any) -> str:
    """Return what pydantic expected, in our words."""
    if problem["type"] in SPECIAL:
        return SPECIAL[problem["type"]].format_map(problem.get("ctx", {}))
    message = str(problem["msg"])
    for theirs, ours in WORDS.items():
        message = message.replace(theirs, ours)
    return message[0].lower() + message[1:]


def _place(problem: Any, schema: type[Settings]) -> tuple[str, Collection[str], bool]:
    """Return the dotted key of a problem, the names beside it, and whether it may be None."""
    parts: list[str] = []
    fields = siblings = schema.model_fields
    may_be_none = False
    for part in problem["loc"]:
        known = part in fields or isinstance(part, int)
        if not known and problem["type"] != "extra_forbidden":
            continue  # a member of a union
        parts.append(str(part))
        siblings = fields
        kinds = _members(fields[str(part)].annotation) if part in fields else ()
        may_be_none = type(None) in kinds
        nested = [k for k in kinds if isinstance(k, type) and issubclass(k, Settings)]
        fields = nested[0].model_fields if nested else {}
    return ".".join(parts), siblings, may_be_none


def described(schema: type[Settings]) -> dict[str, str]:
    """Return type and range of each key in words, by its dotted name."""
    whole = schema.model_json_schema()
    return dict(_keys(whole, whole.get("$defs", {}), ""))


def _keys(
    node: Mapping[str, Any], groups: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str]]:
    """Yield the dotted names below a node of a JSON schema, with their words."""
    for name, kind in node["properties"].items():
        inner = groups.get(kind.get("$ref", "").rpartition("/")[2])
        if inner is not None:
            yield from _keys(inner, groups, f"{prefix}{name}.")
        yield f"{prefix}{name}", _in_words(kind)


def _in_words(kind: Mapping[str, Any]) -> str:
    """Return a type of a JSON schema in words: "whole number, at least 1", "text or None"."""
    if "$ref" in kind:
        return KINDS["object"]
    if "anyOf" in kind:
        return " or ".join(map(_in_words, kind["anyOf"]))
    if "const" in kind:
        return repr(kind["const"])
    if "enum" in kind:
        named = [repr(value) for value in kind["enum"]]
        return " or ".join([", ".join(named[:-1]), named[-1]])
    if kind.get("type") == "array":
        sizes = {kind.get(key) for key in ("minItems", "maxItems")}
        count = f" of {kind['minItems']}" if len(sizes) == 1 and None not in sizes else ""
        return f"list{count}: {_in_words(kind['items'])}"
    words = [KINDS[kind["type"]] if "type" in kind else "anything"]
    words += [f"like {kind['pattern']}"] if "pattern" in kind else []
    words += [f"{said} {kind[key]:g}" for key, said in BOUNDS.items() if key in kind]
    return ", ".join(words)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone."""
    return get_args(annotation) if get_origin(annotation) is not None else (annotation,)
