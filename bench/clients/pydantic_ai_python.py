from common import HELPFUL, QUESTION, SYSTEM, URL, expected, steered, tried

# shown
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=URL, api_key="none")


def agent(preference, **options):
    model = OpenAIChatModel("bonesoup-soup", provider=provider)
    settings = {"temperature": 0, "extra_body": {"preference": preference}}
    return Agent(model, model_settings=settings, **options)


# end
def named(preference):
    model = OpenAIChatModel(f"bonesoup-soup@{preference}", provider=provider)
    return Agent(model, model_settings={"temperature": 0}).run_sync(QUESTION).output


def structured():
    return agent(HELPFUL, output_type=int).run_sync(QUESTION).output


steered("model name", named)
steered("body", lambda preference: agent(preference).run_sync(QUESTION).output)
tried("outcome", lambda: agent({"maximize": "harmless"}).run_sync(QUESTION).output)
tried(
    "system message",
    lambda: agent(HELPFUL, system_prompt=SYSTEM).run_sync(QUESTION).output == expected(HELPFUL, SYSTEM),
)
tried("typed output", structured)
