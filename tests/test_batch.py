"""From messages to log-probabilities: what a batch holds, and that it changes no number."""

import copy
from itertools import chain

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    Qwen3Config,
    TrainingArguments,
)
from trl import DPOConfig, DPOTrainer

import course_utils as cu
from course_utils.batch import Row, SimilarLengths, batch_logps, encode, pack, row_logps, shares_prompts

TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
GEMMA = TINY | {"head_dim": 16}
#: Kinds of models, and whether they can read a prompt once for both of its answers.
KINDS = {
    "llama": (LlamaConfig, TINY, True),
    "llama, eager attention": (LlamaConfig, TINY, True),
    "qwen3": (Qwen3Config, GEMMA, True),
    "gpt2": (GPT2Config, {"n_embd": 64, "n_layer": 2, "n_head": 4}, True),
    "gemma3, long window": (Gemma3TextConfig, GEMMA | {"sliding_window": 512}, True),
    "gemma3, short window": (Gemma3TextConfig, GEMMA | {"sliding_window": 8}, False),
    "mamba": (MambaConfig, {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}, False),
}
REFUSAL = "cannot share a prompt between two answers; each gets a row of its own, which takes longer.\n"


@pytest.fixture(scope="module")
def few(pairs):
    """The shortest pairs, none as long as another."""
    lengths = [sum(len(row[side][0]["content"]) for side in ("prompt", "chosen", "rejected")) for row in pairs]
    return pairs.select(sorted(range(len(pairs)), key=lengths.__getitem__)[:24:3])


@pytest.fixture(scope="module")
def rows(small, few):
    return [encode(small[1], row["prompt"], row["chosen"], row["rejected"]) for row in few]


@pytest.fixture(scope="module")
def make(small):
    """A tiny random model of some kind, with weights so large that all it reads matters."""

    def of_kind(kind):
        config, sizes, _shares = KINDS[kind]
        special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), small[1].eos_token_id)
        attention = {"attn_implementation": "eager"} if "eager" in kind else {}
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config(vocab_size=len(small[1]), **sizes, **special), **attention)
        with torch.no_grad():
            for weights in model.parameters():
                weights *= 3 if weights.ndim > 1 else 1
        return model.eval()

    return of_kind


@torch.no_grad()
def alone(model, rows):
    """The log-probability of each answer, read after its prompt with nothing around it: the definition."""
    found = [
        cu.sequence_logps(
            model(input_ids=torch.tensor([row.prompt + answer])).logits,
            torch.tensor([[-100] * len(row.prompt) + answer]),
        )
        for row in rows
        for answer in row.answers
    ]
    return torch.cat(found).view(len(rows), -1)


TOKENS = st.lists(st.integers(1, 99), min_size=1, max_size=6)
ROWS = st.integers(1, 3).flatmap(
    lambda answers: st.lists(st.builds(Row, TOKENS, st.lists(TOKENS, min_size=answers, max_size=answers)), min_size=1)
)


@given(ROWS, st.booleans())
def test_every_token_of_every_answer_is_labelled_once_and_nothing_else(rows, shared):
    batch = pack(rows, 0, shared)
    labelled = [line[line != -100].tolist() for line in batch["labels"]]
    expected = [row.answers for row in rows] if shared else [[answer] for row in rows for answer in row.answers]
    assert labelled == [[*chain(*answers)] for answers in expected]
    for line, segments, answers in zip(batch["labels"], batch["segments"], expected):
        assert [line[segments == i + 1].tolist() for i in range(len(answers))] == answers
    assert (batch["labels"][batch["segments"] < 1] == -100).all()  # neither prompt nor padding


@given(ROWS, st.booleans())
def test_a_segment_reads_its_prompt_and_its_answer_with_positions_from_the_start(rows, shared):
    batch = pack(rows, 0, shared)
    pieces = rows if shared else [Row(row.prompt, [answer]) for row in rows for answer in row.answers]
    for line, row in enumerate(pieces):
        ids, positions, segments = (batch[name][line] for name in ("input_ids", "position_ids", "segments"))
        for i, answer in enumerate(row.answers, 1):
            seen = (segments == 0) | (segments == i)
            assert ids[seen].tolist() == (row.prompt + answer)[:-1]  # nothing follows the last token
            assert positions[seen].tolist() == list(range(len(row.prompt + answer) - 1))
        assert (ids[segments == -1] == 0).all()


@given(ROWS, st.booleans())
def test_all_rows_are_as_long_and_the_answers_begin_in_one_column(rows, shared):
    batch = pack(rows, 0, shared)
    assert len({values.shape for values in batch.values()}) == 1
    begins = (batch["segments"] == 1).int().argmax(dim=1)
    assert (begins == max(len(row.prompt) for row in rows) - 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sharing_a_prompt_changes_no_number_or_is_refused_in_one_line(make, rows, capsys, kind):
    model = make(kind)
    definition = alone(model, rows)
    shared = shares_prompts(model, rows, 0)
    said = capsys.readouterr().out
    assert shared == KINDS[kind][-1] and (said == "" if shared else said.endswith(REFUSAL) and said.count("\n") == 1)
    for way in {shared, False}:
        torch.testing.assert_close(row_logps(model, rows, 0, 8, way), definition, atol=5e-4, rtol=0)


def test_a_refusal_is_needed(make, rows):
    """What the short window would have said, had it not been found out."""
    model = make("gemma3, short window")
    assert (row_logps(model, rows, 0, 8, shared=True) - alone(model, rows)).abs().max() > 0.1


@pytest.mark.parametrize("training", [True, False])
def test_the_trial_leaves_the_model_as_it_was(make, rows, training):
    model = make("mamba").train(training)
    before, marks = copy.deepcopy(model.state_dict()), vars(model).keys()
    shares_prompts(model, rows, 0)
    assert model.training == training and vars(model).keys() == marks
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())


def test_a_model_that_padding_changes_is_refused(make, rows, monkeypatch):
    model = make("llama")
    forward = type(model).forward

    def blind(self, input_ids, attention_mask=None, position_ids=None, logits_to_keep=0, use_cache=None):
        return forward(self, input_ids)  # sees the padding

    monkeypatch.setattr(type(model), "forward", blind)
    with pytest.raises(ValueError, match="LlamaForCausalLM: padding changes what it says of an answer"):
        shares_prompts(model, rows, 0)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), shared=st.booleans())
def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(small, rows, data, shared):
    order = data.draw(st.permutations(range(len(rows))))[: data.draw(st.integers(1, 4))]
    together = row_logps(small[0], [rows[i] for i in order], 0, 4, shared)
    single = torch.cat([row_logps(small[0], [rows[i]], 0, 1, shared) for i in order])
    torch.testing.assert_close(together, single, atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind][-1]])
def test_no_answer_sees_the_other(make, rows, kind):
    model, (first, second) = make(kind), rows[0].answers
    other = Row(rows[0].prompt, [first, [7] * len(second)])
    swapped = Row(rows[0].prompt, [second, first])
    (before,), (after,), (turned,) = (row_logps(model, [row], 0, 1, shared=True) for row in (rows[0], other, swapped))
    assert before[0] == after[0] and before[1] != after[1]
    torch.testing.assert_close(turned.flip(0), before, atol=2e-4, rtol=0)


def test_gradients_are_those_of_separate_rows(small, rows):
    gradients = []
    for shared in (True, False):
        model = copy.deepcopy(small[0])
        logps, counts = batch_logps(model, pack(rows, 0, shared))
        assert counts.tolist() == [list(map(len, row.answers)) for row in rows]
        (logps[:, 0] - 2 * logps[:, 1]).mean().backward()
        gradients.append([weights.grad for weights in model.parameters()])
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3, short window", "mamba"])
def test_training_gives_trls_numbers_whether_prompts_are_shared_or_not(make, small, few, setup, kind, tmp_path):
    """Also with dropout, GPT-2's: the first loss is ln 2."""
    steps = {"max_steps": 3, "per_device_train_batch_size": 2, "learning_rate": 1e-4, "adam_epsilon": 1e-5}
    order = {"train_sampling_strategy": "sequential", "output_dir": str(tmp_path)}
    model, settings = make(kind), setup.training_args | steps | order
    theirs = DPOTrainer(
        copy.deepcopy(model),
        copy.deepcopy(model),
        DPOConfig(**settings, beta=0.3),
        train_dataset=few,
        processing_class=small[1],
    )
    theirs.train()
    ours = cu.train_dpo(model, small[1], few, TrainingArguments(**settings), beta=0.3).log
    assert ours[0]["loss"] == pytest.approx(0.6931472, abs=1e-6) and ours[0]["rewards/margins"] == 0
    for one, other in zip(ours[:3], theirs.state.log_history, strict=False):
        for name in ("loss", "rewards/margins", "logps/chosen", "logps/rejected"):
            assert one[name] == pytest.approx(other[name], abs=5e-4), name
    assert abs(ours[2]["rewards/margins"]) > 1e-3


def test_prompt_and_answer_together_are_what_the_template_writes(small, pairs):
    tokenizer = small[1]
    for row in pairs.select(range(20)):
        found = encode(tokenizer, row["prompt"], row["chosen"], row["rejected"])
        for side, answer in zip(("chosen", "rejected"), found.answers):
            assert found.prompt + answer == tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=False)
            assert answer.count(tokenizer.eos_token_id) == 1 and row[side][0]["content"] in tokenizer.decode(answer)
        asked = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        assert found.prompt == asked


def test_an_answer_begins_where_it_leaves_its_prompt(small, pairs):
    """Also where the template opens an answer otherwise when it asks for one: with a thought, say."""
    tokenizer, row = copy.deepcopy(small[1]), pairs[0]
    plain = encode(tokenizer, row["prompt"], row["chosen"], row["rejected"])
    tokenizer.chat_template += "{% if add_generation_prompt %}hmm{% endif %}"
    assert encode(tokenizer, row["prompt"], row["chosen"], row["rejected"]) == plain


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 8), st.integers(0, 9))
def test_an_epoch_reads_every_row_once_whatever_their_lengths(lengths, batch_size, seed):
    sampler = SimilarLengths(lengths, batch_size, seed)
    assert sorted(sampler) == list(range(len(lengths))) and len(sampler) == len(lengths)


def test_every_epoch_and_every_seed_has_its_order():
    def order(seed, epoch):
        return list(SimilarLengths(list(range(60)), 4, seed, lambda: epoch))

    assert order(0, 0) == order(0, 0) and order(0, 0) not in (order(0, 1), order(1, 0))


def test_the_short_batch_of_an_epoch_comes_last():
    """Else the batches after it would hold rows of two of them."""
    order = list(SimilarLengths(list(range(62)), 4, seed=0))
    assert all(max(order[i : i + 4]) - min(order[i : i + 4]) == 3 for i in range(0, 60, 4))
    assert sorted(order[60:]) == [60, 61]


def test_batches_hold_rows_of_similar_length_and_come_in_no_order_of_length():
    lengths = [3, 9, 1, 8, 2, 7] * 10
    batches = torch.tensor([lengths[i] for i in SimilarLengths(lengths, 4, seed=0)]).view(-1, 4)
    assert (batches.amax(dim=1) - batches.amin(dim=1)).sum() < 15
    first = batches[:, 0].tolist()
    assert first not in (sorted(first), sorted(first, reverse=True))
