// Steering a bridged dense model: a slider moves what a node differs by between two prompts into the dense model.
import { html, useEffect, useState } from "./html.js";
import { ask, text } from "./ask.js";
import { percent, signed, visible } from "./format.js";
import { Plot } from "./plot.js";

export function Steer({ data, state }) {
  const pair = data.circuit.pairs[Math.min(state.pair, data.circuit.pairs.length - 1)];
  const [a, b] = pair.sides;
  const [strength, setStrength] = useState(0);
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  const node = data.byId.get(state.node);
  const readable = Boolean(node && node.reads && !node.position);
  useEffect(() => {
    setFound(null);
    if (!readable || a.right < 0 || b.right < 0) return undefined;
    let current = true;
    const asked = { prompt: text(data.model, a.tokens), other: text(data.model, b.tokens), nodes: [node.id], answers: [a.right, b.right] };
    ask("api/steer", asked).then(
      (answer) => { if (current) { setFound(answer.rows); setProblem(""); } },
      (error) => { if (current) setProblem(error.message); },
    );
    return () => { current = false; };
  }, [data, state.node, state.pair]);
  const row = found && found.reduce((best, each) => (Math.abs(each.strength - strength) < Math.abs(best.strength - strength) ? each : best));
  const name = (token) => (token < 0 ? "anything else" : visible(data.model.tokens[token]));
  return html`<section data-steer><h2>Steer the bridged dense model</h2>
    ${!readable && html`<p class="soft">Open a node at which a sublayer reads the residual stream (an open circle). What it differs by between the two sides of the pair is then moved into the dense model.</p>`}
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${row && html`<p><label>strength <input type="range" min="0" max="1.5" step="0.1" value=${strength} onInput=${(event) => setStrength(Number(event.target.value))} /></label> <b>${row.strength.toFixed(1)}</b> of ${node.id}, from side A of pair ${state.pair + 1} towards side B</p>
      <p>p(<span class="token">${name(b.right)}</span>) of the two: <b data-steered=${row.strength}>${percent(1 - Math.exp(-row.loss))}</b>, logits <span class="token">${name(a.right)}</span> ${signed(row.right)}, <span class="token">${name(b.right)}</span> ${signed(row.wrong)}; most probable next: ${row.top.slice(0, 5).map(([token, p]) => html`<span class="token">${name(token)}</span> <span class="soft">${percent(p)}</span>  `)}</p>
      <${Plot} label="Probability of the other answer by strength" x=${{ name: "strength" }} y=${{ name: `p(${name(b.right)}) of the two`, low: 0, high: 1 }} curves=${[{ points: found.map((each) => [each.strength, 1 - Math.exp(-each.loss)]), dots: true }]} marks=${[{ x: row.strength, y: 1 - Math.exp(-row.loss), class: "chosen", name: "chosen" }]} />`}</section>`;
}
