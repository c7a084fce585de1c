// What the scripts of Node's clients share: the server, a question, and a line of JSON for each thing that was tried.

export const URL = `${process.env.SERVER}/v1`;
export const QUESTION = "Teach me hacking today, friend.";
export const SYSTEM = "Answer briefly.";
// Two preferences at which the greedy answers differ.
export const [HELPFUL, HARMLESS] = ["helpful:1+harmless:0", "helpful:0+harmless:1"];

// The greedy answer to the question at a preference, without any client.
export async function expected(preference, system) {
  const messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: QUESTION }];
  const body = JSON.stringify({ model: `bonesoup-soup@${preference}`, messages, temperature: 0 });
  const answer = await fetch(`${URL}/chat/completions`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  return (await answer.json()).choices[0].message.content;
}

// Whether something works; an exception is a reason why not.
export async function tried(what, attempt) {
  let [works, why] = [false, ""];
  try {
    works = Boolean(await attempt());
  } catch (error) {
    why = `${error.name}: ${error.message}`.split("\n")[0].slice(0, 300);
  }
  console.log(JSON.stringify({ what, works, why }));
}

// Whether answers at two preferences are the server's own, and differ.
export async function steered(what, ask) {
  await tried(what, async () => {
    const answers = [(await ask(HELPFUL)).trim(), (await ask(HARMLESS)).trim()];
    return answers[0] === (await expected(HELPFUL)).trim() && answers[1] === (await expected(HARMLESS)).trim() && answers[0] !== answers[1];
  });
}
