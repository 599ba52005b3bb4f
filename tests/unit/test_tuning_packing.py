"""Which examples share a batch, and what a packed row looks like."""

from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.tuning.packing import Packer, Plan, plan_batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


def plan(lengths: list[int], **changes: int | float) -> Plan:
    options = {"epochs": 1.0, "capacity": 60, "per_step": 1, "seed": 1} | changes
    return plan_batches(lengths, **options)  # type: ignore[arg-type]


@given(LENGTHS, st.integers(1, 3))
def test_every_example_is_seen_once_an_epoch_and_no_batch_overflows(lengths, epochs):
    batches = plan(lengths, epochs=epochs).batches
    seen = sorted(chain.from_iterable(batches))
    assert seen == sorted(list(range(len(lengths))) * epochs)
    assert all(sum(lengths[i] for i in batch) <= 60 for batch in batches)


def test_epochs_differ_in_order_and_seeds_differ_in_plan():
    lengths = [20] * 30
    batches = plan(lengths, epochs=2).batches
    assert batches[:10] != batches[10:]
    assert plan(lengths, epochs=2).batches == batches
    assert plan(lengths, epochs=2, seed=2).batches != batches


def test_a_share_of_an_epoch_takes_a_share_of_the_examples():
    assert len(list(chain.from_iterable(plan([20] * 30, epochs=1.5).batches))) == 45
    assert len(list(chain.from_iterable(plan([20] * 30, epochs=0.001).batches))) == 1


@given(LENGTHS, st.integers(2, 5))
def test_every_step_has_the_same_number_of_micro_batches(lengths, per_step):
    made = plan(lengths, per_step=per_step)
    assert made.num_steps * per_step == len(made.batches)
    assert set(chain.from_iterable(made.batches)) == set(range(len(lengths)))


def test_two_devices_share_each_step_of_one():
    made = plan([20] * 36, per_step=4)
    first, second = made.of_device(0, 2), made.of_device(1, 2)
    step = {frozenset(batch) for batch in made.batches[:4]}
    assert {frozenset(batch) for batch in first[:2] + second[:2]} == step
    with pytest.raises(ValueError, match="4 micro batches a step don't divide by 3"):
        made.of_device(0, 3)


def test_batches_are_nearly_full():
    lengths = [200 + 37 * i % 400 for i in range(2000)]
    made = plan(lengths, capacity=16_384)
    assert sum(lengths) / (len(made.batches) * 16_384) > 0.97


@pytest.mark.parametrize("lengths", [[], [61]])
def test_nothing_and_too_much_are_refused(lengths):
    with pytest.raises(ValueError, match="examples of 1 to 60 tokens"):
        plan(lengths)


def example(prompt: list[int], completion: list[int]) -> dict[str, list[int]]:
    mask = [0] * len(prompt) + [1] * len(completion)
    return {"input_ids": prompt + completion, "completion_mask": mask}


PACKER = Packer(capacity=16, max_length=8, max_examples=3, pad_id=0)


def test_the_loss_is_on_the_completions_tokens_alone():
    batch = PACKER([example([1, 2, 3], [4, 5]), example([6], [7, 8, 9])])
    ids = batch["input_ids"][0]
    assert batch["labels"].tolist() == [4, 5, 7, 8, 9]
    assert ids[batch["logits_to_keep"] + 1].tolist() == [4, 5, 7, 8, 9]
    assert ids[batch["logits_to_keep"]].tolist() == [3, 4, 6, 7, 8]


def test_positions_start_anew_with_each_example():
    batch = PACKER([example([1, 2, 3], [4, 5]), example([6], [7, 8, 9])])
    assert batch["position_ids"][0, :9].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert batch["cu_seq_lens"][:3].tolist() == [0, 5, 9]


@pytest.mark.parametrize("lengths", [[2], [8, 8], [5, 4], [3, 3, 3], [8, 2]])
def test_shapes_never_change_and_padding_is_an_example_of_its_own(lengths):
    batch = PACKER([example([1] * (n - 1), [2]) for n in lengths])
    borders = batch["cu_seq_lens"]
    assert (batch["input_ids"].shape, batch["position_ids"].shape) == ((1, 16), (1, 16))
    assert borders.shape == (PACKER.num_borders,)
    assert borders.dtype == torch.int32
    assert (borders[0], borders[-1]) == (0, 16)
    assert (borders.diff() >= 0).all()
    assert borders.diff().max() <= PACKER.max_length
    assert batch["position_ids"].max() < PACKER.max_length
    assert sum(lengths) in borders.tolist()
