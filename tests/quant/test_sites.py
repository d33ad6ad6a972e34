"""Sites of a ViT-Tiny layer, and the bookkeeping of hand-made tables at them."""

from qcompiler.ir.layers import Structure
from qcompiler.quant.bops import ProductShape
from qcompiler.quant.groups import CHANNELS, ROWS
from qcompiler.quant.sites import (
    Role,
    all_sites,
    attention_products,
    attention_sites,
    linear_product,
    linear_site,
    site_bookkeeping,
)

from .layers import attention, linear, table

RANGES = 32 * 197 * 192


def test_linear_site():
    site = linear_site(linear())
    assert site.name == "blocks.0.attn.qkv:input"
    assert (site.role, site.node, site.index) == (Role.INPUT, "blocks.0.attn.qkv", 0)
    assert (site.rows, site.channels) == (197, 192)
    assert site.product == linear_product(linear()) == ProductShape(197, 192, 576)


def test_attention_sites():
    found = {site.role: site for site in attention_sites(attention())}
    assert {role: (site.node, site.index) for role, site in found.items()} == {
        Role.QUERY: ("blocks.0.attn/scores", 0),
        Role.KEY: ("blocks.0.attn/scores", 1),
        Role.PROBABILITY: ("blocks.0.attn/mixing", 0),
        Role.VALUE: ("blocks.0.attn/mixing", 1),
    }
    assert {role: (site.rows, site.channels) for role, site in found.items()} == {
        Role.QUERY: (197, 64),
        Role.KEY: (197, 64),
        Role.VALUE: (197, 64),
        Role.PROBABILITY: (197, 197),
    }
    assert {site.layer for site in found.values()} == {"blocks.0.attn/softmax"}


def test_windows_repeat_the_products():
    scores, mixing = attention_products(attention(instances=64, tokens=49))
    assert scores == ProductShape(49, 64, 49, 3 * 64)
    assert mixing == ProductShape(49, 49, 64, 3 * 64)
    assert linear_product(linear(tokens=49, instances=64)).macs == 64 * 49 * 192 * 576


def test_names_are_unique():
    structure = Structure((linear(), linear("blocks.0.attn.proj")), (attention(),), (), (), ())
    names = [site.name for site in all_sites(structure)]
    assert len(set(names)) == len(names) == 6
    assert names[:2] == ["blocks.0.attn.qkv:input", "blocks.0.attn.proj:input"]


def test_one_group_is_static():
    site = linear_site(linear())
    for axis in (CHANNELS, ROWS):
        assert site_bookkeeping(site, table(1, axis), normalize=False) == 0
        assert site_bookkeeping(site, table(1, axis), normalize=True) == RANGES  # one pass for the row norms


def test_groups_cost_ranges_and_assignment():
    site = linear_site(linear())
    assert site_bookkeeping(site, table(8, CHANNELS), normalize=False) == RANGES + 32 * 192 * 8
    assert site_bookkeeping(site, table(8, ROWS), normalize=False) == RANGES + 32 * 197 * 8
    assert site_bookkeeping(site, table(8, ROWS), normalize=True) == 2 * RANGES + 32 * 197 * 8


def test_exact_groups_rescale_every_output():
    site = linear_site(linear())
    expected = RANGES + 32 * 192 * 8 + 197 * 576 * 8 * 32
    assert site_bookkeeping(site, table(8, CHANNELS, exact=True), normalize=False) == expected


def test_attention_counts_every_head():
    query = attention_sites(attention())[0]
    assert query.role is Role.QUERY
    assert site_bookkeeping(query, table(4, ROWS), normalize=False) == 3 * (32 * 197 * 64 + 32 * 197 * 4)
