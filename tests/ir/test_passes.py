import pytest

from qcompiler.errors import VerificationError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import Pass, Refusal, run_passes
from tests.passes.helpers import model_of

TEXT = "agraph (float[batch, 4] x) => (float[batch, 4] y) { r = Relu (x)  s = Sigmoid (r)  y = Tanh (s) }"


class Shorten(Pass):
    """Reads the input of Relu instead of its result, and refuses Tanh."""

    def apply(self, graph):
        for node in list(graph.nodes):
            if node.op == "Tanh":
                self.refuse(node, "no rule for it", node.op)
            if node.op == "Sigmoid" and node.inputs[0].inputs:
                node.inputs[0] = node.inputs[0].inputs[0].inputs[0]
                self.applied += 1
        return self.applied > 0


class Broken(Pass):
    def apply(self, graph):
        graph.nodes[-1].name = graph.nodes[0].name
        return True


class Demanding(Pass):
    def requires(self, graph):
        raise VerificationError("no")

    def apply(self, graph):
        raise AssertionError("not reached")


def test_report_and_clean_up():
    graph = to_graph(model_of(TEXT))
    (report,) = run_passes(graph, [Shorten()])
    assert (report.applied, report.nodes_before, report.nodes_after) == (1, 3, 2)
    assert report.refusals == (Refusal("Tanh_2", "no rule for it", "Tanh"),)
    assert str(report.refusals[0]) == "Tanh_2: no rule for it (Tanh)"
    assert report.name == "test_passes"
    assert [node.op for node in graph.nodes] == ["Sigmoid", "Tanh"]
    assert graph.nodes[0].outputs[0].shape == ["batch", 4]


def test_verify_each_finds_the_broken_pass():
    run_passes(to_graph(model_of(TEXT)), [Broken()])
    with pytest.raises(VerificationError, match="used twice"):
        run_passes(to_graph(model_of(TEXT)), [Broken()], verify_each=True)


def test_requires_comes_first():
    with pytest.raises(VerificationError, match="no"):
        run_passes(to_graph(model_of(TEXT)), [Demanding()])
