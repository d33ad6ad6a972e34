"""Decisions as values: what they refuse, and the file that they are saved in."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import OptionError, OutputPathError
from qcompiler.quant.choices import AttentionChoice, Choices, LinearChoice

LINEAR = st.one_of(
    st.builds(LinearChoice, st.integers(2, 8), st.integers(2, 8), groups=st.integers(1, 64)),
    st.builds(LinearChoice, st.integers(2, 4), st.integers(2, 8), st.integers(0, 64), st.just("folded")),
    st.builds(
        LinearChoice,
        st.integers(2, 8),
        st.integers(2, 7),
        scheme=st.just("blocks"),
        block=st.integers(0, 999),
        rotate=st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]),
    ),
)
ATTENTION = st.one_of(
    st.builds(AttentionChoice, st.integers(2, 7), st.integers(2, 7), groups=st.integers(1, 64)),
    st.integers(2, 8).map(lambda bits: AttentionChoice(bits, bits, "groups")),
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), LINEAR), st.dictionaries(st.text(), ATTENTION))
def test_round_trip(tmp_path_factory, linears, attentions):
    """Any name, every field; saved again it is the same file."""
    folder = tmp_path_factory.mktemp("plans")
    held = Choices(linears, attentions)
    held.save(folder / "a.json")
    found = Choices.load(folder / "a.json")
    assert (found.linears, found.attentions) == (linears, attentions)
    found.save(folder / "b.json")
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()


def test_file(tmp_path):
    """What a user finds in it."""
    path = tmp_path / "plan.json"
    Choices({"fc": LinearChoice(4, 3, 32, "blocks", 1, 16, 32)}, {"softmax": AttentionChoice(6, 4)}).save(path)
    assert json.loads(path.read_text()) == {
        "format": 1,
        "linears": {
            "fc": {
                "weight_bits": 4,
                "activation_bits": 3,
                "weight_block": 32,
                "scheme": "blocks",
                "groups": 1,
                "block": 16,
                "rotate": 32,
            }
        },
        "attentions": {"softmax": {"qk_bits": 6, "value_bits": 4, "scheme": "blocks", "groups": 8}},
    }


def test_what_is_left_out_has_its_default(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text('{"format": 1, "linears": {"fc": {"weight_bits": 4, "activation_bits": 8}}}')
    assert Choices.load(path) == Choices({"fc": LinearChoice(4, 8, 0, "groups", 8, 0, 1)}, {})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight_bits": 1}, "weight_bits 1 is outside 2..8"),
        ({"weight_bits": 9}, "weight_bits 9 is outside 2..8"),
        ({"activation_bits": 0}, "activation_bits 0 is outside 2..8"),
        ({"scheme": "rows"}, "scheme 'rows' is unknown; choose one of groups, blocks, folded"),
        (
            {"scheme": "blocks", "activation_bits": 8},
            "scheme 'blocks' needs activation_bits of at most 7: use 'groups' at 8 bits",
        ),
        ({"block": 32}, "block and rotate need the scheme 'blocks'"),
        ({"scheme": "folded", "rotate": 32}, "block and rotate need the scheme 'blocks'"),
        ({"weight_block": 32, "weight_bits": 7}, "weight_block needs weight_bits of at most 6"),
        ({"groups": 0}, "groups must lie in 1..64, block and weight_block must not be negative"),
        ({"groups": 65}, "groups must lie in 1..64, block and weight_block must not be negative"),
        ({"scheme": "blocks", "block": -1}, "groups must lie in 1..64, block and weight_block must not be negative"),
        ({"weight_block": -32}, "groups must lie in 1..64, block and weight_block must not be negative"),
        ({"scheme": "blocks", "rotate": 0}, "rotate 0 is not a power of two in 1..128"),
        ({"scheme": "blocks", "rotate": 48}, "rotate 48 is not a power of two in 1..128"),
        ({"scheme": "blocks", "rotate": 256}, "rotate 256 is not a power of two in 1..128"),
        ({"weight_bits": "4"}, "'weight_bits' must be a whole number"),
        ({"weight_bits": 4.0}, "'weight_bits' must be a whole number"),
        ({"groups": True}, "'groups' must be a whole number"),
        ({"block": None}, "'block' must be a whole number"),
        ({"scheme": 3}, "'scheme' must be text"),
        (
            {"bits": 4},
            "'bits' is unknown; known are weight_bits, activation_bits, weight_block, scheme, groups, block, rotate",
        ),
    ],
)
def test_linear_layers_that_are_refused(tmp_path, values, message):
    """In a file with the layer's name; as a value likewise, unless the file's types are what is wrong."""
    path = tmp_path / "plan.json"
    given = {"weight_bits": 4, "activation_bits": 4, **values}
    path.write_text(json.dumps({"format": 1, "linears": {"blocks.0.fc1": given}}))
    with pytest.raises(OptionError) as refused:
        Choices.load(path)
    assert str(refused.value) == f"--bits-file {path}, layer 'blocks.0.fc1': {message}"
    if "must be a whole" not in message and "text" not in message and "known are" not in message:
        with pytest.raises(OptionError) as refused:
            LinearChoice(**given)
        assert str(refused.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"qk_bits": 1}, "qk_bits 1 is outside 2..8"),
        ({"value_bits": 12}, "value_bits 12 is outside 2..8"),
        ({"scheme": "folded"}, "scheme 'folded' of an attention block is unknown; choose groups or blocks"),
        ({"qk_bits": 8}, "scheme 'blocks' of an attention block goes up to 7 bits: use 'groups' at 8"),
        ({"value_bits": 8}, "scheme 'blocks' of an attention block goes up to 7 bits: use 'groups' at 8"),
        (
            {"scheme": "groups", "qk_bits": 6},
            "scheme 'groups' of an attention block has one width: qk_bits must equal value_bits",
        ),
        ({"groups": 0}, "groups must lie in 1..64"),
        ({"value_bits": "4"}, "'value_bits' must be a whole number"),
        ({"block": 4}, "'block' is unknown; known are qk_bits, value_bits, scheme, groups"),
    ],
)
def test_attention_blocks_that_are_refused(tmp_path, values, message):
    path = tmp_path / "plan.json"
    given = {"qk_bits": 4, "value_bits": 4, **values}
    path.write_text(json.dumps({"format": 1, "attentions": {"blocks.0.softmax": given}}))
    with pytest.raises(OptionError) as refused:
        Choices.load(path)
    assert str(refused.value) == f"--bits-file {path}, layer 'blocks.0.softmax': {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        ("[]", "is not a plan of format 1; write one with --save-plan"),
        ('"format"', "is not a plan of format 1"),
        ("{}", "is not a plan of format 1"),
        ('{"format": 2, "linears": {}}', "is not a plan of format 1"),
        ('{"format": 1, "linears": []}', "'linears' must be an object of layers by name"),
        ('{"format": 1, "attentions": null}', "'attentions' must be an object of layers by name"),
        (
            '{"format": 1, "linears": {"fc": 4}}',
            "layer 'fc': expected an object with weight_bits, activation_bits, weight_block",
        ),
        ('{"format": 1, "linears": {"fc": {}}}', "layer 'fc': 'weight_bits' is missing"),
        ('{"format": 1, "linears": {"fc": {"weight_bits": 4}}}', "layer 'fc': 'activation_bits' is missing"),
        ('{"format": 1, "attentions": {"a": {"qk_bits": 4}}}', "layer 'a': 'value_bits' is missing"),
    ],
)
def test_other_files(tmp_path, content, message):
    path = tmp_path / "plan.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(OptionError) as refused:
        Choices.load(path)
    assert str(refused.value).startswith(f"--bits-file {path}")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_such_file(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(OptionError, match=r"--bits-file .* cannot be read"):
            Choices.load(path)


def test_no_place_to_write(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "plan.json"):
        with pytest.raises(OutputPathError, match=r"--save-plan .* cannot be written: "):
            Choices({}, {}).save(path)
