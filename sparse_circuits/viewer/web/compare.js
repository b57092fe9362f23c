// Two circuits of the bundle side by side, with the nodes they share marked.
import { html, useMemo } from "./html.js";
import { CircuitView } from "./circuit.js";
import { prepare } from "./data.js";
import { count, plain } from "./format.js";

// Shared nodes have the same site and channel; in different models that says nothing, and none is shared.
export function shared(one, two) {
  if (one.model.hash !== two.model.hash) return new Set();
  return new Set(one.nodes.filter((node) => two.byId.has(node.id)).map((node) => node.id));
}

export function CompareView({ bundle, data, state, store }) {
  const others = bundle.circuits.map((_, index) => index).filter((index) => index !== data.place);
  const place = others.includes(state.other) ? state.other : others[0];
  const two = useMemo(() => (place === undefined ? null : prepare(bundle, place)), [bundle, place]);
  const both = useMemo(() => (two ? shared(data, two) : new Set()), [data, two]);
  const quiet = useMemo(() => ({ ...store, get: () => ({ ...store.get(), zoom: null }), set: ({ zoom, ...rest }) => Object.keys(rest).length && store.set(rest) }), [store]);
  if (!two) {
    return html`<div class="scroll" tabindex="0" data-view="compare"><div class="message"><h2>Only one circuit here</h2><p>Give <code>sparse-circuits view</code> two circuit folders (sparse and dense, two seeds, two tasks), and they stand here side by side.</p></div></div>`;
  }
  const calm = { ...state, size: null, cost: 0, strength: state.strength };
  const union = data.nodes.length + two.nodes.length - both.size;
  return html`<div class="bar"><label>beside <select aria-label="The other circuit" onChange=${(event) => store.set({ other: Number(event.target.value) })}>${others.map((index) => html`<option value=${index} selected=${index === place}>${bundle.circuits[index].title}</option>`)}</select></label>
      <span data-shared=${both.size}>${data.model.hash === two.model.hash ? `${both.size} nodes shared, ${union ? plain(both.size / union, 2) : "0"} of all (Jaccard)` : "different models: no node can be shared"}</span></div>
    <div class="compare" data-view="compare">${[data, two].map((each) => html`<div key=${each.place}><${Facts} data=${each} /><${CircuitView} data=${each} state=${calm} store=${quiet} marked=${both} /></div>`)}</div>`;
}

function Facts({ data }) {
  const { sizes, losses, title } = data.circuit;
  const report = losses.report || {};
  return html`<p class="caption"><b>${title}</b> ${data.model.name}: ${count(sizes.nodes)} nodes, ${count(sizes.edges)} edges${report.circuit === undefined ? "" : `, report loss ${plain(report.circuit)} (model ${plain(report.model)})`}</p>`;
}
