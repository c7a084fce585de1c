from common import HELPFUL, QUESTION, SYSTEM, URL, expected, steered, tried

# shown
from langchain_openai import ChatOpenAI


def chat(preference):
    return ChatOpenAI(
        model="bonesoup-soup", base_url=URL, api_key="none", temperature=0, extra_body={"preference": preference}
    )


# end
def named(preference):
    model = ChatOpenAI(model=f"bonesoup-soup@{preference}", base_url=URL, api_key="none", temperature=0)
    return model.invoke(QUESTION).content


def system():
    return chat(HELPFUL).invoke([("system", SYSTEM), ("user", QUESTION)]).content == expected(HELPFUL, SYSTEM)


def typed():
    schema = {"title": "Count", "type": "object", "properties": {"count": {"const": 0}}, "required": ["count"]}
    schema |= {"additionalProperties": False}
    model = ChatOpenAI(model="bonesoup-soup", base_url=URL, api_key="none", max_tokens=64)
    return model.with_structured_output(schema, method="json_schema").invoke(QUESTION) == {"count": 0}


def outcome():
    return chat({"maximize": "harmless"}).invoke(QUESTION).content


steered("model name", named)
steered("body", lambda preference: chat(preference).invoke(QUESTION).content)
steered("streaming", lambda preference: "".join(piece.content for piece in chat(preference).stream(QUESTION)))
tried("outcome", outcome)
tried("system message", system)
tried("typed output", typed)
