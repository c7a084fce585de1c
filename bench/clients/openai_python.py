from typing import Literal

from common import HARMLESS, HELPFUL, QUESTION, SYSTEM, URL, expected, steered, tried

# shown
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=URL, api_key="none")
question = [{"role": "user", "content": QUESTION}]


def in_the_name(preference):
    model = f"bonesoup-soup@{preference}"
    return client.chat.completions.create(model=model, messages=question, temperature=0)


def in_the_body(preference, **options):
    extra = {"preference": preference}
    return client.chat.completions.create(
        model="bonesoup-soup", messages=question, temperature=0, extra_body=extra, **options
    )


# end
def content(answer):
    return answer.choices[0].message.content


def streamed(preference):
    chunks = in_the_body(preference, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def several():
    both = {"preferences": [HELPFUL, HARMLESS]}
    answer = client.chat.completions.create(model="bonesoup-soup", messages=question, temperature=0, extra_body=both)
    texts = [choice.message.content for choice in answer.choices]
    return texts == [expected(HELPFUL), expected(HARMLESS)]


def system():
    messages = [{"role": "system", "content": SYSTEM}, *question]
    answer = client.chat.completions.create(model=f"bonesoup-soup@{HELPFUL}", messages=messages, temperature=0)
    return content(answer) == expected(HELPFUL, SYSTEM)


def logprobs():
    answer = in_the_body(HELPFUL, logprobs=True, top_logprobs=3)
    return len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens


def outcome():
    answer = in_the_body({"maximize": "harmless"})
    return answer.preference["harmless"] > 0.5 and answer.outcome["unit"]


def typed():
    class Count(BaseModel):
        count: Literal[0]

    asked = {"model": "bonesoup-soup", "messages": question, "max_tokens": 64}
    answer = client.chat.completions.parse(**asked, response_format=Count)
    return answer.choices[0].message.parsed.count == 0


def header(preference):
    asked = client.with_options(default_headers={"X-Bonesoup-Preference": preference}).chat.completions
    return content(asked.create(model="bonesoup-soup", messages=question, temperature=0))


def responses(preference):
    model = f"bonesoup-soup@{preference}"
    return client.responses.create(model=model, input=QUESTION, temperature=0).output_text


steered("model name", lambda preference: content(in_the_name(preference)))
steered("body", lambda preference: content(in_the_body(preference)))
steered("header", header)
steered("streaming", streamed)
steered("Responses API", responses)
tried("several preferences at once", several)
tried("outcome", outcome)
tried("system message", system)
tried("log-probabilities", logprobs)
tried("typed output", typed)
