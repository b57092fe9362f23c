// Numbers, names and tokens as people read them.

const MINUS = "\u2212";

// A number in a few digits, its sign before it; enough of them that different weights read differently.
export function signed(value, digits = 3) {
  if (value === null || value === undefined) return "\u2013";
  const text = plain(Math.abs(value), digits);
  return (value < 0 ? MINUS : value > 0 ? "+" : "") + text;
}

export function plain(value, digits = 3) {
  if (value === null || value === undefined) return "\u2013";
  const size = Math.abs(value);
  const sign = value < 0 ? MINUS : "";
  if (size === 0) return "0";
  if (size >= 1e5 || size < 1e-4) return sign + size.toExponential(Math.max(0, digits - 1)).replace("e-", "e" + MINUS);
  const places = Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(size))));
  return sign + size.toFixed(places);
}

export function percent(value) {
  const scaled = 100 * value;
  return `${scaled === 0 || scaled >= 10 ? scaled.toFixed(0) : plain(scaled, 2)}%`;
}

export const count = (value) => value.toLocaleString("en-US");

const SITES = {
  "attn.act_in": "attention's input",
  "attn.q": "query",
  "attn.k": "key",
  "attn.v": "value",
  "attn.resid_delta": "attention's output",
  "mlp.act_in": "the MLP's input",
  "mlp.post_act": "neuron",
  "mlp.resid_delta": "the MLP's output",
};

// What a node is, in words.
export function describe(node) {
  const where = `layer ${node.layer}`;
  if (node.kind === "mlp.post_act") return `neuron ${node.channel} of ${where}`;
  if (node.head !== null) return `${SITES[node.kind]} channel ${node.within} of head ${node.head}, ${where}`;
  return `${node.position ? `position channel` : `residual channel`} ${node.channel} at ${SITES[node.kind] || node.kind}, ${where}`;
}

// A token's text with what would not be seen made visible; always used as text, never as markup.
export function visible(token) {
  return token.replace(/ /g, "\u00b7").replace(/\\n/g, "\u21b5").replace(/\\t/g, "\u21e5");
}
