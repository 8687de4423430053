"""The engine that needs no server: a tiny random Llama, saved and loaded like any other model."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from erp_trainer.pool.pool import PoolModel, Sampling
from erp_trainer.prompts.prompt_set import Prompt
from erp_trainer.sampling.base import SampleRequest
from erp_trainer.sampling.stage import sample_parts, sample_pool_model
from erp_trainer.sampling.transformers_engine import TransformersEngine, is_out_of_memory, nucleus, shrinking
from litellm_erp.errors import SamplingError

WORDS = ["<s>", "</s>", "<unk>", "user", "system", ":", *(f"w{i}" for i in range(26))]
TEMPLATE = "<s> {% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
PROMPTS = [Prompt(f"p{i}", " ".join(f"w{j}" for j in range(i + 1))) for i in range(6)]


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llama")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=0, eos_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def pool_model(folder: Path, **sampling) -> PoolModel:
    return PoolModel("tiny", str(folder), Sampling(**{"k": 4, "max_tokens": 8} | sampling), "transformers")


def texts(run: Path, model: PoolModel, prompts=PROMPTS) -> dict[str, list[str]]:
    sample_pool_model(run, prompts, model)
    return {r["prompt_id"]: [s["text"] for s in r["samples"]] for r in sample_parts(run, model)}


def test_every_prompt_gets_k_different_samples_with_their_counts(tmp_path, tiny_llama):
    model = pool_model(tiny_llama)
    summary = sample_pool_model(tmp_path, PROMPTS, model)
    records = list(sample_parts(tmp_path, model))
    assert (summary.sampled, len(records), records[0]["engine"]) == (6, 6, "transformers")
    for record in records:
        assert len({sample["text"] for sample in record["samples"]}) > 1
        for sample in record["samples"]:
            assert sample["input_tokens"] == 4 + int(record["prompt_id"][1:])
            assert (sample["finish_reason"], sample["output_tokens"] == 8) in [
                ("stop", False),
                ("length", True),
                ("stop", True),
            ]


def test_a_prompt_is_answered_the_same_alone_and_in_company(tmp_path, tiny_llama):
    model = pool_model(tiny_llama)
    together = texts(tmp_path / "together", model)
    alone = {p.prompt_id: texts(tmp_path / p.prompt_id, model, [p])[p.prompt_id] for p in PROMPTS}
    assert alone == together


def test_another_run_seed_draws_other_samples(tmp_path, tiny_llama):
    assert texts(tmp_path, pool_model(tiny_llama)) != texts(tmp_path, pool_model(tiny_llama, seed=1))


def test_temperature_0_gives_what_the_model_itself_decodes_greedily(tmp_path, tiny_llama):
    sampled = texts(tmp_path, pool_model(tiny_llama, temperature=0.0))["p2"]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_llama)
    ids = tokenizer("<s> user : w0 w1 w2", return_tensors="pt")["input_ids"]
    greedy = LlamaForCausalLM.from_pretrained(tiny_llama).generate(ids, max_new_tokens=8, do_sample=False)
    assert sampled == [tokenizer.decode(greedy[0, ids.shape[1] :], skip_special_tokens=True)] * 4


def test_samples_follow_the_models_own_distribution(tiny_llama):
    model = pool_model(tiny_llama, k=4000, max_tokens=1, temperature=0.7)
    request = SampleRequest("p", PROMPTS[2].messages, 4000, model.sampling)
    ((_, responses),) = TransformersEngine(model).sample([request])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_llama)
    ids = tokenizer("<s> user : w0 w1 w2", return_tensors="pt")["input_ids"]
    expected = (LlamaForCausalLM.from_pretrained(tiny_llama)(ids).logits[0, -1] / 0.7).softmax(-1)
    drawn = [WORDS.index(r.text) for r in responses if r.text in WORDS]
    counts = np.bincount(drawn, minlength=len(WORDS))
    plain = slice(6, None)  # special tokens leave no text
    np.testing.assert_allclose(counts[plain] / 4000, expected.detach().numpy()[plain], atol=0.03)


def test_a_prompt_that_does_not_fit_into_the_context_is_skipped_and_counted(tmp_path, tiny_llama):
    model = pool_model(tiny_llama)
    summary = sample_pool_model(tmp_path, [*PROMPTS, Prompt("long", "w1 " * 61)], model)
    assert (summary.sampled, dict(summary.skipped), summary.failed) == (6, {"context": 1}, 0)


def test_a_prompt_that_leaves_less_room_than_max_tokens_is_answered_as_far_as_there_is_room(tmp_path, tiny_llama):
    model = pool_model(tiny_llama, max_tokens=60)
    sample_pool_model(tmp_path, [*PROMPTS, Prompt("long", "w1 " * 55)], model)
    (samples,) = [r["samples"] for r in sample_parts(tmp_path, model) if r["prompt_id"] == "long"]
    assert {s["input_tokens"] for s in samples} == {58}
    assert max(s["output_tokens"] for s in samples) <= 6


def test_a_model_without_a_chat_template_reads_the_plain_text(tmp_path, tiny_llama):
    base = tmp_path / "base"
    PreTrainedTokenizerFast.from_pretrained(tiny_llama, chat_template=None).save_pretrained(base)
    LlamaForCausalLM.from_pretrained(tiny_llama).save_pretrained(base)
    (base / "chat_template.jinja").unlink(missing_ok=True)
    model = pool_model(base)
    sample_pool_model(tmp_path, PROMPTS[:1], model)
    (record,) = sample_parts(tmp_path, model)
    assert record["samples"][0]["input_tokens"] == 1


def test_a_model_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(SamplingError, match=r"tiny: transformers cannot load .*models\.tiny\.model"):
        sample_pool_model(tmp_path, PROMPTS, pool_model(tmp_path / "nowhere"))


def test_a_closed_engine_holds_no_weights(tiny_llama):
    engine = TransformersEngine(pool_model(tiny_llama))
    weights = [type(p).__name__ for p in engine._lm.parameters()]
    engine.close()
    assert weights
    assert engine._lm is None


def test_nucleus_keeps_the_smallest_set_that_reaches_top_p():
    scores = torch.log(torch.tensor([[0.1, 0.5, 0.15, 0.25]]))
    kept = nucleus(torch, scores, 0.7) > -float("inf")
    assert kept.tolist() == [[False, True, False, True]]


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    sizes = []

    def run(items):
        sizes.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(items)

    batches = list(shrinking(range(7), run, lambda error, n: is_out_of_memory(error) and n > 1))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert max(len(batch) for batch in batches) == 2
    assert sizes[0] == 7


def test_memory_for_a_quarter_of_a_batch_is_used_from_then_on(tmp_path, tiny_llama):
    prompts = [Prompt(f"p{i}", f"w{i % 26} w1 w2") for i in range(32)]
    engine = TransformersEngine(pool_model(tiny_llama))
    rows: list[int] = []

    def short_of_memory(module, args, kwargs):
        rows.append(len(kwargs["input_ids"]))
        if rows[-1] > 32:  # 8 prompts of 4 responses
            torch.empty(1 << 60, dtype=torch.uint8)

    engine._lm.register_forward_pre_hook(short_of_memory, with_kwargs=True)
    for run in ("first", "second"):
        summary = sample_pool_model(tmp_path / run, prompts, pool_model(tiny_llama), engine=engine)
        assert summary.sampled == 32
        assert (max(rows), min(rows)) == ((128, 32) if run == "first" else (32, 32))
        rows.clear()


def test_an_error_that_is_not_about_memory_is_not_tried_again():
    def run(items):
        raise ValueError("shapes differ")

    with pytest.raises(ValueError, match="shapes differ"):
        list(shrinking([1, 2], run, lambda error, n: is_out_of_memory(error)))


def test_sampling_parameters_of_the_models_own_config_change_nothing(tmp_path, tiny_llama):
    model = pool_model(tiny_llama)
    plain = texts(tmp_path / "plain", model)
    opinionated = tmp_path / "opinionated"
    lm = LlamaForCausalLM.from_pretrained(tiny_llama)
    lm.generation_config.update(do_sample=True, top_k=1, repetition_penalty=5.0)
    lm.save_pretrained(opinionated)
    PreTrainedTokenizerFast.from_pretrained(tiny_llama).save_pretrained(opinionated)
    assert texts(tmp_path / "run", dataclasses.replace(model, model=str(opinionated))) == plain
