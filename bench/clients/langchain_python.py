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


def outcome():
    return chat({"maximize": "harmless"}).invoke(QUESTION).content


steered("model name", named)
steered("body", lambda preference: chat(preference).invoke(QUESTION).content)
steered("streaming", lambda preference: "".join(piece.content for piece in chat(preference).stream(QUESTION)))
tried("outcome", outcome)
tried("system message", system)
