// A head's attention over one pair, and what one channel of it adds to each score.
import { html } from "./html.js";
import { pairName } from "./data.js";
import { plain, signed, visible } from "./format.js";
import { shade } from "./tokens.js";

// Weights of the lower triangle, one row after another, as rows.
export function triangle(flat, length) {
  return Array.from({ length }, (_, query) => flat.slice((query * (query + 1)) / 2, (query * (query + 1)) / 2 + query + 1));
}

// A channel's part by query and key. Of a q or k channel: what it adds to the score, q times k over the root of the head's
// width, where a channel that was removed stands at the value it is held at. Of a v channel: what is carried, attention
// times value.
export function partOf(data, node, side, inside, rows) {
  if (node.kind === "attn.v") return rows.map((row) => row.map((weight, key) => weight * side[inside].values[node.index][key]));
  const head = headOf(data, node);
  const other = data.byId.get(`${node.layer}.attn.${node.kind === "attn.q" ? "k" : "q"}:${node.channel}`);
  const own = side[inside].values[node.index];
  if (!other && inside === "model") return null; // the model's value of a removed channel is not in the bundle
  const held = (node.kind === "attn.q" ? head.k_held : head.q_held)[node.within];
  const partner = other ? side[inside].values[other.index] : own.map(() => held);
  const [q, k] = node.kind === "attn.q" ? [own, partner] : [partner, own];
  const root = Math.sqrt(data.model.config.d_head);
  return q.map((query, t) => k.slice(0, t + 1).map((key) => (query * key) / root));
}

export function headOf(data, node) {
  return data.circuit.heads.find((head) => head.layer === node.layer && head.head === node.head);
}

export function Attention({ data, node, state, store }) {
  const place = Math.min(state.pair, data.circuit.pairs.length - 1);
  const pair = data.circuit.pairs[place];
  const head = headOf(data, node);
  if (!head || !pair) return html`<p class="soft">No attention was kept.</p>`;
  return html`<label>pair <select value=${place} onChange=${(event) => store.set({ pair: Number(event.target.value) })}>${data.circuit.pairs.map((_, index) => html`<option value=${index} selected=${index === place}>${pairName(data, index)}</option>`)}</select></label>
    ${pair.sides.map((side, index) => html`<${Looks} data=${data} node=${node} head=${head} side=${side} flat=${head.patterns[place][index]} label=${index ? "B" : "A"} />`)}
    <p class="soft">Each row is a query token, each column a key token before it; dark where the head looks. What is missing to 1 goes to the sink${head.sink === null ? " (this model has none)" : ""}.</p>`;
}

function Looks({ data, node, side, flat, label }) {
  const length = side.tokens.length;
  const rows = triangle(flat.circuit, length);
  const parts = partOf(data, node, side, "circuit", rows);
  const does = node.kind === "attn.v" ? "carries" : "adds";
  const names = side.tokens.map((token) => visible(data.model.tokens[token]));
  const last = rows[length - 1];
  const order = last.map((weight, key) => [key, weight]).sort((a, b) => b[1] - a[1]).slice(0, 4);
  return html`<h3>Side ${label}: from the last token, in the circuit</h3>
    <table><thead><tr><th>key token</th><th class="number">attention</th><th class="number">in the model</th>${parts && html`<th class="number">${node.kind.slice(5)}:${node.channel} ${does}</th>`}</tr></thead><tbody>
      ${order.map(([key, weight]) => html`<tr><td class="mono">${key}: ${names[key]}</td><td class="number" data-attention=${key}>${plain(weight)}</td><td class="number">${plain(triangle(flat.model, length)[length - 1][key])}</td>${parts && html`<td class="number">${signed(parts[length - 1][key])}</td>`}</tr>`)}
    </tbody></table>
    <${Grid} title="attention" rows=${rows} names=${names} scale=${1} />
    ${parts && html`<${Grid} title=${`what ${node.kind.slice(5)}:${node.channel} ${does === "adds" ? "adds to the scores" : "carries"}`} rows=${parts} names=${names} scale=${Math.max(1e-9, ...parts.flat().map(Math.abs))} />`}`;
}

function Grid({ title, rows, names, scale }) {
  const size = Math.min(14, 330 / rows.length);
  const side = rows.length * size;
  return html`<svg width=${side} height=${side} role="img" aria-label=${title} style=${{ background: "var(--raised)", borderRadius: "4px", display: "block", margin: "6px 0" }}>
    ${rows.flatMap((row, query) => row.map((value, key) => (Math.abs(value) < 1e-3 * scale ? null : html`<rect x=${key * size} y=${query * size} width=${size} height=${size} style=${{ fill: shade(value, scale * 0.62) }}><title>${`${names[query]} (token ${query}) looks at ${names[key]} (token ${key}): ${signed(value)}`}</title></rect>`)))}
  </svg>`;
}
