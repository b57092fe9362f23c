// How the circuit does its task, step by step, read off the task's pairs: what tells the sides apart, where the heads look
// from the last token, and what each node is worth on either side, as means over the pairs, in the circuit.
import { html, useMemo } from "./html.js";
import { triangle } from "./attention.js";
import { grouped } from "./data.js";
import { percent, plain, signed, visible } from "./format.js";
import { hover } from "./state.js";
import { shade } from "./tokens.js";

const LISTED = 5; // nodes of a step
const LOOKS = 0.1; // mean attention on one token from which a head is said to look at it
const LARGE = 400; // nodes beyond which this says nothing any more

const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;

// By side, the tokens that only that side has in some pair, the most frequent first.
export function tellApart(circuit) {
  return [0, 1].map((side) => {
    const counts = new Map();
    for (const { sides } of circuit.pairs) {
      const other = new Set(sides[1 - side].tokens);
      for (const token of new Set(sides[side].tokens)) if (!other.has(token)) counts.set(token, (counts.get(token) || 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1]).map(([token]) => token);
  });
}

// Of a head, by side: the mean over pairs of the most that the last token's attention lies on one token, which tokens
// these are, and where they stand in each pair.
export function looks(circuit, head) {
  return [0, 1].map((side) => {
    const places = circuit.pairs.map(({ sides }, pair) => {
      const length = sides[side].tokens.length;
      const row = triangle(head.patterns[pair][side].circuit, length)[length - 1];
      const place = row.indexOf(Math.max(...row));
      return { place, weight: row[place], token: sides[side].tokens[place] };
    });
    const tokens = [...grouped(places, (each) => each.token)].sort((a, b) => b[1].length - a[1].length);
    return { weight: mean(places.map((each) => each.weight)), tokens: tokens.map(([token]) => token), places: places.map((each) => each.place) };
  });
}

// A node's mean over pairs on each side: where its head looks for k and v, else at the last token.
export function sidesOf(data, node, heads) {
  const head = heads.find((each) => each.layer === node.layer && each.head === node.head);
  const keyed = (node.kind === "attn.k" || node.kind === "attn.v") && head;
  return [0, 1].map((side) => mean(data.circuit.pairs.map(({ sides }, pair) => {
    const values = sides[side].circuit.values[node.index];
    return values[keyed ? head.looks[side].places[pair] : values.length - 1];
  })));
}

export function Story({ data, store }) {
  const { circuit, nodes } = data;
  const told = circuit.pairs.length > 0 && nodes.length <= LARGE;
  const heads = useMemo(() => (told ? circuit.heads.map((head) => ({ ...head, looks: looks(circuit, head) })) : []), [data]);
  const rows = useMemo(() => new Map((told ? nodes : []).map((node) => [node.id, { node, values: sidesOf(data, node, heads) }])), [data]);
  if (!told) return null;
  const apart = tellApart(circuit);
  const answers = [0, 1].map((side) => [...new Set(circuit.pairs.map(({ sides }) => sides[side].right))]);
  const right = [0, 1].map((side) => mean(circuit.pairs.map(({ sides }) => Math.exp(-sides[side].circuit.loss))));
  const tell = (tokens) => html`${tokens.slice(0, 3).map((token, index) => html`${index > 0 && " or "}<${Token} data=${data} token=${token} />`)}${tokens.length > 3 && " \u2026"}`;
  return html`<div data-story><h3>Step by step</h3>
    <p>Side A has ${apart[0].length ? tell(apart[0]) : "the same tokens"}, side B ${apart[1].length ? tell(apart[1]) : "none of its own"}; after A comes ${tell(answers[0])}, after B ${tell(answers[1])}. Values are means over ${circuit.pairs.length} pairs, in the circuit.</p>
    ${[...grouped(nodes.filter((node) => !node.reads), (node) => node.depth)].sort((a, b) => a[0] - b[0]).map(([depth, group]) => depth % 2 === 0
      ? html`<${Attends} data=${data} store=${store} layer=${depth / 2} group=${group} heads=${heads} rows=${rows} />`
      : html`<h4>Layer ${(depth - 1) / 2}, MLP</h4><${Rows} store=${store} title="neurons" rows=${group.filter((node) => !node.writes).map((node) => rows.get(node.id))} /><${Writes} data=${data} store=${store} group=${group} rows=${rows} />`)}
    <h4>Answer</h4><p data-answer>p(right) of the two: <b>${percent(right[0])}</b> on side A, <b>${percent(right[1])}</b> on side B.</p></div>`;
}

const Token = ({ data, token }) => (token < 0 ? "anything else" : html`<code>${visible(data.model.tokens[token])}</code>`);

function Attends({ data, store, layer, group, heads, rows }) {
  const own = heads.filter((head) => head.layer === layer && group.some((node) => node.kind === "attn.v" && node.head === head.head));
  return html`<h4>Layer ${layer}, attention</h4>${own.map((head) => {
    const [a, b] = head.looks;
    const most = (side) => html`<${Token} data=${data} token=${side.tokens[0]} /> (${plain(side.weight, 2)})`;
    return html`<p data-looks=${head.head}>Head ${head.head}, from the last token, ${Math.max(a.weight, b.weight) < LOOKS ? html`looks at no token with more than ${plain(Math.max(a.weight, b.weight), 2)}: it carries a mixture of all.` : html`looks most at ${most(a)} on side A, at ${most(b)} on side B.`}</p>
      <${Rows} store=${store} title="it carries" rows=${group.filter((node) => node.kind === "attn.v" && node.head === head.head).map((node) => rows.get(node.id))} />`;
  })}<${Writes} data=${data} store=${store} group=${group} rows=${rows} />`;
}

// What a sublayer writes, with what that does to the logits of the answers.
function Writes({ data, store, group, rows }) {
  const answers = [0, 1].map((side) => data.circuit.pairs[0].sides[side].right);
  const effect = (node) => data.channels.get(node.channel).reads.filter(([token]) => answers.includes(token)).map(([token, weight]) => html`logit of <${Token} data=${data} token=${token} /> <span class=${weight < 0 ? "neg" : "pos"}>${signed(weight, 2)}</span>  `);
  return html`<${Rows} store=${store} title="it writes" rows=${group.filter((node) => node.writes).map((node) => rows.get(node.id))} effect=${effect} />`;
}

function Rows({ store, title, rows, effect }) {
  if (!rows.length) return null;
  const gap = ({ values: [a, b] }) => Math.abs(a - b);
  const listed = [...rows].sort((one, two) => gap(two) - gap(one)).slice(0, LISTED);
  return html`<table class="story"><thead><tr><th>${title}</th><th class="number">on A</th><th class="number">on B</th></tr></thead><tbody>
    ${listed.map(({ node, values }) => {
      const scale = Math.max(...values.map(Math.abs));
      return html`<tr><td><button class="mono" data-row=${node.id} onClick=${() => store.set({ node: node.id })} onMouseEnter=${() => hover.set(node.id)} onMouseLeave=${() => hover.set(null)}>${node.id}</button>${effect && html`<div class="soft">${effect(node)}</div>`}</td>
        ${values.map((value, side) => html`<td class="number" data-side=${"AB"[side]} data-value=${value} style=${{ background: shade(value, scale * 1.6) }}>${signed(value)}</td>`)}</tr>`;
    })}</tbody></table>${rows.length > LISTED && html`<p class="soft">The ${LISTED} that differ most of ${rows.length}.</p>`}`;
}
