// The report card: how far the circuit can be believed, point by point, as the library says it.
import { html } from "./html.js";
import { plain } from "./format.js";
import { verdictClass } from "./nodepanel.js";

const SIGNS = { holds: "●", weak: "◐", fails: "✕", "not measured": "○" };
const POINTS = { 1: "losses", 2: "other ablations", 3: "necessity", 4: "negative controls", 5: "seeds", 6: "agreement with the model", 7: "inside the model", 8: "faithfulness by size", 9: "all masks on" };

// The rows of each point with the point's own verdict.
const pointsOf = (card) => Object.entries(POINTS).map(([point, name]) => ({
  point, name, verdict: card.points[point], rows: card.rows.filter((row) => String(row.point) === point),
}));

const Verdict = ({ verdict }) => html`<span class=${`verdict ${verdictClass(verdict)}`}>${SIGNS[verdict]} ${verdict}</span>`;

// Beside size and loss: the verdict on each point, and the figures that speak against the circuit.
export function CardSummary({ data, store }) {
  const { card } = data.circuit;
  if (!card) return html`<section data-card="none"><h2>Report card</h2><p class="soft">Nobody has measured yet how far this circuit can be believed: <code>sparse-circuits report FOLDER</code> does.</p></section>`;
  return html`<section data-card=${card.verdict}><h2>Report card: <${Verdict} verdict=${card.verdict} /></h2>
    <table><tbody>
      ${pointsOf(card).map(({ point, name, rows, verdict }) => html`<tr data-point=${point}><td>${name}
        ${rows.filter((row) => row.verdict === "fails" || row.verdict === "weak").map((row) => html`<div class="soft" title=${row.sentence}>${row.name}${row.value === null ? "" : `: ${plain(row.value)} ${row.unit}`}</div>`)}</td>
        <td><${Verdict} verdict=${verdict} /></td></tr>`)}
    </tbody></table><p><button onClick=${() => store.set({ view: "card" })}>All its figures</button></p></section>`;
}

export function CardView({ data }) {
  const { card } = data.circuit;
  if (!card) {
    return html`<div class="scroll" tabindex="0" data-view="card"><div class="message"><h2>No report card</h2><p>Nobody has measured yet how far this circuit can be believed. <code>sparse-circuits report FOLDER</code> does, and saves the card beside the circuit; a page made after that shows it here.</p></div></div>`;
  }
  return html`<div class="scroll" tabindex="0" data-view="card">
    <h2><${Verdict} verdict=${card.verdict} /></h2>
    <p>${card.line}</p>
    ${(card.warnings || []).map((warning) => html`<p class="problem">${warning}</p>`)}
    <table><thead><tr><th>figure</th><th class="number">value</th><th class="number">interval</th><th>verdict</th><th>in words</th></tr></thead>
    ${pointsOf(card).map(({ point, name, rows }) => {
      return rows.length > 0 && html`<tbody><tr><th colspan="5">${point}. ${name}</th></tr>
        ${rows.map((row) => html`<tr><td>${row.name}</td><td class="number">${row.value === null ? "–" : `${plain(row.value)} ${row.unit}`}</td>
          <td class="number" title=${row.interval ? row.spans : null}>${row.interval && row.interval[0] !== null ? `${plain(row.interval[0])} to ${plain(row.interval[1])}` : ""}</td>
          <td><${Verdict} verdict=${row.verdict} /></td><td>${row.sentence}</td></tr>`)}</tbody>`;
    })}</table></div>`;
}
