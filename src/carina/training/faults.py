"""What is wrong with a recipe's key, in the words of the person who wrote it.

Pydantic finds the faults and calls them tuples, dictionaries and parsing errors; here they become what to
write instead. Pure: knows no recipe, only faults.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

_LIST = 'give a list of names, such as ["Normal", "TB"]'
_TABLE = "is a table of keys, not a value; set one of its keys"
_WRITE = {
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "finite_number": "give a number that is finite",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "string_type": "give a text in quotes",
    "string_too_short": "give a name",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "too_short": _LIST,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "dict_type": _TABLE,
}
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_SYNONYMS = {  # what other programs call our keys, where the spelling alone would not tell
    "learning_rate": "lr",
    "arch": "backbone",
    "architecture": "backbone",
    "unfrozen": "frozen",
    "image_size": "size",
}


def in_words(fault: Mapping[str, Any]) -> str:
    """What to write instead of a value, and what was given: ``give a whole number (given: "many")``."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        text = f"give {words} {context[name]:g}"
    elif kind == "literal_error":
        text = f"choose {context['expected']}".replace("'", "")
    elif kind in _WRITE:
        text = _WRITE[kind]
    else:  # our own validators say it themselves
        text = str(fault["msg"]).removeprefix("Value error, ")
        text = text[:1].lower() + text[1:]
    return text if isinstance(fault["input"], Mapping) else f"{text} (given: {_as_written(fault['input'])})"


def _as_written(value: Any) -> str:
    """A value as it stands in a recipe."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


def cure_for(key: str, here: Sequence[str], elsewhere: Mapping[str, Sequence[str]]) -> str:
    """What an unknown key was meant to be: one that is known ``here``, or in a table of ``elsewhere``."""
    meant = _SYNONYMS.get(key, key)
    near = [meant] if meant in here else difflib.get_close_matches(meant, here, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    for table, keys in elsewhere.items():
        if meant in keys:
            return f"{meant!r} belongs under {table}"
    return f"known here: {', '.join(sorted(here))}"
