// Size and loss: what circuits of other sizes would do, how the masks were learned, how the model was trained.
import { html, useState } from "./html.js";
import { CardSummary } from "./cardview.js";
import { count, plain } from "./format.js";
import { Plot } from "./plot.js";

// The place of the smallest measured size whose loss is at most `target`; -1 where none is.
export function smallest(curve, target) {
  return curve.losses.findIndex((loss) => loss <= target);
}

export function nearest(curve, size) {
  return curve.sizes.reduce((best, each, index) => (Math.abs(each - size) < Math.abs(curve.sizes[best] - size) ? index : best), 0);
}

export function SizesView({ data, state, store }) {
  const { curve, learning, config, sizes } = data.circuit;
  const [target, setTarget] = useState(config.target_loss ?? 0.15);
  const chosen = nearest(curve, state.size ?? sizes.nodes);
  const at = smallest(curve, target);
  const points = curve.sizes.map((size, index) => [Math.max(0.8, size), curve.losses[index], `${count(size)} nodes, ${count(curve.edges[index])} edges: ${plain(curve.losses[index])} nats`]);
  const model = data.circuit.losses[curve.split]?.model;
  const move = (event) => {
    const size = curve.sizes[Number(event.target.value)];
    store.set({ size: size === sizes.nodes ? null : size });
  };
  return html`<div class="scroll" tabindex="0" data-view="sizes"><div class="cards sizes">
    <section><h2>Size against loss, on the ${curve.split} split</h2>
      <${Plot} label="Loss of the circuit by its number of nodes" x=${{ name: "nodes", log: true }} y=${{ name: "loss in nats", low: 0 }}
        curves=${[{ points, dots: true }]} lines=${[{ y: target, class: "target", name: `target ${plain(target, 2)}` }, ...(model === undefined ? [] : [{ y: model, class: "axis", name: `model ${plain(model, 2)}` }])]}
        marks=${[{ x: Math.max(0.8, curve.sizes[chosen]), y: curve.losses[chosen], class: "chosen", name: "chosen" }]} />
      <p><label>nodes kept <input type="range" data-slider="size" min="0" max=${curve.sizes.length - 1} value=${chosen} onInput=${move} /></label> <b data-size=${curve.sizes[chosen]}>${count(curve.sizes[chosen])} nodes, ${count(curve.edges[chosen])} edges</b>, loss <b data-loss=${curve.losses[chosen]}>${plain(curve.losses[chosen])}</b> nats${curve.sizes[chosen] === sizes.nodes ? " (this circuit)" : ""}</p>
      <p><label>target loss <input type="range" min="0.005" max="0.6" step="0.005" value=${target} onInput=${(event) => setTarget(Number(event.target.value))} /></label> <b>${plain(target, 2)}</b>: ${at < 0 ? "no measured size meets it" : html`the smallest measured size that meets it has <b>${count(curve.sizes[at])}</b> nodes`}</p>
      <p class="soft">Nodes come in the circuit's own order: its kept nodes first, then all others, each by falling score. The choice dims the nodes of the Circuit view that are not among them. A circuit pruned anew for another target can be smaller than this curve says.</p>
    </section>
    <${CardSummary} data=${data} store=${store} />
    ${learning.length > 1 && html`<section><h2>Learning the masks</h2>
      <${Plot} label="Nodes by step of mask learning" x=${{ name: "step" }} y=${{ name: "nodes", log: true }} curves=${[{ points: learning.map(([step, , nodes]) => [step, Math.max(1, nodes)]) }]} />
      <${Plot} label="Task loss by step of mask learning" x=${{ name: "step" }} y=${{ name: "task loss in nats", low: 0 }} curves=${[{ points: learning.map(([step, loss]) => [step, loss]), class: "second" }]} /></section>`}
    ${data.model.curve.length > 1 && html`<section><h2>Training ${data.model.name}</h2>
      <${Plot} label="Training loss by step" x=${{ name: "step" }} y=${{ name: "loss in nats per token" }} curves=${[{ points: data.model.curve.map(([step, loss]) => [step, loss]) }]} /></section>`}
  </div></div>`;
}
