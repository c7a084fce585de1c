// The state of the desk: the soup that answers, the preferences at hand, and what an answer is compared with.

export const $ = (id) => document.getElementById(id);

// `soup` is the answer of /v1/soup; `weights` and `second` are in the order of its objectives.
export const state = { soup: null, weights: [], second: [], beside: "" };

// Method, weights and model of the answer on the left (0) or on the right (1).
export function asked(side) {
  const { soup, weights, second, beside } = state;
  const method = side === 0 || ["second", "none"].includes(beside) ? soup.methods[0] : beside;
  return { method, weights: side === 1 && beside === "second" ? second : weights, model: soup.models[method] };
}

// The name of a method, or of a second preference of the first one, for readers.
export const named = (kind) => (kind === "second" ? "Second preference" : state.soup.titles[kind]);

// The number of preferences to sweep; 0 for no sweep.
export const swept = () => Number($("points").value);
