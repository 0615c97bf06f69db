"""Steps: what is written is read equal, products are found by name, nodes are reused or not."""

import json
import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nipype.interfaces.base import isdefined
from nipype.pipeline import engine as pe

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.cli.progress import Progress
from bids_neurodecode.config import Config, build_config
from bids_neurodecode.errors import DataError, InputError, ResourceError
from bids_neurodecode.samples import VoxelMask, split_by_group
from bids_neurodecode.systems.encoding.steps.prediction import apply_encoding
from bids_neurodecode.systems.reconstruction.generation.steps.prediction import apply_generation
from bids_neurodecode.systems.reconstruction.steps.prediction import apply_decoder
from bids_neurodecode.systems.steps.plan import PARTS, TRIALS, Plan
from bids_neurodecode.workflow import step as steps
from bids_neurodecode.workflow.files import WRONG_FORM
from bids_neurodecode.workflow.nodes import NO_MAKER, UNKNOWN, Ladder, RunSettings
from bids_neurodecode.workflow.process import BROKEN, KILLED, MADE
from bids_neurodecode.workflow.resources import INTERPRETER_GB, DataSize
from bids_neurodecode.workflow.run import PluginSettings, execution_config, run_workflow
from bids_neurodecode.workflow.stage import STAGE_FILE
from bids_neurodecode.workflow.step import (
    ALL,
    TWICE,
    UNDECLARED,
    UNMADE,
    UNREADABLE,
    Parameter,
    Step,
    find_step,
    only,
    parameters_of,
    read,
    write,
)
from tests.workflow import step_samples as samples
from tests.workflow.step_samples import steps_of_the_program

PERSON = ParticipantInput('01', 'x', 'images', (), Path('stimuli'), ('a.png',))
SIZE = DataSize(10, (20,), 4)
LINEAR = PluginSettings('Linear', {})
SAMPLES = [each for each in vars(samples).values() if isinstance(each, Step)]


# products ---------------------------------------------------------------------------------------

ARRAYS = st.sampled_from(['float32', 'float64', 'int64', 'uint8', 'bool']).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
WORDS = st.text('ab 01./_-é', min_size=1, max_size=6).filter(lambda text: text.strip() == text)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder that examples share: each writes its products anew."""
    return tmp_path_factory.mktemp('products')


def written(name, value, kind, folder):
    """Return a product as the next step is handed it."""
    parameter = Parameter(name, kind, many=isinstance(value, list), needed=True)
    return parameter.read(write(name, value, folder))


@given(ARRAYS)
def test_arrays_are_read_as_they_were_written(place, array):
    again = written('array', array, npt.NDArray, place)
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(again, array)


def test_what_a_step_does_to_an_array_stays_its_own(tmp_path):
    file = write('numbers', np.arange(4.0), tmp_path)
    mine = read(npt.NDArray[np.float64], Path(file))
    mine += 1
    assert read(npt.NDArray[np.float64], Path(file)).tolist() == [0, 1, 2, 3]


@given(st.lists(st.tuples(WORDS, st.integers(-9, 9), st.floats(width=32, allow_infinity=False))))
def test_tables_are_read_as_they_were_written(place, rows):
    table = pd.DataFrame(rows, columns=['stimulus', 'run', 'value'])
    table = table.astype({'stimulus': object, 'run': 'int64', 'value': 'float64'})
    again = written('table', table, pd.DataFrame, place)
    # identifiers stay text, '007' and '1e5' too; n/a is what is missing
    assert again['stimulus'].tolist() == table['stimulus'].tolist()
    assert again['run'].tolist() == table['run'].tolist()
    values = again['value'].to_numpy(dtype=np.float32)
    np.testing.assert_array_equal(values, table['value'].to_numpy(dtype=np.float32))


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_descriptions_are_read_as_they_were_written(place, content):
    assert written('note', content, dict[str, object], place) == content


@dataclass(frozen=True)
class Inner:
    """Facts within facts."""

    name: str
    scores: tuple[float, ...] = ()
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Said:
    """Facts of all kinds that steps hand on."""

    inner: Inner
    several: tuple[Inner, ...]
    by_model: dict[str, float]
    n: int
    tested: bool
    p: float | None = None


TEXT = st.text(max_size=5)
INNER = st.builds(
    Inner,
    TEXT,
    st.lists(st.floats(), max_size=3).map(tuple),
    st.none() | WORDS.map(Path),
)
SAID = st.builds(
    Said,
    inner=INNER,
    several=st.lists(INNER, max_size=2).map(tuple),
    by_model=st.dictionaries(TEXT, st.floats(), max_size=2),
    n=st.integers(-9, 9),
    tested=st.booleans(),
    p=st.none() | st.floats(),
)


@given(SAID)
def test_facts_are_read_as_they_were_written(place, facts):
    again = written('facts', facts, Said, place)
    assert type(again) is Said
    assert repr(again) == repr(facts), 'NaN too'


def test_numbers_of_numpy_are_facts(tmp_path):
    values = np.arange(2, dtype=np.float32)
    facts = Said(
        inner=Inner('a', tuple(values)),
        several=(),
        by_model={'b': values[1]},
        n=np.int64(3),
        tested=np.True_,
    )
    assert written('facts', facts, Said, tmp_path) == Said(
        inner=Inner('a', (0.0, 1.0)), several=(), by_model={'b': 1.0}, n=3, tested=True
    )


@pytest.mark.parametrize(
    ('content', 'what'),
    [
        ({'scores': []}, 'name: Field required'),
        ({'name': 1}, 'name: Input should be a valid string'),
    ],
)
def test_facts_of_another_form_are_refused(tmp_path, content, what):
    file = tmp_path / 'facts.json'
    file.write_text(json.dumps(content))
    with pytest.raises(DataError) as raised:
        read(Inner, file)
    assert str(raised.value) == WRONG_FORM.format(file=file, kind='Inner', what=what)


@settings(max_examples=30)
@given(st.lists(ARRAYS, max_size=4))
def test_products_of_several_files_keep_their_order(place, arrays):
    again = written('blocks', arrays, npt.NDArray, place)
    assert len(again) == len(arrays)
    for one, other in zip(again, arrays, strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_files_than_digits_keep_their_order(tmp_path):
    values = [np.array([k]) for k in range(1001)]
    again = written('blocks', values, npt.NDArray, tmp_path)
    assert [int(each[0]) for each in again] == list(range(1001))


def test_files_that_a_step_wrote_itself_are_handed_on(tmp_path):
    own = tmp_path / 'own.bin'
    own.write_bytes(b'x')
    assert written('own', own, Path, tmp_path) == own
    assert written('own', [own, str(own)], Path, tmp_path) == [own, own]
    assert own.read_bytes() == b'x'


def trials(n: int = 12) -> pd.DataFrame:
    return pd.DataFrame(
        {'stimulus': [f'0{k % 4}.png' for k in range(n)], 'run': [k // 4 for k in range(n)]}
    )


def test_types_that_know_how_are_asked(tmp_path):
    volume = np.zeros((3, 2, 2), dtype=bool)
    volume[0] = True
    VoxelMask(volume, np.diag([2.0, 2, 2, 1])).save(tmp_path / 'mask.nii.gz')
    mask = read(VoxelMask, tmp_path / 'mask.nii.gz')
    np.testing.assert_array_equal(mask.mask, volume)
    plan = Plan(split_by_group(trials(), 'run'), 'so', ('copies',), 1.5)
    again = read(Plan, plan.save(tmp_path)['plan'])
    assert (again.why, again.leaks, again.stimulus_duration) == ('so', ('copies',), 1.5)
    assert again.split.by == 'run'
    pd.testing.assert_frame_equal(again.table, plan.table)
    for one, other in zip(again.split, plan.split, strict=True):
        np.testing.assert_array_equal(one.test, other.test)
        np.testing.assert_array_equal(one.train, other.train)


def test_all_that_a_plan_is_read_from_is_known(tmp_path):
    saved = Plan(split_by_group(trials(), 'run'), 'so').save(tmp_path)
    assert set(Plan.files(saved['plan'])) == set(saved.values())


# steps ------------------------------------------------------------------------------------------


def test_a_step_is_still_a_function():
    made = samples.draw(build_config({'seed': 3}), 5, factor=1.0, shift=False)
    np.testing.assert_array_equal(made['numbers'], np.random.default_rng(3).standard_normal(5))
    assert samples.draw.__doc__.startswith('One product of each kind')


def call(step, folder, **inputs):
    folder.mkdir(exist_ok=True)
    return step.call(inputs, folder, folder / 'checkpoints')


def test_defaults_take_the_place_of_what_is_not_given(tmp_path):
    config = build_config({'seed': 3}).model_dump_json()
    made = call(samples.draw, tmp_path / 'draw', config=config, n=5)
    assert set(made) == {'numbers', 'table', 'blocks', 'note'}, 'None is not written'
    expected = samples.draw(build_config({'seed': 3}), 5)
    np.testing.assert_array_equal(np.load(made['numbers']), expected['numbers'])
    total = call(samples.add_up, tmp_path / 'add', config=config, **made)['total']
    content = json.loads(Path(total).read_text())
    assert content['numbers'] == expected['numbers'].tolist()
    assert content['table']['stimulus'] == ['000', '001', '002', '003', '004']
    assert [len(each) for each in content['blocks']] == [2, 3]
    assert content['note'] == {'n': 5, 'why': ['so']}
    assert content['nothing'] is content['others'] is None
    more = call(samples.add_up, tmp_path / 'add', config=config, **made, others=made['numbers'])
    assert json.loads(Path(more['total']).read_text())['others'] == content['numbers']


def test_an_interface_holds_only_what_it_was_given():
    inputs = samples.draw.interface(config='{}', n=2).inputs
    assert not isdefined(inputs.factor)
    assert not isdefined(inputs.shift)
    # in the hash of its node: what it left under another name cannot be read
    assert find_step(inputs.step) is samples.draw


def test_settings_that_a_step_does_not_name_are_not_there(tmp_path):
    config = build_config({'seed': 3})
    narrow = only(config, ('seed',))
    assert narrow.seed == 3
    assert config.ridge.n_folds, 'those of the others are as before'
    for name in set(Config.model_fields) - {'seed'}:
        with pytest.raises(AttributeError, match=name):
            getattr(narrow, name)
    assert only(config, ALL) == config
    with pytest.raises(AttributeError, match='ridge'):
        call(samples.nosy, tmp_path, config=config.model_dump_json())


def test_what_a_step_does_not_say_that_it_makes_is_refused(tmp_path):
    with pytest.raises(ValueError, match='returned') as caught:
        call(samples.talkative, tmp_path)
    assert str(caught.value) == UNMADE.format(step='talkative', names='another, unasked')
    assert not list(tmp_path.iterdir())


def test_a_record_that_a_step_does_not_declare_is_refused(tmp_path):
    undeclared = steps.step('say', makes=('said',))(samples.say.function)
    with pytest.raises(TypeError) as caught:
        call(undeclared, tmp_path, n=3)
    assert str(caught.value) == UNDECLARED.format(step='say', name='said', kind='Said')


@dataclass(frozen=True)
class Holding:
    """A record of records of its own kind, and of a type that is not there when it runs."""

    within: 'Holding | None'


@dataclass(frozen=True)
class Unseen:
    value: 'NotThere'  # noqa: F821


def test_the_form_of_a_record_that_holds_itself_ends():
    assert steps.form_of(Holding).endswith('Holding | None[Holding, NoneType]]')
    assert steps.form_of(Unseen) == 'Unseen[value: NotThere]'


def test_what_no_file_is_read_as_is_refused_when_the_step_is_written():
    def function(numbers: set[int], folder: Path) -> dict:
        raise NotImplementedError

    with pytest.raises(TypeError) as caught:
        steps.step('sum', makes=())(function)
    assert str(caught.value) == UNREADABLE.format(name='numbers', step='function', kind=set[int])


def test_what_is_taken_twice_is_refused_when_the_step_is_written():
    def function(drawn: samples.Drawn, blocks: Path) -> dict:
        raise NotImplementedError

    with pytest.raises(TypeError) as caught:
        steps.step('sum', makes=())(function)
    assert str(caught.value) == TWICE.format(step='function', name='blocks')


def test_annotations_say_what_is_read():
    found = {each.name: each for each in parameters_of(samples.train.function)}
    assert {name for name, each in found.items() if each.is_record} == {'participant', 'config'}
    assert {name for name, each in found.items() if each.is_product} == {
        'numbers', 'blocks', 'plan'
    }  # fmt: skip
    assert {name for name, each in found.items() if each.many} == {'blocks'}
    assert {name for name, each in found.items() if not each.needed} == {'plan', 'cache'}


@pytest.mark.parametrize('found', [*SAMPLES, *(each for _, each in steps_of_the_program())])
def test_workers_find_the_classes_of_a_step(found):
    for kind in (found.interface, found.input_spec, found.output_spec):
        assert pickle.loads(pickle.dumps(kind)) is kind
    assert find_step(found.place) is found


def test_steps_name_settings_that_exist_and_products_once():
    found = steps_of_the_program()
    assert len(found) > 15
    for place, each in found:
        assert each.settings == ALL or set(each.settings) <= set(Config.model_fields), place
        assert set(each.many) <= set(each.makes), place
        assert len(set(each.makes)) == len(each.makes), place
        takes_settings = any(p.kind is Config for p in each.parameters)
        assert takes_settings == bool(each.settings), place
        if each.apart is not None:
            # whose process was killed is said by the participant's label
            assert any(p.kind is ParticipantInput for p in each.parameters), place


@pytest.mark.parametrize(
    ('applied', 'name'),
    [
        (apply_decoder, 'model'),
        (apply_encoding, 'model'),
        (apply_generation, 'generation_model'),
        (samples.apply, 'model'),
    ],
)
def test_a_model_that_was_trained_again_is_applied_again(applied, name, tmp_path):
    """What is known when the graph is built may be a file: then its content counts, too."""
    file = tmp_path / 'model.safetensors'
    file.write_text('one')
    interface = applied.interface(**{name: str(file)})
    before = interface.inputs.get_hashval(hash_method='timestamp')[1]
    assert interface.inputs.get_hashval(hash_method='timestamp')[1] == before
    state = file.stat()
    file.write_text('other')
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    assert interface.inputs.get_hashval(hash_method='timestamp')[1] != before


# ladders ----------------------------------------------------------------------------------------


def make_ladder(folder: Path, *, threads: int = 4, device: str = 'cpu', **changes) -> Ladder:
    workflow = pe.Workflow('sub_01_wf', base_dir=str(folder / 'work'))
    for name in ('out', 'work'):
        (folder / name).mkdir(exist_ok=True)
    config = build_config(changes)
    run = RunSettings(
        config, folder / 'out', folder / 'work', 'id', threads, device, folder / 'raw', {}
    )
    return Ladder(workflow, run=run, participant=PERSON, size=SIZE)


def climb(ladder: Ladder, plugin: PluginSettings = LINEAR) -> list[str]:
    """Run what has to be run; return its names."""
    before = times(ladder)
    workflow = ladder.workflow
    for name in workflow.list_node_names():
        crashes = str(ladder.run.work_dir / 'crashes')
        workflow.get_node(name).config = {'execution': {'crashdump_dir': crashes}}
    for section, values in execution_config(stop_on_first_crash=False).items():
        workflow.config.setdefault(section, {}).update(values)
    progress = Progress(len(workflow.list_node_names()))
    failures = run_workflow(workflow, plugin, progress)
    assert not failures, failures
    after = times(ladder)
    executed = sorted(name for name in after if before.get(name) != after[name])
    if plugin != LINEAR:  # which does not tell its listener what is cached
        assert executed == sorted(name.split('.')[-1] for name in progress.finished)
    return executed


def times(ladder: Ladder) -> dict[str, int]:
    """When each step was run: it leaves its time and memory in a file."""
    files = ladder.run.work_dir.rglob(STAGE_FILE)
    return {file.parent.name: file.stat().st_mtime_ns for file in files}


def product(ladder: Ladder, name: str) -> Path:
    """Return the file of a product, once all was run."""
    node, output = ladder.made[name]
    (file,) = folder_of(ladder, node.name).glob(f'{output}.*')
    return file


def folder_of(ladder: Ladder, node: str) -> Path:
    return ladder.run.work_dir / ladder.workflow.name / node


def whole(folder: Path, **changes) -> Ladder:
    ladder = make_ladder(folder, **changes)
    ladder.add(samples.draw, n=5)
    ladder.add(samples.scale)
    ladder.add(samples.add_up)
    ladder.add(samples.publish)
    return ladder


def total(folder: Path) -> dict:
    return json.loads((folder / 'out' / 'total.json').read_text())


def test_steps_are_fed_by_name_and_the_last_maker_counts(tmp_path):
    climb(whole(tmp_path, seed=7, ridge={'alphas': [1.0, 2.0]}))
    drawn = samples.draw(build_config({'seed': 7}), 5)
    found = total(tmp_path)
    assert found['numbers'] == (2 * drawn['numbers']).tolist()
    assert found['blocks'] == [each.tolist() for each in drawn['blocks']], 'not scaled'
    assert found['others'] is None
    assert found['alphas'] == 2


def test_two_nodes_of_one_step_make_products_of_two_names(tmp_path):
    ladder = make_ladder(tmp_path, seed=7)
    ladder.add(samples.draw, n=5)
    ladder.add(samples.draw, 'again', made={'numbers': 'others', 'table': 'unused'}, n=3)
    ladder.add(samples.add_up)
    climb(ladder)
    found = json.loads(product(ladder, 'total').read_text())
    assert len(found['numbers']) == 5
    assert found['others'] == samples.draw(build_config({'seed': 7}), 3)['numbers'].tolist()


def test_products_are_gathered_in_the_order_that_is_asked_for(tmp_path):
    ladder = make_ladder(tmp_path)
    for n in (2, 3):
        ladder.add(samples.draw, f'draw{n}', made={'numbers': f'numbers{n}'}, n=n)
    ladder.gather('blocks', ['numbers3', 'numbers2'])
    ladder.made['numbers'] = ladder.made['numbers2']
    ladder.add(samples.add_up)
    climb(ladder)
    found = json.loads(product(ladder, 'total').read_text())
    assert [len(each) for each in found['blocks']] == [3, 2]


def test_a_product_may_be_no_file_at_all(tmp_path):
    """Precomputed betas have no maps, and stimuli that are not repeated no reliability."""
    ladder = make_ladder(tmp_path)
    ladder.add(samples.draw, n=2)
    ladder.add(samples.no_blocks)
    ladder.add(samples.add_up)
    climb(ladder)
    assert json.loads(product(ladder, 'total').read_text())['blocks'] == []


def test_a_missing_maker_is_an_error_when_the_graph_is_built(tmp_path):
    ladder = make_ladder(tmp_path)
    with pytest.raises(LookupError) as caught:
        ladder.add(samples.scale, 'doubled')
    assert caught.value.args == (NO_MAKER.format(step='doubled', product='numbers'),)
    # and so is a value that nobody gives
    with pytest.raises(LookupError) as caught:
        ladder.add(samples.draw)
    assert caught.value.args == (NO_MAKER.format(step='draw', product='n'),)


def test_names_that_a_step_does_not_know_are_an_error(tmp_path):
    ladder = make_ladder(tmp_path)
    with pytest.raises(TypeError) as caught:
        ladder.add(samples.draw, n=3, facter=1.0, made={'nmbers': 'others'})
    assert caught.value.args == (UNKNOWN.format(step='draw', names='facter, nmbers'),)


def test_nodes_ask_for_what_steps_ask_for(tmp_path):
    ladder = make_ladder(tmp_path, threads=1, device='cuda')
    ladder.add(samples.draw, n=3)
    node = ladder.add(samples.train, most=1.0, dies=False)
    assert node.n_procs == 1, 'no more than the run may use'
    assert node.mem_gb == INTERPRETER_GB + 12
    assert node.inputs.use_gpu
    other = make_ladder(tmp_path, threads=4)
    other.add(samples.draw, n=3)
    node = other.add(samples.train, most=1.0, dies=False)
    assert node.n_procs == 2
    assert not node.inputs.use_gpu


ALL_STEPS = ['draw', 'gather', 'publish', 'scale']


def test_a_second_run_reuses_all_but_what_is_always_run(tmp_path):
    assert climb(whole(tmp_path)) == ALL_STEPS
    (tmp_path / 'out' / 'total.json').unlink()
    assert climb(whole(tmp_path)) == ['publish']
    assert (tmp_path / 'out' / 'total.json').is_file()


def test_settings_that_a_step_names_make_it_run_again_and_others_do_not(tmp_path):
    climb(whole(tmp_path))
    assert climb(whole(tmp_path, movie={'banded': 'off'})) == ['publish']
    ridge = {'alphas': [1.0, 2.0, 3.0]}
    assert climb(whole(tmp_path, ridge=ridge)) == ['gather', 'publish', 'scale']
    assert total(tmp_path)['alphas'] == 3
    assert climb(whole(tmp_path, ridge=ridge, seed=1)) == ALL_STEPS


@dataclass(frozen=True)
class OtherSaid:
    """What another commit of the program says."""

    n: int
    why: str


def test_a_step_whose_products_changed_runs_again(tmp_path, monkeypatch):
    """What another commit left in the work folder, in another form, is not read."""

    def say(n: int) -> dict:
        return {'said': OtherSaid(n, 'so'), 'more': {}}

    def hear(said: OtherSaid) -> dict:
        return {'heard': {'why': said.why}}

    def both() -> Ladder:
        ladder = make_ladder(tmp_path)
        ladder.add(samples.say, n=3)
        ladder.add(samples.hear)
        return ladder

    def change(function, **options):
        name = function.__name__
        function.__module__, function.__qualname__ = samples.__name__, name
        monkeypatch.setattr(samples, name, steps.step(name, **options)(function))

    assert climb(both()) == ['hear', 'say']
    assert climb(both()) == []
    change(say, records={'said': OtherSaid}, makes=('more',))
    change(hear, makes=('heard',))
    assert climb(both()) == ['hear', 'say']
    assert json.loads(product(both(), 'heard').read_text()) == {'why': 'so'}
    assert climb(both()) == []


@pytest.mark.slow
def test_spawned_workers_do_the_same(tmp_path):
    """Interfaces go to workers by their qualified names, results come back by them."""
    here, there = tmp_path / 'here', tmp_path / 'there'
    workers = PluginSettings('MultiProc', {'n_procs': 1})
    for folder, plugin in ((here, LINEAR), (there, workers)):
        folder.mkdir()
        assert climb(whole(folder, seed=5), plugin) == ALL_STEPS
    assert total(here) == total(there)
    assert climb(whole(there, seed=5), workers) == ['publish']


# processes --------------------------------------------------------------------------------------


@pytest.fixture
def inputs(tmp_path):
    """What the training takes, by name."""
    saved = Plan(split_by_group(trials(), 'run'), 'so').save(tmp_path)
    return {
        'participant': PERSON.to_json(),
        'config': build_config({'seed': 4}).model_dump_json(),
        'numbers': write('numbers', np.arange(4.0), tmp_path),
        'blocks': write('blocks', [np.arange(2), np.arange(3)], tmp_path),
        'plan': str(saved['plan']),
        'most': 100.0,
        'dies': False,
        'device': 'cpu',
    }


def apart(inputs, folder):
    folder.mkdir(exist_ok=True)
    return samples.train.call_apart(inputs, folder)


@pytest.mark.slow
def test_a_process_of_its_own_makes_the_same(inputs, tmp_path):
    here = call(samples.train, tmp_path / 'here', **inputs)
    there = apart(inputs, tmp_path / 'there')
    assert set(here) == set(there)
    np.testing.assert_array_equal(np.load(here['model']), np.load(there['model']))
    for one, other in zip(here['curves'], there['curves'], strict=True):
        np.testing.assert_array_equal(np.load(one), np.load(other))
    own, other = (json.loads(Path(made['where']).read_text()) for made in (here, there))
    assert own['process'] == os.getpid() != other['process']
    assert not (tmp_path / 'there_checkpoints').exists(), 'removed once it is done'


@pytest.mark.slow
def test_the_same_node_runs_here_or_apart(tmp_path):
    for where in (False, True):
        folder = tmp_path / str(where)
        folder.mkdir()
        ladder = make_ladder(folder, seed=4)
        ladder.add(samples.draw, n=4)
        ladder.add(samples.train, apart=where, most=100.0, dies=False)
        climb(ladder)
        process = json.loads(product(ladder, 'where').read_text())['process']
        assert (process != os.getpid()) == where
        assert (folder_of(ladder, 'train') / MADE).exists() == where
        drawn = samples.draw(build_config({'seed': 4}), 4)['numbers']
        np.testing.assert_array_equal(np.load(product(ladder, 'model')), drawn + 4)
        assert len(list(folder_of(ladder, 'train').glob('curves-*.npy'))) == 2


@pytest.mark.slow
def test_what_is_wrong_with_the_input_arrives_as_it_is(inputs, tmp_path):
    with pytest.raises(InputError) as caught:
        apart(inputs | {'most': 5.0}, tmp_path / 'apart')
    assert str(caught.value) == samples.PUZZLE.format(label='01', total=6)


@pytest.mark.slow
def test_errors_of_the_program_leave_their_traceback(inputs, tmp_path):
    inputs['numbers'] = write('numbers', np.full(2, -9.0), tmp_path)
    folder = tmp_path / 'apart'
    with pytest.raises(RuntimeError) as caught:
        apart(inputs | {'most': -1.0}, folder)
    (file,) = folder.glob('traceback*')
    assert 'ZeroDivisionError: no error of the data' in file.read_text()
    message = BROKEN.format(what='training of the sample', label='01', status=1, file=file)
    assert str(caught.value) == message


@pytest.mark.slow
def test_a_killed_process_is_said_and_the_next_goes_on(inputs, tmp_path):
    folder = tmp_path / 'apart'
    with pytest.raises(ResourceError) as caught:
        apart(inputs | {'dies': True}, folder)
    assert str(caught.value) == KILLED.format(
        what='training of the sample', label='01', signal=9, remedy='take fewer numbers'
    )
    key = samples.train.key(inputs | {'dies': True})
    assert (tmp_path / 'apart_checkpoints' / key / samples.CHECKPOINT).is_file()
    made = apart(inputs | {'dies': True}, folder)
    assert json.loads(Path(made['where']).read_text())['resumed']
    np.testing.assert_array_equal(np.load(made['model']), np.arange(4.0) + 4)
    assert not (tmp_path / 'apart_checkpoints').exists()


@pytest.mark.slow
def test_another_training_does_not_go_on_from_it(inputs, tmp_path):
    with pytest.raises(ResourceError):
        apart(inputs | {'dies': True}, tmp_path / 'apart')
    made = apart(inputs, tmp_path / 'apart')
    assert not json.loads(Path(made['where']).read_text())['resumed']


def config_of(**changes) -> str:
    return build_config({'seed': 4, **changes}).model_dump_json()


def test_the_key_is_that_of_content_not_of_places(inputs, tmp_path):
    key = samples.train.key
    before = key(inputs)
    moved = tmp_path / 'elsewhere'
    moved.mkdir()
    same = {
        'numbers': write('renamed', np.arange(4.0), moved),
        'blocks': write('others', [np.arange(2), np.arange(3)], moved),
        'plan': str(Plan.load(Path(inputs['plan'])).save(moved)['plan']),
        'cache': str(moved),
    }
    for name, value in same.items():
        assert key(inputs | {name: value}) == before, name
    # how scores are tested, and settings that are not named
    assert key(inputs | {'config': config_of(evaluation={'n_permutations': 7})}) == before
    assert key(inputs | {'config': config_of(movie={'banded': 'off'})}) == before
    # who is told by a fingerprint of all files
    other = replace(PERSON, stimuli_dir=Path('elsewhere')).to_json()
    assert key(inputs | {'participant': other}) == before


def test_the_key_changes_with_all_that_a_training_depends_on(inputs, tmp_path):
    blocks = [np.arange(2), np.arange(3)]
    changed = {
        'numbers': write('changed', np.arange(4.0) + 1, tmp_path),
        'blocks': write('changed', blocks[::-1], tmp_path),
        'config': config_of(ridge={'n_folds': 3}),
        'seed': config_of(seed=5),
        'participant': replace(PERSON, fingerprint='other').to_json(),
        'most': 99.0,
        'dies': True,
        'device': 'cuda',
    }
    keys = {samples.train.key(inputs)}
    for name, value in changed.items():
        keys.add(samples.train.key(inputs | {'config' if name == 'seed' else name: value}))
    keys.add(samples.train.key({k: v for k, v in inputs.items() if k != 'plan'}))
    # what is held out lies beside the description of the plan
    for name, column in ((TRIALS, 'stimulus'), (PARTS, 'part')):
        folder = tmp_path / column
        folder.mkdir()
        file = Plan.load(Path(inputs['plan'])).save(folder)['plan']
        table = pd.read_csv(folder / name, sep='\t', dtype=str)
        table.loc[0, column] = 'another'
        table.to_csv(folder / name, sep='\t', index=False)
        keys.add(samples.train.key(inputs | {'plan': str(file)}))
    # one file more of one product, one less of the next
    few, more = inputs['blocks'][:1], [inputs['blocks'][1]]
    keys.add(samples.train.key(inputs | {'blocks': few}))
    keys.add(samples.train.key(inputs | {'numbers': few[0], 'blocks': more}))
    keys.add(samples.train.key({**inputs, 'numbers': None, 'blocks': [*few, *more]}))
    assert len(keys) == 1 + len(changed) + 1 + 2 + 3
