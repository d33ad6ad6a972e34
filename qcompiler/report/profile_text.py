"""Profiles as text: by operator, and by node."""

from __future__ import annotations

from rich.console import Group

from qcompiler.report.profile import ModelProfile
from qcompiler.report.tables import table

NODES_SHOWN = 20


def operator_table(profile: ModelProfile) -> Group:
    """One row per operator, the longest first."""
    total = profile.total_us or 1.0
    rows = [
        (item.op, item.nodes, f"{item.us:.0f}", f"{100 * item.us / total:.1f}", f"{item.us / item.nodes:.1f}")
        for item in profile.operators()
    ]
    rows.append(("all", len(profile.nodes), f"{profile.total_us:.0f}", "100.0", ""))
    threads = "1 thread" if profile.threads == 1 else f"{profile.threads or 'all'} threads"
    title = (
        f"{profile.path}: time by operator at batch {profile.batch}, {threads}, median of {profile.runs} runs "
        f"({profile.run_us:.0f} us a run under the profiler)"
    )
    return table(title, ("operator",), ("nodes", "us", "% of all", "us a node"), rows)


def node_table(profile: ModelProfile, most: int | None = NODES_SHOWN) -> Group:
    """One row per node, the longest first.

    Args:
        profile: The profile.
        most: Rows to show, the others in one; None for all.
    """
    total = profile.total_us or 1.0
    ranked = sorted(profile.nodes, key=lambda node: -node.us)
    shown = ranked if most is None else ranked[:most]
    rows = [
        (node.name, node.op, node.kind, node.widths, f"{node.us:.0f}", f"{100 * node.us / total:.1f}") for node in shown
    ]
    others = sum(node.us for node in ranked[len(shown) :])
    if len(ranked) > len(shown):
        label = f"{len(ranked) - len(shown)} others"
        rows.append((label, "", None, None, f"{others:.0f}", f"{100 * others / total:.1f}"))
    columns = ("node", "operator", "layer", "widths")
    return table("Time by node", columns, ("us", "% of all"), rows, optional=("layer", "widths"))
