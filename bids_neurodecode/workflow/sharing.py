"""Steps that several workflows have in common are run once.

Two nodes are the same step when they have the same name, interface and inputs and the same steps
before them (common-subexpression elimination). Such a node is kept once, under a name that holds
a digest of all of this: its folder in the work folder is found again by the next run, whatever
other workflows stand beside it then. Nodes that run each time (those that write results) are
never merged: they keep the name of their workflow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from nipype.interfaces.base import isdefined

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node, Workflow

SAME_NAME = 'Two workflows are called {name!r} once their names are made fit for folders.'
DIGITS = 12
"""Length of the digest in a node's name; 48 bits."""


@dataclass(frozen=True)
class Shared:
    """One workflow in place of several.

    Parameters
    ----------
    workflow
        A Nipype workflow that gives what all of them give.
    users
        Which of the workflows need a node, by its name.
    originals
        What the node is called in them.
    n_before
        Number of nodes of all workflows together.
    """

    workflow: Workflow
    users: Mapping[str, tuple[str, ...]]
    originals: Mapping[str, str]
    n_before: int

    @property
    def n_shared(self) -> int:
        """Number of nodes that more than one workflow uses."""
        return sum(len(users) > 1 for users in self.users.values())


def share(workflows: Mapping[str, Workflow], name: str) -> Shared:
    """Put workflows together into one, in which each distinct step is run once.

    Parameters
    ----------
    workflows
        Nipype workflows of nodes (no workflows within), by the name of what each is for.
    name
        Name of the new workflow. Its nodes are copies; the workflows are left as they are.

    Raises
    ------
    ValueError
        If two names come to the same folder.
    """
    from nipype.pipeline import engine as pe

    together = pe.Workflow(name=name)
    kept: dict[str, Node] = {}
    users: dict[str, list[str]] = {}
    originals: dict[str, str] = {}
    n_before = 0
    words = {user: folder_word(user) for user in workflows}
    for user, word in words.items():
        if list(words.values()).count(word) > 1:
            raise ValueError(SAME_NAME.format(name=word))
        graph = workflows[user]._graph
        names = step_names(graph, word)
        n_before += len(names)
        for node, step in names.items():
            users.setdefault(step, []).append(user)
            if step in kept:
                _ask_for_more(kept[step], node)
                continue
            kept[step] = node.clone(step)
            kept[step]._hierarchy = None  # that of the new workflow, given when it is added
            originals[step] = node.name
            together.add_nodes([kept[step]])
            for source, _, data in graph.in_edges(node, data=True):
                for output, field in data['connect']:
                    together.connect(kept[names[source]], output, kept[step], field)
    return Shared(together, {step: tuple(who) for step, who in users.items()}, originals, n_before)


def step_names(graph: Any, user: str) -> dict[Node, str]:
    """Return the name of each node in the new workflow, in an order in which they can be run.

    Parameters
    ----------
    graph
        Directed graph of Nipype nodes; edges hold the connected outputs and inputs.
    user
        What nodes that are not merged are called by, behind their own name.
    """
    digests: dict[Node, str] = {}
    names: dict[Node, str] = {}
    before = {node: set(graph.predecessors(node)) for node in graph}
    for node in TopologicalSorter(before).static_order():
        sources = sorted(
            (field, digests[source], repr(output))
            for source, _, data in graph.in_edges(node, data=True)
            for output, field in data['connect']
        )
        kind = [
            node.name,
            _class_of(node),
            _class_of(node.interface),
            getattr(node, 'iterfield', None),
        ]
        words = [*kind, inputs_of(node), sources]
        if not mergeable(node):
            words.append(user)
        text = json.dumps(words, sort_keys=True, default=repr)
        digests[node] = hashlib.sha256(text.encode()).hexdigest()
        label = digests[node][:DIGITS] if mergeable(node) else user
        names[node] = f'{node.name}_{label}'
    return names


def mergeable(node: Node) -> bool:
    """Return whether a node may stand for its equals: not if it is run anew each time."""
    return not (node.interface._always_run or node.iterables)


def inputs_of(node: Node) -> dict[str, object]:
    """Return the inputs that are set on a node itself, by name."""
    return {key: value for key, value in sorted(node.inputs.get().items()) if isdefined(value)}


def folder_word(name: str) -> str:
    """Return a name as Nipype takes it: letters, digits and underscores.

    Examples
    --------
    >>> folder_word('seconds-5.2'), folder_word('a+b')
    ('seconds_5p2', 'a_and_b')
    """
    return re.sub(r'\W', '_', name.replace('.', 'p').replace('+', '_and_'))


def _class_of(thing: object) -> str:
    return f'{type(thing).__module__}.{type(thing).__qualname__}'


def _ask_for_more(kept: Node, other: Node) -> None:
    """Let a node that stands for two state the larger of what they state."""
    if (other.n_procs or 1) > (kept.n_procs or 1):
        kept.n_procs = other.n_procs
    kept._mem_gb = max(kept.mem_gb, other.mem_gb)
