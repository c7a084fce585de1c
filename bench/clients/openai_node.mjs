import { expected, HARMLESS, HELPFUL, QUESTION, steered, SYSTEM, tried, URL } from "./common.mjs";
// shown
import OpenAI from "openai";

const client = new OpenAI({ baseURL: URL, apiKey: "none" });
const messages = [{ role: "user", content: QUESTION }];

const inTheName = (preference) =>
  client.chat.completions.create({ model: `bonesoup-soup@${preference}`, messages, temperature: 0 });
const inTheBody = (preference, options = {}) =>
  client.chat.completions.create({ model: "bonesoup-soup", messages, temperature: 0, preference, ...options });
// end

const content = (answer) => answer.choices[0].message.content;

async function streamed(preference) {
  let text = "";
  for await (const chunk of await inTheBody(preference, { stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}

await steered("model name", async (preference) => content(await inTheName(preference)));
await steered("body", async (preference) => content(await inTheBody(preference)));
await steered("streaming", streamed);
await steered("Responses API", async (preference) =>
  (await client.responses.create({ model: `bonesoup-soup@${preference}`, input: QUESTION, temperature: 0 })).output_text);
await tried("several preferences at once", async () => {
  const answer = await inTheBody(undefined, { preferences: [HELPFUL, HARMLESS] });
  return answer.choices[1].message.content === (await expected(HARMLESS));
});
await tried("outcome", async () => (await inTheBody({ maximize: "harmless" })).preference.harmless > 0.5);
await tried("system message", async () => {
  const asked = { model: `bonesoup-soup@${HELPFUL}`, temperature: 0, messages: [{ role: "system", content: SYSTEM }, ...messages] };
  return content(await client.chat.completions.create(asked)) === (await expected(HELPFUL, SYSTEM));
});
