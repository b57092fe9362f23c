// The Node panel: what one node is, what it is joined to, what it fires on, what it does in the task's pairs.
import { html, useState } from "./html.js";
import { edgesOf } from "./data.js";
import { count, describe, percent, plain, signed, visible } from "./format.js";
import { Attention } from "./attention.js";
import { hover } from "./state.js";
import { Story } from "./story.js";
import { Strip } from "./tokens.js";

export function NodePanel({ data, state, store }) {
  const node = data.byId.get(state.node);
  if (!node) return html`<${Overview} data=${data} state=${state} store=${store} />`;
  const inHead = node.head !== null;
  const tabs = [["text", "Text"], ["pairs", "Pairs"], ...(inHead ? [["attention", "Attention"]] : [])];
  const tab = tabs.some(([key]) => key === state.tab) ? state.tab : "text";
  return html`<section aria-labelledby="node-name" data-panel="node">
    <h2 id="node-name" class="mono">${node.id}</h2>
    <div class="soft">${describe(node)}</div>
    <dl class="facts">
      <dt>removing it costs</dt><dd>${node.cost === null ? "not measured" : `${plain(node.cost)} nats`}</dd>
      <dt>mean</dt><dd>${signed(node.mean)} ± ${plain(node.standard_error, 2)}</dd>
      <dt>held at when removed</dt><dd>${signed(node.held)}</dd>
      ${node.score !== null && html`<dt>mask parameter</dt><dd>${signed(node.score)}</dd>`}
    </dl>
    <div class="buttons">
      <button aria-pressed=${state.pins.includes(node.id)} onClick=${() => pin(store, node.id)}>${state.pins.includes(node.id) ? "Unpin" : "Pin"} <kbd>p</kbd></button>
      ${(node.reads || node.writes) && html`<button onClick=${() => store.set({ channel: node.channel, view: "channel" })}>Channel ${node.channel}</button>`}
      <button class="plain" onClick=${() => store.set({ node: null })}>Close</button>
    </div>
    <${Edges} data=${data} node=${node} store=${store} />
    <${Histogram} node=${node} />
    <div class="tabs" role="tablist" aria-label="More about the node">
      ${tabs.map(([key, name]) => html`<button role="tab" id=${`tab-${key}`} aria-selected=${tab === key} aria-controls="tab-panel" onClick=${() => store.set({ tab: key })}>${name}</button>`)}
    </div>
    <div role="tabpanel" id="tab-panel" aria-labelledby=${`tab-${tab}`}>
      ${tab === "text" && html`<${Samples} data=${data} node=${node} />`}
      ${tab === "pairs" && html`<${Pairs} data=${data} node=${node} />`}
      ${tab === "attention" && html`<${Attention} data=${data} node=${node} state=${state} store=${store} />`}
    </div>
    <h3>Note</h3>
    <${Note} node=${node} state=${state} store=${store} />
  </section>`;
}

export function pin(store, id) {
  const { pins } = store.get();
  store.set({ pins: pins.includes(id) ? pins.filter((each) => each !== id) : [...pins, id] });
}

function Note({ node, state, store }) {
  return html`<textarea class="note" aria-label=${`Note on ${node.id}`} placeholder="What you think it does; kept in the link and the exported file"
    value=${state.notes[node.id] || ""} onChange=${(event) => {
      const notes = { ...state.notes, [node.id]: event.target.value.trim() };
      if (!notes[node.id]) delete notes[node.id];
      store.set({ notes });
    }}></textarea>`;
}

export function Edges({ data, node, store }) {
  const { into, out } = edgesOf(data, node.id);
  const row = (id, weight) => html`<li><button data-edge=${id} onClick=${() => store.set({ node: id })} onMouseEnter=${() => hover.set(id)} onMouseLeave=${() => hover.set(null)} onFocus=${() => hover.set(id)} onBlur=${() => hover.set(null)}>
    <span class="mono">${id}</span><span class="amount"><i class=${weight < 0 ? "neg" : "pos"} style=${{ width: `${(50 * Math.abs(weight)) / data.largest}%` }}></i></span><span class="weight" data-weight=${weight}>${signed(weight)}</span></button></li>`;
  return html`<div>
    ${into.length > 0 && html`<h3>Reads (${into.length})</h3><ul class="edges">${into.slice(0, 60).map((edge) => row(edge.source, edge.weight))}</ul>`}
    ${out.length > 0 && html`<h3>Feeds (${out.length})</h3><ul class="edges">${out.slice(0, 60).map((edge) => row(edge.target, edge.weight))}</ul>`}
    ${Math.max(into.length, out.length) > 60 && html`<p class="soft">The 60 strongest of each are listed.</p>`}
    <${Rail} data=${data} node=${node} />
    <${Partners} data=${data} node=${node} store=${store} />
  </div>`;
}

// Where a node that reads or writes the residual stream meets tokens and logits.
function Rail({ data, node }) {
  if (!node.reads && !node.writes) return null;
  const channel = data.channels.get(node.channel);
  if (!channel) return null;
  if (channel.position) return html`<p class="soft">It reads a wave that says where in the text a token stands.</p>`;
  const rows = node.reads ? channel.writes : channel.reads;
  const strongest = [...rows].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 6);
  return html`<h3>${node.reads ? `Tokens that write its channel (${count(channel.written)})` : `Logits that read its channel (${count(channel.read)})`}</h3>
    <p>${strongest.map(([token, weight]) => html`<span class="token">${visible(data.model.tokens[token])}</span><span class=${`number ${weight < 0 ? "neg" : "pos"}`}> ${signed(weight, 2)}</span>  `)}</p>`;
}

function Partners({ data, node, store }) {
  if (node.head === null) return null;
  const others = data.nodes.filter((each) => each.head === node.head && each.layer === node.layer && each.id !== node.id);
  if (!others.length) return null;
  return html`<h3>In the same head</h3><p class="buttons">${others.map((each) => html`<button class="mono" onClick=${() => store.set({ node: each.id })}>${each.kind.slice(5)}:${each.channel}</button>`)}</p>`;
}

function Histogram({ node }) {
  const { seen } = node;
  if (!seen || !seen.counts.length) return null;
  const most = Math.max(1, ...seen.counts);
  const span = seen.high - seen.low;
  const x = (value) => (span ? (340 * (value - seen.low)) / span : 170);
  const width = 340 / seen.counts.length;
  const inside = node.mean >= seen.low && node.mean <= seen.high;
  return html`<h3>Over ${count(seen.positions)} tokens of text</h3>
    <svg class="histogram" viewBox="0 0 340 76" preserveAspectRatio="none" role="img" aria-label=${`Histogram of its values from ${plain(seen.low)} to ${plain(seen.high)}; zero at ${percent(seen.zeros)} of tokens`}>
      ${seen.counts.map((each, index) => {
        const height = 56 * Math.sqrt(each / most);
        const middle = seen.low + (span * (index + 0.5)) / seen.counts.length;
        return html`<rect class=${middle < 0 ? "neg" : "pos"} x=${index * width} y=${58 - height} width=${Math.max(0.5, width - 0.8)} height=${height}><title>${count(each)} values near ${signed(middle)}</title></rect>`;
      })}
      ${inside && html`<line x1=${x(node.mean)} x2=${x(node.mean)} y1="0" y2="60" stroke-dasharray="3 2"><title>mean ${signed(node.mean)}</title></line>`}
      <text x="0" y="73">${signed(seen.low)}</text><text x="340" y="73" text-anchor="end">${signed(seen.high)}</text>
      <text x="170" y="73" text-anchor="middle">zero at ${percent(seen.zeros)}</text>
    </svg><div class="soft" style=${{ fontSize: "12px" }}>heights are roots of counts; dashed: the mean</div>`;
}

function Samples({ data, node }) {
  const [end, setEnd] = useState("top");
  const { seen } = node;
  if (!seen || !seen.samples.length) return html`<p class="soft">No text was kept of this node: it is among those that cost least.</p>`;
  const scale = Math.max(Math.abs(seen.low), Math.abs(seen.high));
  return html`<div class="buttons" role="group" aria-label="Which end">
      <button aria-pressed=${end === "top"} onClick=${() => setEnd("top")}>highest</button>
      <button aria-pressed=${end === "bottom"} onClick=${() => setEnd("bottom")}>lowest</button>
    </div>
    ${seen.samples.filter((each) => each.end === end).map((each) => html`
      <div class="part"><span>${end} ${percent(each.part)}</span><span class="number">${end === "top" ? "≥" : "≤"} ${signed(each.bound)}</span></div>
      ${each.places.map(([text, from, at, values]) => html`<${Strip} model=${data.model} tokens=${data.circuit.texts[text].slice(from, from + values.length)} values=${values} scale=${scale} from=${from} at=${at} lead=${true} />`)}`)}
    <p class="soft">Text: ${data.circuit.text}. The token in question is outlined.</p>`;
}

// The pairs side by side: the node's value at each token, and what differs between the sides.
function Pairs({ data, node }) {
  const [inside, setInside] = useState("circuit");
  const { pairs } = data.circuit;
  const of = (side) => side[inside].values[node.index];
  const scale = Math.max(1e-9, ...pairs.flatMap((pair) => pair.sides.flatMap((side) => of(side).map(Math.abs))));
  return html`<div class="buttons" role="group" aria-label="Where"><button aria-pressed=${inside === "circuit"} onClick=${() => setInside("circuit")}>in the circuit</button><button aria-pressed=${inside === "model"} onClick=${() => setInside("model")}>in the model</button></div>
    ${pairs.map((pair) => {
      const [a, b] = pair.sides.map((side) => of(side)[side.tokens.length - 1]);
      return html`<div class="part"><span>${pair.template}</span><span class="number">last token ${signed(a)} / ${signed(b)}, difference <b class=${a - b < 0 ? "neg" : "pos"}>${signed(a - b)}</b></span></div>
      ${pair.sides.map((side) => html`<${Strip} model=${data.model} tokens=${side.tokens} values=${of(side)} scale=${scale} />`)}`;
    })}`;
}

// What is shown where no node is open: the circuit in figures, and all its nodes as a list to read or go through by keys.
function Overview({ data, state, store }) {
  const { circuit, model } = data;
  const [order, setOrder] = useState("cost");
  const nodes = order === "cost" ? [...data.nodes].sort((a, b) => (b.cost ?? -1) - (a.cost ?? -1)) : data.nodes;
  const losses = Object.entries(circuit.losses);
  return html`<section data-panel="overview">
    <h2>${circuit.task.name}</h2>
    <p>${circuit.task.description}</p>
    <p class="soft">${count(circuit.sizes.nodes)} of ${count(circuit.sizes.all_nodes)} nodes and ${count(circuit.sizes.edges)} weights of ${model.name} are kept${losses.length > 0 && "; how well these do it alone, the losses below say"}; all other nodes are held at fixed values.</p>
    ${circuit.card && html`<p><span class=${`verdict ${verdictClass(circuit.card.verdict)}`}>${circuit.card.verdict}</span> <button class="plain" onClick=${() => store.set({ view: "card" })}>report card</button></p>`}
    ${losses.length > 0 && html`<table><thead><tr><th>loss in nats</th><th class="number">model</th><th class="number">circuit</th><th class="number">empty</th></tr></thead><tbody>
      ${losses.map(([split, loss]) => html`<tr><td>${split}</td>${["model", "circuit", "empty"].map((key) => html`<td class="number">${key in loss ? plain(loss[key]) : "–"}</td>`)}</tr>`)}
    </tbody></table>`}
    <${Story} data=${data} store=${store} />
    <${Grouping} data=${data} state=${state} store=${store} />
    <h3>Nodes, by <button class="plain" onClick=${() => setOrder(order === "cost" ? "place" : "cost")}>${order === "cost" ? "cost of removal" : "place"}</button></h3>
    <ul class="edges" data-list="nodes">${nodes.slice(0, 200).map((node) => html`<li><button data-row=${node.id} onClick=${() => store.set({ node: node.id })} onMouseEnter=${() => hover.set(node.id)} onMouseLeave=${() => hover.set(null)}>
      <span class="mono">${node.id}</span><span class="amount"><i class="pos" style=${{ left: 0, background: "var(--soft)", width: `${node.cost === null ? 0 : (100 * Math.max(0, node.cost)) / data.largestCost}%` }}></i></span><span class="weight">${node.cost === null ? "–" : plain(node.cost)}</span></button></li>`)}</ul>
    ${nodes.length > 200 && html`<p class="soft">The first 200 of ${count(nodes.length)}; search finds the others.</p>`}
  </section>`;
}

export const verdictClass = (verdict) => (verdict === "not measured" ? "unmeasured" : verdict);

function Grouping({ state, store }) {
  const [name, setName] = useState("");
  const make = (event) => {
    event.preventDefault();
    if (!name.trim() || !state.pins.length) return;
    store.set({ groups: [...state.groups.filter((group) => group.name !== name.trim()), { name: name.trim(), nodes: state.pins }], pins: [] });
    setName("");
  };
  return html`<h3>Pins and groups</h3>
    ${state.pins.length > 0 ? html`<p class="buttons">${state.pins.map((id) => html`<button class="mono" onClick=${() => store.set({ node: id })}>${id}</button>`)}</p>
      <form class="buttons" onSubmit=${make}><input aria-label="Name of the group" placeholder="name for these" value=${name} onInput=${(event) => setName(event.target.value)} /><button disabled=${!name.trim()}>Group</button></form>`
      : html`<p class="soft">Pin nodes (<kbd>p</kbd>) to keep them marked and to group them under a name.</p>`}
    ${state.groups.map((group) => html`<p class="buttons"><b>${group.name}</b> <span class="soft">${group.nodes.length} nodes</span> <button onClick=${() => store.set({ pins: group.nodes, groups: state.groups.filter((each) => each !== group) })}>Ungroup</button></p>`)}`;
}
