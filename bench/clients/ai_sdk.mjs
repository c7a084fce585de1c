import { expected, HELPFUL, QUESTION, steered, SYSTEM, tried, URL } from "./common.mjs";
// shown
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const bonesoup = createOpenAICompatible({ name: "bonesoup", baseURL: URL, apiKey: "none" });

const inTheName = (preference) =>
  generateText({ model: bonesoup(`bonesoup-soup@${preference}`), prompt: QUESTION, temperature: 0 });
const inTheBody = (preference) =>
  generateText({
    model: bonesoup("bonesoup-soup"), prompt: QUESTION, temperature: 0, providerOptions: { bonesoup: { preference } },
  });
// end
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, jsonSchema } from "ai";

async function streamed(preference) {
  let text = "";
  for await (const piece of streamText({ model: bonesoup(`bonesoup-soup@${preference}`), prompt: QUESTION, temperature: 0 }).textStream) text += piece;
  return text;
}

const openai = createOpenAI({ baseURL: URL, apiKey: "none" });

await steered("model name", async (preference) => (await inTheName(preference)).text);
await steered("body", async (preference) => (await inTheBody(preference)).text);
await steered("streaming", streamed);
await steered("Responses API (@ai-sdk/openai)", async (preference) =>
  (await generateText({ model: openai(`bonesoup-soup@${preference}`), prompt: QUESTION, temperature: 0 })).text);
await tried("outcome", async () => (await inTheBody({ maximize: "harmless" })).text);
await tried("system message", async () => {
  const asked = { model: bonesoup(`bonesoup-soup@${HELPFUL}`), system: SYSTEM, prompt: QUESTION, temperature: 0 };
  return (await generateText(asked)).text === (await expected(HELPFUL, SYSTEM));
});
await tried("typed output (`supportsStructuredOutputs`)", async () => {
  const provider = createOpenAICompatible({ name: "bonesoup", baseURL: URL, apiKey: "none", supportsStructuredOutputs: true });
  const schema = jsonSchema({ type: "object", properties: { count: { const: 0 } }, required: ["count"], additionalProperties: false });
  return (await generateObject({ model: provider("bonesoup-soup"), schema, prompt: QUESTION, maxOutputTokens: 64 })).object.count === 0;
});
