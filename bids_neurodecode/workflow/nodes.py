"""What every factory needs: the settings of the run, and nodes with their resources."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_neurodecode.config import Config
from bids_neurodecode.workflow.resources import DataSize, memory_of


@dataclass(frozen=True)
class RunSettings:
    """What a whole run shares and every factory needs.

    ``threads`` is what one node may use; ``device`` is ``cpu`` or ``cuda``.
    """

    config: Config
    output_dir: Path
    work_dir: Path
    run_id: str
    threads: int
    device: str
    bids_dir: Path
    derivatives: dict[str, Path]
    notes: tuple[str, ...] = ()
    models: Mapping[str, Path] = field(default_factory=dict)
    """In predict mode, the trained model of each participant."""
    everyone: Path | None = None
    """Records of the participants of the call, where they can be compared with each other."""
    weights_dir: Path | None = None
    """Pretrained weights; None: the default folder."""
    level: str = 'full'
    """How far it goes: ``full``, or ``betas`` alone."""

    def record(self) -> str:
        """Return what the output nodes need, as JSON."""
        return json.dumps(
            {
                'output_dir': str(self.output_dir),
                'bids_dir': str(self.bids_dir),
                'derivatives': {name: str(path) for name, path in self.derivatives.items()},
                'notes': list(self.notes),
                'run_id': self.run_id,
            }
        )


def node(interface: Any, name: str, run: RunSettings, size: DataSize, *, threads: int = 1) -> Any:
    """Return a Nipype node that states its memory and threads."""
    from nipype.pipeline import engine as pe

    return pe.Node(
        interface,
        name=name,
        mem_gb=memory_of(name, size),
        n_procs=min(threads, run.threads),
    )


def settings_of(config: Config, *groups: str) -> str:
    """Return the settings as JSON with every other group at its default.

    A node that gets no more than what it depends on stays cached when other settings change.
    """
    default = Config()
    others = {name: getattr(default, name) for name in Config.model_fields if name not in groups}
    return config.model_copy(update=others).model_dump_json()
