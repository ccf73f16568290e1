"""Every objective again, as plain float64 loops written from the equations.

Imports nothing from the package, so that it cannot share a mistake with it.
"""

import math


def softmax(logits, temperature=1.0):
    """p_v = exp(z_v / T) / Σ_u exp(z_u / T), for a list of V numbers."""
    exps = [math.exp(z / temperature) for z in logits]
    return [e / sum(exps) for e in exps]


def kl(a, b):
    """KL(a ‖ b) = Σ_v a_v (log a_v − log b_v)."""
    return sum(x * (math.log(x) - math.log(y)) for x, y in zip(a, b, strict=True))


def smoothed_cross_entropy(logits, gold, epsilon):
    """(1 − ε − ε_i) · (−log p_gold) + ε_i Σ_v (−log p_v), ε_i = ε / (V − 1)."""
    probs = softmax(logits)
    eps_i = epsilon / (len(probs) - 1)
    return -(1 - epsilon - eps_i) * math.log(probs[gold]) - eps_i * sum(map(math.log, probs))


def peer_divergence(logits, leaf, temperature):
    """mean_{j≠k} KL(p_k^T ‖ p_j^T) for one token; ``logits`` is K lists of V numbers."""
    mine = softmax(logits[leaf], temperature)
    others = [softmax(z, temperature) for j, z in enumerate(logits) if j != leaf]
    return sum(kl(mine, other) for other in others) / len(others)


def tsa(logits, gold, alpha, temperature, epsilon):
    """(1/K) Σ_n Σ_k [(1−α) CE_k + α T² mean_{j≠k} KL(p_k^T ‖ p_j^T)].

    ``logits`` is N lists of K lists of V numbers, ``gold`` N word numbers.
    """
    total = 0.0
    for token, word in zip(logits, gold, strict=True):
        for leaf in range(len(token)):
            total += (1 - alpha) * smoothed_cross_entropy(token[leaf], word, epsilon)
            total += alpha * temperature**2 * peer_divergence(token, leaf, temperature)
    return total / len(logits[0])


def gradient(function, logits, step=1e-5):
    """Central differences of function(logits) for every number in N x K x V nested lists."""
    result = [[[0.0] * len(leaf) for leaf in token] for token in logits]
    for n, token in enumerate(logits):
        for k, leaf in enumerate(token):
            for v, value in enumerate(leaf):
                leaf[v] = value + step
                above = function(logits)
                leaf[v] = value - step
                below = function(logits)
                leaf[v] = value
                result[n][k][v] = (above - below) / (2 * step)
    return result
