"""Participants are read side by side, and nothing of it shows."""

import os
import signal

import pytest

from bids_neurodecode.bids.request import NOBODY, read_each
from bids_neurodecode.errors import InputError

LABELS = [f'{number:02d}' for number in range(12)]


def read(label):
    if label in {'03', '07'}:
        raise InputError(f'sub-{label} cannot be read.')
    return label, os.getpid()


def test_participants_are_read_by_several_processes_in_their_order():
    found, failures = read_each(LABELS, read, 3)
    assert [label for label, _ in found] == [x for x in LABELS if x not in {'03', '07'}]
    assert [*failures.items()] == [(x, f'sub-{x} cannot be read.') for x in ('03', '07')]
    readers = {process for _, process in found}
    assert os.getpid() not in readers
    assert len(readers) <= 3
    alone, said = read_each(LABELS, read)
    assert {process for _, process in alone} == {os.getpid()}
    assert said == failures


def test_a_few_participants_are_read_here():
    assert {process for _, process in read_each(LABELS[8:], read, 8)[0]} == {os.getpid()}


@pytest.mark.parametrize('processes', [1, 2])
def test_nobody_can_be_read(processes):
    def refuse(label):
        raise InputError(f'sub-{label} is empty.')

    with pytest.raises(InputError) as caught:
        read_each(LABELS, refuse, processes)
    labels = ', '.join(f'sub-{label}' for label in LABELS)
    assert str(caught.value) == NOBODY.format(first='sub-00 is empty.', n=12, labels=labels)


def test_a_process_that_is_killed_is_noticed():
    here = os.getpid()

    def killed(label):
        if label == '05' and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return label

    with pytest.raises(MemoryError):
        read_each(LABELS, killed, 2)


@pytest.mark.parametrize('processes', [1, 2])
def test_what_nobody_foresaw_is_not_swallowed(processes):
    with pytest.raises(ZeroDivisionError):
        read_each(LABELS, lambda label: 1 // 0, processes)
