// Requests to the server with the token of this tab, streamed answers, and a request as curl and Python.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Next to this page, wherever a proxy publishes it.
const address = (path) => new URL(path.slice(1), location.href.replace(/[?#].*$/, "")).href;

export async function call(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...(options.headers ?? {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(address(path), { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refused(0, "The server does not answer. Is it still running?");
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => null);
    throw new Refused(answer.status, body?.error?.message ?? `The server answered ${answer.status}.`);
  }
  return answer;
}

export const json = async (path, options) => (await call(path, options)).json();

export function chat(body, signal) {
  const headers = { "Content-Type": "application/json" };
  return call("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal });
}

// The chunks of a streamed answer.
async function* chunks(body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const reader = (await chat(asked, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    left += value;
    const events = left.split("\n\n");
    left = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Refused(500, chunk.error.message);
      yield chunk;
    }
  }
}

// Pieces of text as they come, each {index, text}; the last value is {reasons, usage}.
export async function* stream(body, signal) {
  const end = { reasons: [], usage: null };
  for await (const chunk of chunks(body, signal)) {
    const choice = chunk.choices[0];
    if (choice?.delta?.content) yield { index: choice.index, text: choice.delta.content };
    if (choice?.finish_reason) end.reasons[choice.index] = choice.finish_reason;
    end.usage = chunk.usage ?? end.usage;
  }
  if (!end.usage) throw new Refused(0, "The answer broke off before its end.");
  yield end;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const secret = () => sessionStorage.getItem("token") !== null;

export function curl(body) {
  const token = secret() ? ` -H "Authorization: Bearer $BONESOUP_TOKEN"` : "";
  return `curl -s ${quoted(address("/v1/chat/completions"))}${token} -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(body))}`;
}

// JSON's strings and numbers are Python's too.
export function python(body) {
  const key = secret() ? 'os.environ["BONESOUP_TOKEN"]' : '"none"';
  const { preference, ...known } = body;
  const lines = Object.entries(known).map(([name, value]) => `    ${name}=${JSON.stringify(value)},`);
  return [
    ...(secret() ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(address("/v1"))}, api_key=${key})`,
    "answer = client.chat.completions.create(",
    ...lines,
    `    extra_body={"preference": ${JSON.stringify(preference)}},`,
    ")",
    "print(answer.choices[0].message.content)",
    "",
  ].join("\n");
}
