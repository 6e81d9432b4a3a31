"""Whether all forms of a network compute the same: every leg over every case, against float64.

    cases -> legs (torch_legs, graph_legs) -> compare, with what the oracle allows -> collector -> findings -> report

The float64 oracle is the NumPy reference where it knows the network (reference_view, oracle), and the graph itself in
float64 where there is nothing but a graph (graph_oracle). The laws hold between runs of one graph, whatever that
computes. docs/equivalence.md says what is compared, and where the tolerances come from.
"""
