"""Deterministic kernels are on while a GPU trains, and only then."""

import os

import pytest
import torch

from trainer.tuning.repeatable import repeatable

FILLED = "fill_uninitialized_memory"


@pytest.fixture
def gpu(monkeypatch):
    """A process that sees a GPU; only the flags are looked at, no kernel runs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("is_on", [True, False])
def test_the_flag_holds_inside_and_is_put_back(gpu, is_on):
    with repeatable(is_on):
        assert torch.are_deterministic_algorithms_enabled() == is_on
        assert not getattr(torch.utils.deterministic, FILLED)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert getattr(torch.utils.deterministic, FILLED)


def test_an_error_puts_it_back_too(gpu):
    with pytest.raises(KeyError), repeatable():
        raise KeyError


def test_an_own_setting_of_cublas_is_kept(gpu, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with repeatable():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_cpu_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with repeatable():
        assert not torch.are_deterministic_algorithms_enabled()
