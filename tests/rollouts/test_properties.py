"""Properties of rollouts, over fleets, policies, networks and people made up at random."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.rollouts.machine import Fleet
from tests.rollouts.scene import template


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub with releases and registered devices, to be copied."""
    folder = tmp_path_factory.mktemp("template")
    template(folder)
    return folder


def run(start: Path, examples: int, steps: int) -> None:
    machine = type("Machine", (Fleet,), {"folder": start})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            # Making a failure smaller takes longer than a test may; it is the same at every run, and told whole.
            phases=[Phase.generate],
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(300)
def test_a_rollout_keeps_its_promises_whatever_happens(start: Path) -> None:
    run(start, examples=5, steps=40)


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_rollout_keeps_its_promises_whatever_happens_for_long(start: Path) -> None:
    run(start, examples=60, steps=60)
