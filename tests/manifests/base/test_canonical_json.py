from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impure.manifests.base.canonical_json import (
    MAX_DEPTH,
    canonical_json,
    differing_fields,
    digest,
    from_mapping,
    parse_object,
)
from impure.manifests.base.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    steps: int
    names: tuple[str, ...] = ()


words = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(words, json_values, max_size=5))
def test_the_digest_does_not_depend_on_the_order_of_keys(value):
    assert digest(value) == digest(dict(reversed(value.items())))


def test_a_config_survives_json():
    config = Example(steps=3, names=("a", "b"))
    assert canonical_json(config) == '{"names":["a","b"],"steps":3}'
    assert from_mapping(Example, {"steps": 3, "names": ["a", "b"]}, "here") == config


@pytest.mark.parametrize(("values", "said"), [({"steps": 1, "stpes": 2}, "stpes"), ({"names": []}, "steps")])
def test_unknown_and_missing_keys_are_named(values, said):
    with pytest.raises(InputError, match=f"here.*{said}"):
        from_mapping(Example, values, "here")


def test_differing_fields_are_named_with_both_values():
    assert differing_fields({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}) == ["b.c (there 3, now 2)"]
    assert differing_fields({"a": 1}, {"a": 1}) == []


def nested(depth):
    """A JSON object that holds lists, in so many levels of nesting."""
    return '{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


def test_json_of_strangers_is_taken_up_to_a_depth():
    assert parse_object(nested(MAX_DEPTH), "here")
    with pytest.raises(InputError, match=f"here: its JSON is nested deeper than {MAX_DEPTH}"):
        parse_object(nested(MAX_DEPTH + 1), "here")


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": -1e999}', '{"a": NaN}', '{"a": Infinity}', "3", "{"])
def test_json_of_strangers_that_has_no_canonical_form_is_refused(text):
    with pytest.raises(InputError, match="here: "):
        parse_object(text, "here")


def test_nan_has_no_canonical_form():
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})
