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


class Case:
    """One token: K lists of V logits, the reference, and what else a method reads.

    ``fixed`` stands for ``logits`` wherever the method detaches them, ``fixed_gate`` and
    ``fixed_bridge`` likewise: the values are equal, but who takes a difference quotient changes the
    others alone. ``gate`` is K scores, ``attention`` P x P, ``teacher`` and ``bridge`` V logits.
    """

    def __init__(self, logits, gold, leaves=None, gate=None, attention=None, teacher=None,
                 bridge=None):  # fmt: skip
        self.logits, self.gold = logits, gold
        self.fixed = [list(z) for z in logits]
        self.leaves = leaves or list(range(len(logits)))
        self.gate, self.fixed_gate = gate, gate and list(gate)
        self.attention, self.teacher = attention, teacher
        self.bridge, self.fixed_bridge = bridge, bridge and list(bridge)

    def attached(self):
        """The same where nothing is detached."""
        self.fixed, self.fixed_gate, self.fixed_bridge = self.logits, self.gate, self.bridge
        return self

    def cross_entropies(self, epsilon):
        return sum(smoothed_cross_entropy(z, self.gold, epsilon) for z in self.logits)


def pull(target, mine, seek):
    """KL(target ‖ mine), or KL(mine ‖ target)."""
    return kl(mine, target) if seek else kl(target, mine)


def mean(numbers):
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def columns(vectors):
    """V lists of K numbers, of K lists of V."""
    return list(zip(*vectors, strict=True))


def dml(case, weight, T, epsilon):
    """Σ_k [CE_k + w T² mean_{j≠k} KL(sg p_j ‖ p_k)]."""
    total = case.cross_entropies(epsilon)
    for k, mine in enumerate(case.logits):
        others = [z for j, z in enumerate(case.fixed) if j != k]
        total += weight * T**2 * mean(kl(softmax(z, T), softmax(mine, T)) for z in others)
    return total


def rdrop(case, weight, T, epsilon):
    """Σ_k [CE_k + (w/2) T² mean_{j≠k} KL(p_k ‖ p_j)]; for two, w ½ [KL(1‖2) + KL(2‖1)]."""
    total = case.cross_entropies(epsilon)
    return total + sum(
        weight / 2 * T**2 * peer_divergence(case.logits, k, T) for k in range(len(case.logits))
    )


def simcut(case, weight, T, epsilon, seek=False):
    """Σ_leaves [CE_k0 + w T² mean_{v≥1} KL(p_k0 ‖ p_kv)]; a leaf's first member is in view 0."""
    total = 0.0
    for leaf in set(case.leaves):
        first, *others = [m for m, its in enumerate(case.leaves) if its == leaf]
        total += smoothed_cross_entropy(case.logits[first], case.gold, epsilon)
        if others:
            clean = softmax(case.fixed[first], T)
            apart = [pull(clean, softmax(case.logits[m], T), seek) for m in others]
            total += weight * T**2 * mean(apart)
    return total


def none(case, weight, T, epsilon):
    """Σ_k CE_k."""
    return case.cross_entropies(epsilon)


def ensemble(case, weight, T, epsilon, seek=False):
    """Σ_k [CE_k + w T² KL(sg mean_j p_j ‖ p_k)]."""
    target = [mean(p) for p in columns([softmax(z, T) for z in case.fixed])]
    total = case.cross_entropies(epsilon)
    return total + sum(weight * T**2 * pull(target, softmax(z, T), seek) for z in case.logits)


def cl_ilr(case, weight, T, epsilon, seek=False):
    """Σ_k [CE_k + w T² KL(softmax(mean_{j≠k} z_j / T) ‖ p_k)]."""
    total = case.cross_entropies(epsilon)
    for k, mine in enumerate(case.logits):
        others = [z for j, z in enumerate(case.fixed) if j != k]
        target = softmax([mean(z) for z in columns(others)], T)
        total += weight * T**2 * pull(target, softmax(mine, T), seek)
    return total


def kdcl_naive(case, weight, T, epsilon, seek=False):
    """Σ_k [CE_k + w T² KL(sg p_t ‖ p_k)], t the leaf with the highest probability of the gold."""
    best = max(case.fixed, key=lambda z: softmax(z)[case.gold])
    total = case.cross_entropies(epsilon)
    return total + sum(
        weight * T**2 * pull(softmax(best, T), softmax(z, T), seek) for z in case.logits
    )


def kdcl_minlogit(case, weight, T, epsilon, seek=False):
    """Σ_k [CE_k + w T² KL(sg softmax(min_k(z_k − z_k^y) / T) ‖ p_k)]."""
    counted = [[z - leaf[case.gold] for z in leaf] for leaf in case.fixed]
    target = softmax([min(z) for z in columns(counted)], T)
    total = case.cross_entropies(epsilon)
    return total + sum(weight * T**2 * pull(target, softmax(z, T), seek) for z in case.logits)


def mixture(weights, vectors):
    return [sum(w * x for w, x in zip(weights, column, strict=True)) for column in columns(vectors)]


def one(case, weight, T, epsilon, seek=False):
    """Σ_k [CE_k + w T² KL(sg p_e ‖ p_k)] + CE_e, z_e = Σ_k g_k z_k."""
    gate = softmax(case.gate)
    total = case.cross_entropies(epsilon)
    total += smoothed_cross_entropy(mixture(gate, case.logits), case.gold, epsilon)
    target = softmax(mixture(softmax(case.fixed_gate), case.fixed), T)
    return total + sum(weight * T**2 * pull(target, softmax(z, T), seek) for z in case.logits)


def okddip(case, weight, T, epsilon, seek=False, mix_probabilities=False, mask_self=False):
    """Σ_k CE_k + w T² [Σ_a KL(t_a ‖ p_a) + KL(t̄ ‖ p_leader)]; α keeps its gradient."""
    peers = [m for m, leaf in enumerate(case.leaves) if leaf != 0]
    fixed = [case.fixed[m] for m in peers]

    def target(weights):
        if mix_probabilities:
            return mixture(weights, [softmax(z, T) for z in fixed])
        return softmax(mixture(weights, fixed), T)

    total = case.cross_entropies(epsilon)
    for m, leaf in enumerate(case.leaves):
        if leaf == 0:
            weights = [1 / len(peers)] * len(peers)
        else:
            scores = list(case.attention[peers.index(m)])
            if mask_self:
                scores[peers.index(m)] = -1e9
            weights = softmax([s - max(scores) for s in scores])
        total += weight * T**2 * pull(target(weights), softmax(case.logits[m], T), seek)
    return total


def kd(case, weight, T, epsilon, seek=False):
    """Σ_k [(1−w) CE_k + w T² KL(p_teacher ‖ p_k)]."""
    total = (1 - weight) * case.cross_entropies(epsilon)
    teacher = softmax(case.teacher, T)
    return total + sum(weight * T**2 * pull(teacher, softmax(z, T), seek) for z in case.logits)


def sokd(case, weight, T, epsilon, seek=False):
    """Σ_k [CE_k + w T² KL(sg p_A ‖ p_k)] + K · CE_A

    + K · w T² [KL(p_T ‖ p_A) + mean_k KL(sg p_k ‖ p_A)].
    """
    K = len(case.logits)
    bridge, fixed_bridge = softmax(case.bridge, T), softmax(case.fixed_bridge, T)
    total = case.cross_entropies(epsilon)
    total += sum(weight * T**2 * pull(fixed_bridge, softmax(z, T), seek) for z in case.logits)
    own = smoothed_cross_entropy(case.bridge, case.gold, epsilon)
    own += weight * T**2 * pull(softmax(case.teacher, T), bridge, seek)
    own += weight * T**2 * mean(pull(softmax(z, T), bridge, seek) for z in case.fixed)
    return total + K * own


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


def slopes(function, numbers, step=1e-5):
    """Central differences of function() for every number of nested lists, in the same nesting."""
    if numbers and isinstance(numbers[0], list):
        return [slopes(function, inner, step) for inner in numbers]
    result = []
    for place, value in enumerate(numbers):
        numbers[place] = value + step
        above = function()
        numbers[place] = value - step
        below = function()
        numbers[place] = value
        result.append((above - below) / (2 * step))
    return result
