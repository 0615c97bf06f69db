"""The training loop: it learns, stops, resumes to the bit, and refuses nonsense."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bids_neurodecode.errors import ArgumentsError, DataError, ResourceError
from bids_neurodecode.models import checkpoints
from bids_neurodecode.models.training import own_randomness, train
from bids_neurodecode.models.trainingsettings import Training, TrainingSettings

N_SAMPLES = 50


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Several threads, on cores that others use too, wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Data:
    """Samples of a linear rule."""

    def __init__(self, n=N_SAMPLES, seed=0, noise=0.1):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 6, generator=generator)
        rule = torch.linspace(-1, 1, 6)[:, None]
        self.y = self.x @ rule + noise * torch.randn(n, 1, generator=generator)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Random(Data):
    """Samples that draw on every global generator as they are read."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        jitter = random.random() + np.random.rand() + torch.rand(1).item()  # noqa: NPY002
        return x + 0.01 * jitter, y


class Objective(nn.Module):
    """A small network with all that has a state: dropout, batch normalisation."""

    def __init__(self, seed=0):
        super().__init__()
        with own_randomness(seed):
            self.net = nn.Sequential(
                nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1)
            )

    def forward(self, x, y):
        loss = (self.net(x) - y).square().mean()
        return {'loss': loss, 'twice': 2 * loss}


SETTINGS = TrainingSettings(
    n_epochs=4, batch_size=8, learning_rate=0.01, schedule='cosine', warmup=0.2, seed=3,
    device='cpu', checkpoint_every=2,
)  # fmt: skip


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(na == nb and torch.equal(x, y) for (na, x), (nb, y) in pairs)


def test_it_learns_and_tells():
    objective, seen = Objective(), []
    settings = TrainingSettings(n_epochs=30, batch_size=10, learning_rate=0.02, device='cpu')
    training = train(
        objective, Data(), settings, validation=Data(20, seed=1),
        progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    table = training.table()
    validation = table[table['part'] == 'validation']
    assert validation['loss'].min() < 0.3 * validation['loss'].iloc[0]
    assert np.allclose(table['twice'], 2 * table['loss'])
    assert list(table['epoch'].unique()) == list(range(1, 31))
    assert seen[0] == (1, 150)
    assert seen[-1] == (150, 150)
    assert (training.n_steps, training.device, training.precision) == (150, 'cpu', 'float32')
    assert 0 <= training.wait_share < 1
    assert not training.stopped_early
    assert not objective.training


def test_validation_is_a_mean_in_evaluation_mode_and_the_best_are_kept():
    objective, data, held_out = Objective(), Data(), Data(21, seed=1)
    training = train(objective, data, SETTINGS, validation=held_out)
    table = training.table()
    losses = table.loc[table['part'] == 'validation', 'loss'].to_numpy()
    assert training.kept_epoch == 1 + losses.argmin()
    with torch.no_grad():
        whole = objective(held_out.x, held_out.y)['loss'].item()
    assert whole == pytest.approx(losses.min(), rel=1e-5)


@pytest.mark.parametrize('keep', ['best', 'last'])
def test_early_stopping(keep):
    settings = TrainingSettings(
        n_epochs=200, batch_size=8, learning_rate=0.05, patience=3, keep=keep, device='cpu'
    )
    noise = Data(24, noise=20.0)  # nothing here carries over to the validation samples
    training = train(Objective(), noise, settings, validation=Data(40, seed=1, noise=20.0))
    table = training.table()
    losses = table.loc[table['part'] == 'validation', 'loss'].to_numpy()
    assert training.stopped_early
    assert len(losses) < 200
    assert len(losses) == 1 + losses.argmin() + 3
    assert training.kept_epoch == (1 + losses.argmin() if keep == 'best' else len(losses))


def test_same_seed_same_weights_and_callers_generators_untouched():
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    trained = []
    for seed in (3, 3, 4):
        objective = Objective()
        train(objective, Random(), TrainingSettings(n_epochs=2, seed=seed, device='cpu'))
        trained.append(objective)
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])  # noqa: NPY002


KILLED = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location('tests_of_training', sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

def stop(done, of):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

from pathlib import Path
module.train(
    module.Objective(), module.Random(), module.SETTINGS, validation=module.Data(20, seed=1),
    checkpoint_dir=Path(sys.argv[2]), progress=stop,
)
"""


@pytest.mark.slow
@pytest.mark.parametrize('killed_at', [11, 18])
def test_resumed_after_sigkill_is_the_same_to_the_bit(tmp_path, killed_at):
    # 7 batches an epoch (a lone last sample would be left out; here two remain)
    script = [sys.executable, '-c', KILLED, __file__, str(tmp_path), str(killed_at)]
    environment = {**os.environ, 'OMP_NUM_THREADS': str(torch.get_num_threads())}
    done = subprocess.run(script, check=False, capture_output=True, env=environment, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    names = [path.name for path in tmp_path.iterdir()]
    assert names == [f'step-{killed_at - killed_at % 2:09d}']  # written every two batches

    resumed, whole = Objective(seed=9), Objective()  # what it starts from must not matter
    steps = []
    again = train(
        resumed, Random(), SETTINGS, validation=Data(20, seed=1), checkpoint_dir=tmp_path,
        progress=lambda step, _: steps.append(step),
    )  # fmt: skip
    straight = train(whole, Random(), SETTINGS, validation=Data(20, seed=1))
    assert steps[0] == int(names[0].removeprefix('step-')) + 1
    assert same(resumed, whole)
    assert again.curves == straight.curves
    assert again.kept_epoch == straight.kept_epoch


def test_a_finished_training_is_not_repeated(tmp_path):
    first, second, steps = Objective(), Objective(seed=5), []
    one = train(first, Data(), SETTINGS, checkpoint_dir=tmp_path)
    two = train(
        second, Data(), SETTINGS, checkpoint_dir=tmp_path, progress=lambda *s: steps.append(s)
    )
    assert not steps
    assert same(first, second)
    assert one.curves == two.curves


def test_checkpoints_are_open_formats_and_whole(tmp_path):
    train(Objective(), Data(), SETTINGS, validation=Data(20, seed=1), checkpoint_dir=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        'weights.safetensors', 'best.safetensors', 'optimizer.pt', 'random-0.pt', 'state.json',
    }  # fmt: skip
    torch.load(folder / 'optimizer.pt', weights_only=True)
    assert json.loads((folder / 'state.json').read_text())['progress']['epoch'] == 4
    (tmp_path / 'partial-99').mkdir()  # what a kill while writing leaves
    assert checkpoints.latest_checkpoint(tmp_path) == folder


@pytest.mark.parametrize('name', ['weights.safetensors', 'optimizer.pt', 'state.json'])
def test_damaged_checkpoints_are_told(tmp_path, name):
    train(Objective(), Data(), SETTINGS, checkpoint_dir=tmp_path)
    file = next(tmp_path.iterdir()) / name
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match=r'is damaged: .* Delete it') as error:
        train(Objective(), Data(), SETTINGS, checkpoint_dir=tmp_path)
    assert '\n' not in str(error.value)


def test_checkpoint_of_another_training(tmp_path):
    train(Objective(), Data(), SETTINGS, checkpoint_dir=tmp_path)
    other = TrainingSettings(**{**vars(SETTINGS), 'learning_rate': 0.5})
    with pytest.raises(DataError, match=r'learning_rate was 0\.01 and is now 0\.5'):
        train(Objective(), Data(), other, checkpoint_dir=tmp_path)
    with pytest.raises(DataError, match='n_training was 50 and is now 30'):
        train(Objective(), Data(30), SETTINGS, checkpoint_dir=tmp_path)


@pytest.mark.parametrize('part', ['training', 'validation'])
def test_a_loss_that_is_not_finite(part, tmp_path):
    data, held_out = Data(), Data(20, seed=1)
    (data if part == 'training' else held_out).y[5] = torch.nan
    with pytest.raises(DataError, match=rf'The {part} loss is not finite \(epoch 1') as error:
        train(Objective(), data, SETTINGS, validation=held_out, checkpoint_dir=tmp_path)
    assert '\n' not in str(error.value)


def test_gradients_are_clipped():
    settings = {'n_epochs': 1, 'batch_size': 50, 'device': 'cpu'}
    seen = {}
    for clip in (None, 1e-3):
        objective = Objective()
        weight = objective.net[4].weight
        weight.register_hook(lambda gradient: 1e3 * gradient)
        train(objective, Data(), TrainingSettings(**settings, clip_norm=clip))
        norms = torch.stack([p.grad.norm() for p in objective.parameters()])
        seen[clip] = norms.norm().item()
    assert seen[None] > 100
    assert seen[1e-3] == pytest.approx(1e-3, rel=1e-2)


def test_averaged_weights_are_those_of_all_steps(tmp_path):
    settings = TrainingSettings(n_epochs=2, batch_size=25, learning_rate=0.05, ema=0.2)
    objective, folder = Objective(), tmp_path / 'whole'
    expected = {name: value.clone() for name, value in objective.state_dict().items()}

    def follow(step, _):
        keep = min(0.2, step / (step + 10))
        for name, value in objective.state_dict().items():
            mixed = keep * expected[name] + (1 - keep) * value
            expected[name] = mixed if value.is_floating_point() else value.clone()

    train(objective, Data(), settings, checkpoint_dir=folder, progress=follow)
    for name, value in objective.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    resumed = Objective(seed=4)
    train(resumed, Data(), settings, checkpoint_dir=folder)
    assert same(resumed, objective)


def test_a_step_that_is_not_finite_is_left_out_where_that_was_asked_for():
    data = Data()
    data.y[5] = torch.nan
    objective = Objective()
    settings = TrainingSettings(n_epochs=2, batch_size=25, skip_norm=1e3, curve='step')
    training = train(objective, data, settings)
    losses = training.table()['loss']
    assert losses.isna().sum() == 2
    assert training.table()['step'].tolist() == [1, 2, 3, 4]
    assert all(value.isfinite().all() for value in objective.net[0].parameters())
    assert not torch.equal(objective.net[0].weight, Objective().net[0].weight)


@pytest.mark.parametrize('precision', ['bfloat16', 'float16'])
def test_mixed_precision_learns_with_float32_weights(precision):
    objective = Objective()
    settings = TrainingSettings(
        n_epochs=8, batch_size=10, learning_rate=0.03, precision=precision, device='cpu'
    )
    training = train(objective, Data(), settings)
    assert training.curves[-1]['loss'] < 0.6 * training.curves[0]['loss']
    assert all(p.dtype == torch.float32 for p in objective.parameters())
    plain = train(Objective(), Data(), TrainingSettings(n_epochs=1, device='cpu'))
    assert plain.curves[0]['loss'] != training.curves[0]['loss']


def test_schedule_rises_and_falls():
    training = train(Objective(), Data(), SETTINGS)
    rates = [row['learning_rate'] for row in training.curves]
    assert max(rates) <= 0.01
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates == sorted(rates, reverse=True)


def test_a_lone_last_sample_is_left_out():
    # 17 = 2 x 8 + 1: batch normalisation cannot use one sample
    training = train(Objective(), Data(17), TrainingSettings(n_epochs=2, batch_size=8))
    assert training.n_steps == 4
    with pytest.raises(DataError, match='at least 2 samples; there are 1'):
        train(Objective(), Data(1), SETTINGS)


@pytest.mark.slow
def test_workers_change_nothing():
    trained = []
    for n_workers in (0, 1):
        objective = Objective()
        settings = TrainingSettings(n_epochs=1, device='cpu', n_workers=n_workers)
        train(objective, Data(), settings)
        trained.append(objective)
    assert same(*trained)


@pytest.mark.parametrize(
    'change',
    [
        {'n_epochs': 0},
        {'learning_rate': 0.0},
        {'warmup': -1.0},
        {'patience': 0},
        {'clip_norm': -1},
        {'skip_norm': 0},
        {'ema': 1.0},
    ],
)
def test_bad_settings(change):
    with pytest.raises(ArgumentsError, match=f'{next(iter(change))} is'):
        TrainingSettings(**change)


def test_what_needs_something_else():
    with pytest.raises(ArgumentsError, match='Early stopping needs validation'):
        train(Objective(), Data(), TrainingSettings(patience=2))
    with pytest.raises(ArgumentsError, match='does not see averaged weights'):
        train(Objective(), Data(), TrainingSettings(ema=0.9), validation=Data(20))
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="device 'cuda' is not there"):
            train(Objective(), Data(), TrainingSettings(device='cuda'))


def test_weights_on_disk(tmp_path):
    file = tmp_path / 'weights.safetensors'
    state = Objective().state_dict()
    checkpoints.save_weights(state, file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    loaded = checkpoints.load_weights(file)
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    with pytest.raises(DataError, match='Cannot read the weights'):
        checkpoints.load_weights(Path(tmp_path / 'absent'))


def test_result_is_a_table():
    rows = ({'epoch': 1, 'part': 'training', 'loss': 2.0},)
    assert Training(rows, 1, False, 3, 'cpu', 'float32', 1, 0.1, 0.0).table().shape == (1, 3)


SHARED = """
import atexit, hashlib, importlib.util, sys
import torch.distributed
atexit.register(lambda: sys.stdout.write(f'group {torch.distributed.is_initialized()}\\n'))
spec = importlib.util.spec_from_file_location('tests_of_training', sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
objective, held_out = module.Objective(), module.Data(21, seed=1)
training = module.train(objective, module.Data(), module.SETTINGS, validation=held_out)
content = b''.join(value.numpy().tobytes() for value in objective.state_dict().values())
digest = hashlib.sha256(content).hexdigest()
sys.stdout.write(f'{training.n_processes} {digest} {training.curves[-1]["loss"]}\\n')
"""


@pytest.mark.slow
def test_two_processes_share_a_training(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SHARED)
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2',
         str(script), __file__],
        check=False, capture_output=True, timeout=300,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'ACCELERATE_USE_CPU': 'true'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    one, two = (line for line in lines if not line.startswith('group'))
    assert one == two
    # threads of a group that outlives the interpreter abort the process, now and then
    assert [line for line in lines if line.startswith('group')] == ['group False'] * 2
    assert one.startswith('2 ')
    assert float(one.split()[-1]) < 1.6  # 4 when the prediction is 0


@pytest.mark.parametrize(('precision', 'allowed'), [('float32', False), ('tf32', True)])
def test_gpus_multiply_with_fewer_bits_only_where_that_was_asked_for(precision, allowed):
    seen = set()

    class Watched(Data):
        def __getitem__(self, index):
            backends = torch.backends
            seen.add((backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32))
            return super().__getitem__(index)

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    settings = TrainingSettings(n_epochs=1, precision=precision, device='cpu')
    told = train(Objective(), Watched(), settings)
    assert seen == {(allowed, allowed)}
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert told.precision == precision


def test_an_objective_is_compiled_where_that_was_asked_for(monkeypatch):
    compiled = []

    def stand_in(model):  # the compiler itself takes a minute
        compiled.append(model)
        return model

    monkeypatch.setattr(torch, 'compile', stand_in)
    objective, plain = Objective(), Objective()
    train(plain, Data(), TrainingSettings(n_epochs=1, device='cpu'))
    assert not compiled
    train(objective, Data(), TrainingSettings(n_epochs=1, compile=True, device='cpu'))
    assert compiled == [objective]
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(objective.state_dict()[name], value, rtol=0, atol=0)
