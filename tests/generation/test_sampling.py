"""The choice of tokens equals Transformers' generate, row by row; log-probabilities equal the model's."""

import pytest
import torch
from architectures import policy
from batches import answered
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bonesoup.chat import never_sampled
from bonesoup.generation.batch import GivenText, Request, RunningBatch
from bonesoup.generation.sample import RowNoise
from bonesoup.generation.sampling import likelihoods, penalise
from bonesoup.generation.soup import Policy, Soup, SoupModel

PROMPT = [7, 9, 9, 12]


@pytest.fixture(scope="module")
def soup_model(tiny_policy, tmp_path_factory) -> SoupModel:
    folder = tmp_path_factory.mktemp("policies")
    policies = [
        Policy(f"backbone-{k}", policy(tiny_policy, folder / str(k), k, r=2, target_modules="all-linear"), row)
        for k, row in ((1, (0.7, 0.3)), (2, (0.3, 0.7)))
    ]
    return SoupModel.load(Soup("bone", tiny_policy, ("a", "b"), "solve", tuple(policies), ()))


def request(soup_model, **options) -> Request:
    known = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 20, "seed": 3}
    coefficients = soup_model.coefficients([0.6, 0.4])
    return Request(key=str(options), prompt=PROMPT, coefficients=coefficients, **(known | options))


def by_transformers(soup_model, each: Request) -> list[int]:
    tokenizer = soup_model.tokenizer
    end = tokenizer.eos_token_id
    processors = []
    if each.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(each.repetition_penalty))
    if each.min_tokens or each.ignore_eos:
        least = each.max_new_tokens if each.ignore_eos else each.min_tokens
        processors.append(MinNewTokensLengthLogitsProcessor(len(PROMPT), least, end))
    processors.append(SuppressTokensLogitsProcessor(never_sampled(tokenizer)))
    processors.append(TemperatureLogitsWarper(each.temperature))
    if each.top_k:
        processors.append(TopKLogitsWarper(each.top_k))
    if each.top_p < 1:
        processors.append(TopPLogitsWarper(each.top_p))
    if each.min_p:
        processors.append(MinPLogitsWarper(each.min_p))
    processors.append(RowNoise([each.seed], 1.0))
    soup_model.mixer.set(torch.tensor(each.coefficients)[None])
    generated = soup_model.model.generate(
        torch.tensor([each.prompt]),
        do_sample=False,
        max_new_tokens=each.max_new_tokens,
        logits_processor=LogitsProcessorList(processors),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=end,
    )
    return generated[0, len(each.prompt) :].tolist()


OPTIONS = [
    {},
    {"top_k": 3},
    {"top_k": 1000},
    {"min_p": 0.7},
    {"repetition_penalty": 1.8},
    {"repetition_penalty": 0.6},
    {"min_tokens": 12},
    {"ignore_eos": True},
    {"top_k": 5, "top_p": 0.8, "min_p": 0.1, "temperature": 0.7, "repetition_penalty": 1.2, "min_tokens": 4},
]


def test_every_option_in_one_batch_gives_what_transformers_gives_each_row_alone(soup_model):
    requests = [request(soup_model, **options, seed=seed) for seed, options in enumerate(OPTIONS * 3)]
    made = answered(soup_model, requests)
    for each in requests:
        assert [token.id for token in made[each.key]] == by_transformers(soup_model, each), each.key


def test_presence_and_frequency_penalties_are_openais():
    logits = torch.zeros(6)
    asked = Request("", [5], None, 0, 1.0, 1.0, 9, presence_penalty=0.5, frequency_penalty=0.25)
    penalise(logits, asked, [1, 2, 1, 1])
    # c[j] * frequency + (c[j] > 0) * presence; the prompt's tokens do not count.
    assert logits.tolist() == [0, -(3 * 0.25 + 0.5), -(0.25 + 0.5), 0, 0, 0]


def test_likelihoods_are_those_of_the_plain_model_whatever_is_sampled(soup_model):
    plain = request(soup_model, alternatives=2, ignore_eos=True, temperature=0.5, top_k=2, repetition_penalty=1.5)
    beside = request(soup_model, seed=8)
    tokens = answered(soup_model, [beside, plain])[plain.key]
    ids = [token.id for token in tokens]
    soup_model.mixer.set(torch.tensor(plain.coefficients)[None])
    with torch.inference_mode():
        logits = soup_model.model(torch.tensor([PROMPT + ids])).logits[0, len(PROMPT) - 1 : -1]
    expected = logits.log_softmax(-1)
    for place, token in enumerate(tokens):
        assert token.likelihood.logprob == pytest.approx(float(expected[place, token.id]), abs=1e-4)
        assert [value for _, value in token.likelihood.top] == pytest.approx(
            expected[place].topk(2).values.tolist(), abs=1e-4
        )


def test_a_given_text_is_scored_at_its_own_preference_among_others_and_a_running_batch_goes_on(soup_model):
    texts = [[7, 9, 9, 12, 8, 1], [6, 10, 11], [7, 9, 9, 12, 14, 14, 14, 1]]
    preferences = ([1.0, 0.0], [0.0, 1.0], [0.4, 0.6])
    given = [
        GivenText((i, k), ids, 2, soup_model.coefficients(preference), 1)
        for i, ids in enumerate(texts)
        for k, preference in enumerate(preferences)
    ]
    running = request(soup_model, ignore_eos=True)
    unbroken = [token.id for token in answered(soup_model, [running])[running.key]]
    batch = RunningBatch(soup_model)
    made = [batch.join([running])[0].id]
    scores = batch.score(given)
    while step := batch.step():
        made += [token.id for token in step]
    assert made == unbroken
    for each, likely in zip(given, scores, strict=True):
        soup_model.mixer.set(torch.tensor(each.coefficients)[None])
        with torch.inference_mode():
            logits = soup_model.model(torch.tensor([each.ids])).logits[0]
        expected = likelihoods(logits[1:-1], each.ids[2:], 1)
        assert [x.id for x in likely] == each.ids[2:]
        assert [x.logprob for x in likely] == pytest.approx([x.logprob for x in expected], abs=1e-4)
