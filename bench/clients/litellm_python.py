from common import HELPFUL, QUESTION, SYSTEM, URL, expected, steered, tried

# shown
from litellm import completion, text_completion


def in_the_name(preference, **options):
    return completion(
        model=f"openai/bonesoup-soup@{preference}",
        api_base=URL,
        api_key="none",
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        **options,
    )


def in_the_body(preference):
    return completion(
        model="openai/bonesoup-soup",
        api_base=URL,
        api_key="none",
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        extra_body={"preference": preference},
    )


# end
def content(answer):
    return answer.choices[0].message.content


def streamed(preference):
    return "".join(chunk.choices[0].delta.content or "" for chunk in in_the_name(preference, stream=True))


def text(preference):
    asked = {"model": f"text-completion-openai/bonesoup-soup@{preference}", "api_base": URL, "api_key": "none"}
    return text_completion(prompt="a", max_tokens=4, temperature=0, **asked).choices[0].text


def system():
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    asked = {"model": f"openai/bonesoup-soup@{HELPFUL}", "api_base": URL, "api_key": "none", "temperature": 0}
    return content(completion(messages=messages, **asked)) == expected(HELPFUL, SYSTEM)


steered("model name", lambda preference: content(in_the_name(preference)))
steered("body", lambda preference: content(in_the_body(preference)))
steered("streaming", streamed)
tried("text completions", lambda: text(HELPFUL) is not None)
tried("system message", system)
