from typing import Literal

from common import HELPFUL, QUESTION, SYSTEM, URL, expected, steered, tried

# shown
from pydantic_ai import Agent, NativeOutput
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


def structured(output_type):
    settings = {"max_tokens": 64}
    return agent(HELPFUL, output_type=output_type).run_sync(QUESTION, model_settings=settings).output == 0


steered("model name", named)
steered("body", lambda preference: agent(preference).run_sync(QUESTION).output)
tried("outcome", lambda: agent({"maximize": "harmless"}).run_sync(QUESTION).output)
tried(
    "system message",
    lambda: agent(HELPFUL, system_prompt=SYSTEM).run_sync(QUESTION).output == expected(HELPFUL, SYSTEM),
)
tried("typed output (`NativeOutput`)", lambda: structured(NativeOutput(Literal[0])))
tried("typed output by tools", lambda: structured(Literal[0]))
