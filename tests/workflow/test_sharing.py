"""Steps that graphs share are run once, and give what they give without sharing."""

from pathlib import Path

import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe

from bids_neurodecode.workflow.run import execution_config
from bids_neurodecode.workflow.sharing import SAME_NAME, inputs_of, share

N_STEPS = 4


class AddInput(BaseInterfaceInputSpec):
    number = traits.Int(mandatory=True)
    first = traits.Int()
    second = traits.Int()
    log = traits.Str(desc='folder; each execution adds a line to a file in it')


class AddOutput(TraitedSpec):
    out = traits.Int()
    double = traits.Int()


class Add(SimpleInterface):
    """Adds what it is given, and notes that it was run."""

    input_spec = AddInput
    output_spec = AddOutput

    def _run_interface(self, runtime):
        given = {k: v for k, v in inputs_of(self).items() if k != 'log'}
        total = sum(given.values())
        if self.inputs.log:
            with (Path(self.inputs.log) / 'log.txt').open('a', encoding='utf-8') as stream:
                stream.write(f'{total}\n')
        self._results.update({'out': total, 'double': 2 * total})
        return runtime


class Write(Add):
    """The same, run anew each time."""

    _always_run = True


# a graph: for each step its number, and (source, output, field) of up to two earlier steps
def graphs():
    def step(k):
        sources = st.integers(0, k - 1) if k else st.nothing()
        edge = st.tuples(sources, st.sampled_from(['out', 'double']))
        return st.tuples(st.integers(0, 1), st.lists(edge, max_size=2 if k else 0))

    return st.tuples(*(step(k) for k in range(N_STEPS)))


def workflow_of(graph, name='w', log=None):
    workflow = pe.Workflow(name)
    nodes = [pe.Node(Add(number=number), f'step{k}') for k, (number, _) in enumerate(graph)]
    if log is not None:
        for node in nodes:
            node.inputs.log = str(log)
    nodes.append(pe.Node(Write(number=5), 'write'))
    workflow.add_nodes(nodes)
    for k, (_, edges) in enumerate(graph):
        for field, (source, output) in zip(('first', 'second'), edges, strict=False):
            workflow.connect(nodes[source], output, nodes[k], field)
    workflow.connect(nodes[-2], 'out', nodes[-1], 'first')
    return workflow


def values_of(graph):
    """The outputs of each step, computed without Nipype; a step is told apart by its history."""
    values, histories = [], []
    for k, (number, edges) in enumerate(graph):
        given = [(field, *edge) for field, edge in zip(('first', 'second'), edges, strict=False)]
        value = number + sum((1 if o == 'out' else 2) * values[s] for _, s, o in given)
        values.append(value)
        histories.append((f'step{k}', number, tuple((f, histories[s], o) for f, s, o in given)))
    return values, histories


def run(workflow, folder):
    workflow.base_dir = str(folder)
    for section, content in execution_config(stop_on_first_crash=True).items():
        workflow.config.setdefault(section, {}).update(content)
    done = workflow.run(plugin='Linear')
    return {node.name: node.result.outputs.out for node in done.nodes()}


@pytest.mark.slow
@given(st.lists(graphs(), min_size=1, max_size=4))
def test_each_distinct_step_is_there_once(several):
    graph_of = {f'v{k}': workflow_of(graph) for k, graph in enumerate(several)}
    shared = share(graph_of, 'together')
    histories = {history for graph in several for history in values_of(graph)[1]}
    assert len(shared.originals) == len(histories) + len(several)
    assert shared.n_before == (N_STEPS + 1) * len(several)
    for k in range(len(several)):
        mine = [step for step, users in shared.users.items() if f'v{k}' in users]
        assert sorted(shared.originals[step] for step in mine) == sorted(
            [*(f'step{n}' for n in range(N_STEPS)), 'write']
        )
        assert shared.users[f'write_v{k}'] == (f'v{k}',)


@given(st.lists(graphs(), min_size=2, max_size=3))
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
def test_results_are_those_without_sharing(tmp_path_factory, several):
    folder = tmp_path_factory.mktemp('run')
    graph_of = {f'v{k}': workflow_of(graph, log=folder) for k, graph in enumerate(several)}
    shared = share(graph_of, 'together')
    found = run(shared.workflow, folder)
    for k, graph in enumerate(several):
        values, _ = values_of(graph)
        assert found[f'write_v{k}'] == 5 + values[-1]
        for step, users in shared.users.items():
            if f'v{k}' in users and step != f'write_v{k}':
                number = int(shared.originals[step].removeprefix('step'))
                assert found[step] == values[number]
    written = (folder / 'log.txt').read_text().split()
    assert len(written) == len(shared.originals) - len(several)


def test_folders_stay_when_a_graph_is_added(tmp_path):
    one = ((0, []), (1, [(0, 'out')]), (1, []), (0, [(1, 'out'), (2, 'double')]))
    two = ((0, []), (1, [(0, 'double')]), (1, []), (0, [(1, 'out'), (2, 'double')]))
    log = tmp_path / 'log.txt'
    before = share({'a': workflow_of(one, log=tmp_path)}, 'together')
    run(before.workflow, tmp_path)
    n_first = len(log.read_text().split())
    after = share(
        {'b': workflow_of(two, log=tmp_path), 'a': workflow_of(one, log=tmp_path)}, 'together'
    )
    assert {step for step, users in after.users.items() if 'a' in users} == set(before.users)
    run(after.workflow, tmp_path)
    # steps 1 and 3 of the second graph are new; steps 0 and 2 are those of the first
    assert len(log.read_text().split()) == n_first + 2


def test_the_same_graph_twice_costs_its_writers_only():
    graph = ((0, []), (1, [(0, 'out')]), (1, []), (0, [(1, 'out')]))
    shared = share({name: workflow_of(graph) for name in 'abc'}, 'together')
    assert len(shared.originals) == N_STEPS + 3
    assert shared.n_shared == N_STEPS
    edges = shared.workflow._graph
    assert nx.is_directed_acyclic_graph(edges)
    assert all(edges.in_degree(node) == 1 for node in edges if node.name.startswith('write'))


def test_what_a_shared_step_asks_for_is_the_most_that_was_asked():
    def graph(memory, n_procs):
        workflow = pe.Workflow('w')
        workflow.add_nodes([pe.Node(Add(number=1), 'one', mem_gb=memory, n_procs=n_procs)])
        return workflow

    shared = share({'a': graph(1, 4), 'b': graph(3, 2)}, 'together')
    (name,) = shared.originals
    node = shared.workflow.get_node(name)
    assert (node.mem_gb, node.n_procs) == (3, 4)


def test_functions_on_connections_tell_steps_apart(tmp_path):
    def graph(text):
        workflow = pe.Workflow('w')
        first = pe.Node(Add(number=3), 'first')
        second = pe.Node(Function(['x'], ['y'], function='def f(x):\n    return x'), 'second')
        workflow.connect([(first, second, [(('out', text), 'x')])])
        return workflow

    one, other = 'def g(x):\n    return x + 1', 'def g(x):\n    return x + 2'
    shared = share({'a': graph(one), 'b': graph(other), 'c': graph(one)}, 'together')
    assert sorted(shared.originals.values()) == ['first', 'second', 'second']


def test_names_that_come_to_one_folder_are_refused():
    graph = ((0, []),) * N_STEPS
    with pytest.raises(ValueError, match=SAME_NAME.format(name='a_b')):
        share({'a-b': workflow_of(graph), 'a b': workflow_of(graph)}, 'together')
