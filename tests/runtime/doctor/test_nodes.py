from onnxpipe.bundle import open_bundle
from onnxpipe.doctor.nodes import NodeShare, node_shares, run_nodes


def event(name, provider, duration, operator="MatMul", kind="Node"):
    return {"cat": kind, "name": name, "dur": duration, "args": {"provider": provider, "op_name": operator}}


def test_shares_count_nodes_once_and_times_always():
    events = [
        event("a", "CUDA", 50),
        event("a", "CUDA", 30),
        event("b", "CUDA", 10, "Add"),
        event("c", "CPU", 10, "Shape"),
        event("session", "CPU", 1000, kind="Session"),
        {"cat": "Node", "name": "fence", "dur": 5, "args": {}},
    ]
    assert node_shares("model", events) == [
        NodeShare(graph="model", provider="CUDA", nodes=2, time_share=0.9, operators=("Add", "MatMul")),
        NodeShare(graph="model", provider="CPU", nodes=1, time_share=0.1, operators=("Shape",)),
    ]


def test_nothing_recorded_gives_no_shares():
    assert node_shares("model", []) == []


def test_a_bundle_runs_its_golden_request_on_the_cpu(asked_bundle):
    (share,) = run_nodes(open_bundle(asked_bundle), "fp32", ["cpu"], 1)
    assert (share.graph, share.provider, share.time_share) == ("model", "CPUExecutionProvider", 1.0)
    assert share.nodes >= 1


def test_without_a_golden_request_nothing_runs(embedding_bundle):
    assert run_nodes(open_bundle(embedding_bundle()), "fp32", None, None) == ()
