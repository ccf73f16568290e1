"""A tree as text. Imports no torch."""

from tsa_fairseq.tree.topology import Branch, Topology


def draw(topology: Topology) -> str:
    """The tree as text, one line a branch, each leaf with its number."""
    lines: list[str] = []
    _draw(topology.root, 0, "", "", lines, [0])
    return "\n".join(lines)


def _draw(
    branch: Branch, depth: int, lead: str, hang: str, lines: list[str], leaves: list[int]
) -> None:
    """Append the lines of ``branch``; ``leaves[0]`` counts the leaves drawn so far."""
    first, last = depth + 1, depth + branch.layers
    if branch.layers == 0:
        label = "embedded tokens"
    else:
        label = f"layer {first}" if first == last else f"layers {first}-{last}"
    if not branch.children:
        label += f" ── leaf {leaves[0]}"
        leaves[0] += 1
    lines.append(lead + label)
    for number, child in enumerate(branch.children, start=1):
        # by position: the children of a balanced tree are equal, even the same object
        is_last = number == len(branch.children)
        _draw(
            child,
            last,
            hang + ("└─ " if is_last else "├─ "),
            hang + ("   " if is_last else "│  "),
            lines,
            leaves,
        )
