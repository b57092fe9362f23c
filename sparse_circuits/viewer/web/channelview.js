// The Embedding view: for a residual channel the tokens that write to it and the logits that read it; the bigram table.
import { html, useState } from "./html.js";
import { count, plain, signed, visible } from "./format.js";
import { Plot } from "./plot.js";
import { hover } from "./state.js";

export function ChannelView({ data, state, store }) {
  const channels = data.circuit.channels;
  if (!channels.length) return html`<div class="scroll" tabindex="0" data-view="channel"><p>This circuit has no residual channel.</p></div>`;
  const channel = data.channels.get(state.channel) || channels[0];
  return html`<div class="scroll" tabindex="0" data-view="channel"><div class="buttons" role="group" aria-label="Channels">
      ${channels.map((each) => html`<button class="mono" aria-pressed=${each === channel} onClick=${() => store.set({ channel: each.channel })}>${each.channel}</button>`)}</div>
    ${channel.position ? html`<${Wave} channel=${channel} data=${data} />` : html`<div class="cards">
      <${Weights} data=${data} title="Tokens that write it" note=${`${count(channel.written)} of ${count(data.model.config.vocab_size)} tokens have an embedding weight there; the strongest and the task's own are listed.`} rows=${channel.writes} />
      <${Weights} data=${data} title="Logits that read it" note=${`${count(channel.read)} logits have an unembedding weight there (before the last norm's gain).`} rows=${channel.reads} />
      <${Bigram} data=${data} /></div>`}
    <${Touching} data=${data} channel=${channel.channel} store=${store} /></div>`;
}

function Weights({ data, title, note, rows }) {
  const most = Math.max(1e-12, ...rows.map(([, weight]) => Math.abs(weight)));
  return html`<section><h2>${title}</h2><p class="soft">${note}</p><ul class="edges">${rows.map(([token, weight]) => html`<li style=${{ display: "grid", gridTemplateColumns: "minmax(0,1fr) 90px 58px", gap: "6px", padding: "1px 4px" }}>
    <span class="token">${visible(data.model.tokens[token])}</span><span class="amount"><i class=${weight < 0 ? "neg" : "pos"} style=${{ width: `${(50 * Math.abs(weight)) / most}%` }}></i></span><span class="weight" data-weight=${weight}>${signed(weight)}</span></li>`)}</ul></section>`;
}

function Wave({ data, channel }) {
  return html`<div class="cards"><section><h2>Position channel ${channel.channel - data.model.config.d_model}</h2><p class="soft">It has this value at each position of every prompt; sublayers read it beside the residual stream.</p>
    <${Plot} label="Value of the position channel by position" x=${{ name: "position" }} y=${{ name: "value" }} curves=${[{ points: channel.values.map((value, index) => [index, value]) }]} /></section></div>`;
}

function Touching({ data, channel, store }) {
  const nodes = data.nodes.filter((node) => (node.reads || node.writes) && node.channel === channel);
  return html`<h3>Nodes on it</h3><p class="buttons">${nodes.map((node) => html`<button class="mono" onClick=${() => store.set({ node: node.id })} onMouseEnter=${() => hover.set(node.id)} onMouseLeave=${() => hover.set(null)}>${node.id}</button>`)}</p>`;
}

function Bigram({ data }) {
  const [query, setQuery] = useState("");
  const { bigram, tokens } = data.model;
  if (!bigram) return html`<section><h2>Bigram table</h2><p class="soft">This model has none, or one too large to be kept here.</p></section>`;
  const found = query === "" ? -1 : tokens.findIndex((token) => token === query || visible(token) === query);
  return html`<section><h2>Bigram table</h2><p><label>after the token <input class="mono" value=${query} onInput=${(event) => setQuery(event.target.value)} placeholder="e.g. (" size="10" /></label></p>
    ${query !== "" && found < 0 && html`<p class="soft">No token is spelled so. A space is written as it is, or as ·.</p>`}
    ${found >= 0 && html`<ul class="edges">${bigram[found].map(([token, value]) => html`<li style=${{ display: "flex", justifyContent: "space-between" }}><span class="token">${visible(tokens[token])}</span><span class="number">${plain(value)}</span></li>`)}</ul>`}
    <p class="soft">What the last token alone adds to the logits of the next, the largest.</p></section>`;
}
