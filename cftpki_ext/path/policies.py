"""
Certificate policies along a path: RFC 5280 6.1.2 to 6.1.5, with the policy graph of RFC 9618.

Owns the valid-policy graph and the three counters. A graph, not a tree: a policy is at most one node of a level, so
that the size is linear in what the certificates hold and mappings cannot make it explode.
"""

from __future__ import annotations

from cftpki_ext.core.settings import PolicyInputs
from cftpki_ext.core.work import Work
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.extensions import ANY_POLICY


class _Node:
    """
    One policy at one level: what it is called there, what it is expected to be called below, its parents.
    """

    __slots__ = ("children", "expected", "parents", "policy")

    def __init__(self, policy: str, expected: frozenset[str], parents: tuple[_Node, ...]) -> None:
        self.policy = policy
        self.expected = expected
        self.parents = parents
        self.children = 0
        for parent in parents:
            parent.children += 1


_Level = dict[str, _Node]
_AT = "following certificate policies"


class PolicyState:
    """
    The policy state variables of RFC 5280 6.1.2, carried from the anchor down to the leaf.

    Call `process` for each certificate below the anchor, `prepare` after each but the last, `wrap_up` after
    the last.
    """

    def __init__(self, length: int, inputs: PolicyInputs, work: Work) -> None:
        """
        Start above the first certificate.

        Args:
            length: number of certificates below the anchor.
            inputs: the initial policy set and flags.
            work: where nodes and edges of the graph are counted.

        """
        self._inputs = inputs
        self._work = work
        self._explicit = 0 if inputs.explicit_policy else length + 1
        self._mapping = 0 if inputs.inhibit_policy_mapping else length + 1
        self._any = 0 if inputs.inhibit_any_policy else length + 1
        self._levels: list[_Level] = [{ANY_POLICY: _Node(ANY_POLICY, frozenset((ANY_POLICY,)), ())}]

    def process(self, certificate: Certificate, *, final: bool) -> bool:
        """
        RFC 5280 6.1.3 (d) to (f).

        Args:
            certificate: the next one.
            final: whether it is the leaf.

        Returns:
            False where an explicit policy is required and none is left (6.1.3 (f)).

        Raises:
            WorkExceededError: the question costs too much.

        """
        if certificate.policies is None:
            self._levels = []
        elif self._levels:
            self._grow(certificate, final=final)
        return self._explicit > 0 or bool(self._levels)

    def _grow(self, certificate: Certificate, *, final: bool) -> None:
        """
        6.1.3 (d): the next level of the graph.
        """
        above = self._levels[-1]
        # Each expectation is an edge of the graph: it is made, and perhaps taken away again.
        edges = sum(len(node.expected) for node in above.values())
        self._work.spend(edges + len(certificate.policies or ()), _AT)
        expecting: dict[str, list[_Node]] = {}
        for node in above.values():
            for policy in node.expected:
                expecting.setdefault(policy, []).append(node)
        policies = certificate.policies or ()
        level: _Level = {}
        wild = above.get(ANY_POLICY)
        for policy in policies:
            if policy == ANY_POLICY:
                continue
            parents = expecting.get(policy)
            if parents is None and wild is not None:
                parents = [wild]
            if parents is not None:
                level[policy] = _Node(policy, frozenset((policy,)), tuple(parents))
        if ANY_POLICY in policies and (self._any > 0 or (not final and certificate.self_issued)):
            for policy, parents in expecting.items():
                if policy not in level:
                    level[policy] = _Node(policy, frozenset((policy,)), tuple(parents))
        self._levels.append(level)
        self._prune()

    def _prune(self) -> None:
        """
        Delete the nodes above the last level that have no children; an empty last level empties the graph.
        """
        if not self._levels[-1]:
            self._levels = []
            return
        for level in reversed(self._levels[:-1]):
            for policy in [p for p, node in level.items() if not node.children]:
                for parent in level.pop(policy).parents:
                    parent.children -= 1

    def prepare(self, certificate: Certificate) -> bool:
        """
        RFC 5280 6.1.4 (a), (b), (h), (i), (j).

        Args:
            certificate: the CA that was just processed.

        Returns:
            False where a mapping is from or to anyPolicy (6.1.4 (a)).

        Raises:
            WorkExceededError: the question costs too much.

        """
        sound = True
        if certificate.policy_mappings:
            sound = all(ANY_POLICY not in pair for pair in certificate.policy_mappings)
            if sound and self._levels:
                self._map(certificate)
        if not certificate.self_issued:
            self._explicit = max(self._explicit - 1, 0)
            self._mapping = max(self._mapping - 1, 0)
            self._any = max(self._any - 1, 0)
        constraints = certificate.policy_constraints
        if constraints is not None:
            if constraints.require_explicit_policy is not None:
                self._explicit = min(self._explicit, constraints.require_explicit_policy)
            if constraints.inhibit_policy_mapping is not None:
                self._mapping = min(self._mapping, constraints.inhibit_policy_mapping)
        if certificate.inhibit_any_policy is not None:
            self._any = min(self._any, certificate.inhibit_any_policy)
        return sound

    def _map(self, certificate: Certificate) -> None:
        """
        6.1.4 (b): rename what is expected below, or drop what may not be renamed.
        """
        self._work.spend(len(certificate.policy_mappings), _AT)
        renamed: dict[str, set[str]] = {}
        for issuer_policy, subject_policy in certificate.policy_mappings:
            renamed.setdefault(issuer_policy, set()).add(subject_policy)
        level = self._levels[-1]
        for policy, expected in renamed.items():
            node = level.get(policy)
            if self._mapping > 0:
                if node is not None:
                    node.expected = frozenset(expected)
                elif ANY_POLICY in level:
                    level[policy] = _Node(policy, frozenset(expected), level[ANY_POLICY].parents)
            elif node is not None:
                del level[policy]
                for parent in node.parents:
                    parent.children -= 1
        self._prune()

    def wrap_up(self, certificate: Certificate) -> tuple[bool, frozenset[str]]:
        """
        RFC 5280 6.1.5 (a), (b), (g): the policies that hold for the whole path.

        Args:
            certificate: the leaf.

        Returns:
            Whether the path satisfies what is required, and the user-constrained policy set.

        """
        explicit = max(self._explicit - 1, 0)  # also for a self-issued leaf: 6.1.5 (a) makes no exception
        constraints = certificate.policy_constraints
        if constraints is not None and constraints.require_explicit_policy == 0:
            explicit = 0
        valid = self._user_constrained()
        return explicit > 0 or bool(valid), valid

    def _user_constrained(self) -> frozenset[str]:
        """
        The policies of the anchor's domain that reach the leaf, cut with the initial policy set.
        """
        if not self._levels:
            return frozenset()
        authority = {
            node.policy
            for level in self._levels[1:]
            for node in level.values()
            if node.policy != ANY_POLICY and any(p.policy == ANY_POLICY for p in node.parents)
        }
        wild = ANY_POLICY in self._levels[-1]
        initial = self._inputs.initial_policies
        if ANY_POLICY in initial:
            return frozenset(authority | ({ANY_POLICY} if wild else set()))
        return frozenset(initial if wild else authority & initial)
