// The Model view: how large, how sparse, how good the model is.
import { html } from "./html.js";
import { count, percent, plain } from "./format.js";
import { Plot } from "./plot.js";

export function ModelView({ data }) {
  const { model } = data;
  const { config, health, matrices } = model;
  const total = matrices.reduce((sum, each) => sum + each.nonzeros, 0);
  const room = matrices.reduce((sum, each) => sum + each.rows * each.columns, 0);
  return html`<div class="scroll" tabindex="0" data-view="model"><div class="cards">
    <section><h2>${model.name}</h2><dl class="facts">
      <dt>hash</dt><dd class="mono">${model.hash.slice(0, 16)}</dd>
      <dt>layers</dt><dd>${config.n_layer}</dd><dt>width</dt><dd>${count(config.d_model)}</dd>
      <dt>heads</dt><dd>${config.n_head} of ${config.d_head} channels</dd><dt>neurons a layer</dt><dd>${count(config.d_mlp)}</dd>
      <dt>vocabulary</dt><dd>${count(config.vocab_size)}</dd><dt>context</dt><dd>${count(config.block_size)} tokens</dd>
      <dt>weights nonzero</dt><dd>${count(total)} of ${count(room)} (${percent(total / room)})</dd></dl></section>
    <section><h2>On text</h2><dl class="facts">
      <dt>loss</dt><dd>${plain(health.loss, 4)} nats per token</dd>
      ${health.bigram_loss !== null && html`<dt>a bigram model's</dt><dd>${plain(health.bigram_loss, 4)}</dd>`}
      <dt>tokens</dt><dd>${count(health.tokens)}</dd></dl><p class="soft">${health.text}</p>
      <h3>Dead neurons</h3><p>${health.dead.map((dead, layer) => `layer ${layer}: ${count(dead)} of ${count(health.neurons)}`).join("; ")}</p></section>
    <section><h2>Nonzero weights by matrix (L0)</h2><table><thead><tr><th>matrix</th><th class="number">layer</th><th class="number">nonzeros</th><th class="number">density</th></tr></thead><tbody>
      ${matrices.map((each) => html`<tr><td>${each.kind}</td><td class="number">${each.layer ?? ""}</td><td class="number" data-nonzeros=${each.nonzeros}>${count(each.nonzeros)}</td><td class="number">${percent(each.nonzeros / (each.rows * each.columns))}</td></tr>`)}</tbody></table></section>
    <section><h2>Excess kurtosis of the residual stream</h2><table><thead><tr><th>site</th><th class="number">kurtosis</th></tr></thead><tbody>
      ${Object.entries(health.kurtosis).map(([site, value]) => html`<tr><td class="mono">${site}</td><td class="number">${plain(value)}</td></tr>`)}</tbody></table><p class="soft">0 for a normal distribution; larger: a few channels stand out.</p></section>
    ${model.curve.length > 1 && html`<section><h2>Training</h2><${Plot} label="Training loss by step" x=${{ name: "step" }} y=${{ name: "loss in nats per token" }} curves=${[{ points: model.curve.map(([step, loss]) => [step, loss]) }]} /></section>`}
  </div></div>`;
}
