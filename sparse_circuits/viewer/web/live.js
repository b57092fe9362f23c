// The Live view: any prompt, any change to any node, and what it does at once; pruning anew for another target.
import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { ask, text } from "./ask.js";
import { pairName } from "./data.js";
import { percent, plain, signed, visible } from "./format.js";
import { Steer } from "./steer.js";
import { Strip } from "./tokens.js";

export function LiveView({ data, state, store, served, reload, changes, setChanges }) {
  const [steered, setSteered] = useState(false);
  useEffect(() => { if (served) ask("api/status").then((found) => setSteered(found.steer), () => {}); }, []);
  if (!served) {
    return html`<div class="scroll" tabindex="0" data-view="live"><div class="message"><h2>No model behind this page</h2><p>To type prompts and switch nodes off and on, open it with <code>sparse-circuits view FOLDER</code>, where FOLDER is the circuit's.</p></div></div>`;
  }
  return html`<div class="scroll" tabindex="0" data-view="live"><div class="cards live">
    <${Prompt} data=${data} state=${state} store=${store} changes=${changes} setChanges=${setChanges} />
    ${steered && html`<${Steer} data=${data} state=${state} />`}
    <${Reprune} data=${data} store=${store} reload=${reload} /></div></div>`;
}

function Prompt({ data, state, store, changes, setChanges }) {
  const pair = data.circuit.pairs[Math.min(state.pair, data.circuit.pairs.length - 1)];
  const [prompt, setPrompt] = useState(null);
  const [patchFrom, setPatchFrom] = useState(null);
  const [whole, setWhole] = useState(false);
  const [found, setFound] = useState(null);
  const [losses, setLosses] = useState(null);
  const [problem, setProblem] = useState("");
  const [waiting, setWaiting] = useState(true);
  const latest = useRef(0);
  const side = pair.sides[0];
  const list = useMemo(() => Object.entries(changes).map(([node, change]) => ({ node, ...change })), [changes]);
  useEffect(() => {
    const number = ++latest.current;
    setWaiting(true);
    const asked = {
      circuit: data.place, changes: list, whole, answers: [side.right, side.wrong],
      ...(prompt === null ? { tokens: side.tokens } : { prompt }), patch_from: patchFrom ?? text(data.model, pair.sides[1].tokens),
    };
    const timer = setTimeout(async () => {
      const keep = (set) => (answer) => { if (number === latest.current) set(answer); };
      try {
        await Promise.all([ask("api/run", asked).then(keep(setFound)), ask("api/losses", { circuit: data.place, changes: list, whole }).then(keep(setLosses))]);
        keep(setProblem)("");
      } catch (error) {
        keep(setProblem)(error.message);
      }
      keep(setWaiting)(false);
    }, 60);
    return () => clearTimeout(timer);
  }, [data, list, whole, prompt, patchFrom, state.pair]);
  const patching = list.some((change) => change.kind === "patch");
  return html`<section class="span"><h2>A prompt</h2>
    <div class="buttons"><label>from pair <select value=${state.pair} onChange=${(event) => { setPrompt(null); setPatchFrom(null); store.set({ pair: Number(event.target.value) }); }}>${data.circuit.pairs.map((_, index) => html`<option value=${index} selected=${index === state.pair}>${pairName(data, index)}</option>`)}</select></label>
      <button onClick=${() => setPrompt(text(data.model, pair.sides[1].tokens))}>its side B</button></div>
    <textarea class="note mono" aria-label="Prompt" rows="3" value=${prompt ?? text(data.model, side.tokens)} onInput=${(event) => setPrompt(event.target.value)}></textarea>
    ${patching && html`<label>patched values come from<textarea class="note mono" aria-label="Prompt to patch from" value=${patchFrom ?? text(data.model, pair.sides[1].tokens)} onInput=${(event) => setPatchFrom(event.target.value)}></textarea></label>`}
    <${Changes} data=${data} changes=${changes} setChanges=${setChanges} state=${state} />
    <p><label><input type="checkbox" checked=${whole} onChange=${(event) => setWhole(event.target.checked)} /> change the whole model instead of the circuit</label></p>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${found && html`<${Answers} data=${data} found=${found} losses=${losses} waiting=${waiting} node=${data.byId.get(state.node)} />`}</section>`;
}

function Changes({ data, changes, setChanges, state }) {
  const set = (id, change) => {
    const next = { ...changes };
    if (change) next[id] = change;
    else delete next[id];
    setChanges(next);
  };
  const [added, setAdded] = useState("");
  const add = (event) => {
    event.preventDefault();
    if (added.trim()) set(added.trim(), { kind: data.byId.has(added.trim()) ? "off" : "on", value: 0 });
    setAdded("");
  };
  return html`<h3>Changes</h3><table><tbody>${Object.entries(changes).map(([id, change]) => html`<tr key=${id}><td class="mono">${id}</td>
      <td><select aria-label=${`What to do with ${id}`} value=${change.kind} onChange=${(event) => set(id, { ...change, kind: event.target.value })}>${["off", "on", "scale", "set", "patch"].map((kind) => html`<option value=${kind} selected=${kind === change.kind}>${{ off: "switch off", on: "switch on", scale: "scale by", set: "set to", patch: "patch" }[kind]}</option>`)}</select></td>
      <td>${(change.kind === "scale" || change.kind === "set") && html`<input type="range" aria-label=${`Value for ${id}`} min="-8" max="8" step="0.1" value=${change.value} onInput=${(event) => set(id, { ...change, value: Number(event.target.value) })} /> <span class="number">${signed(change.value, 2)}</span>`}</td>
      <td><button aria-label=${`Undo the change of ${id}`} onClick=${() => set(id, null)}>undo</button></td></tr>`)}</tbody></table>
    <form class="buttons" onSubmit=${add}>${data.byId.has(state.node) && !changes[state.node] && html`<button type="button" data-switch onClick=${() => set(state.node, { kind: "off", value: 0 })}>Switch off ${state.node}</button>`}
      <input class="mono" size="24" aria-label="Any node of the model" placeholder="any node, e.g. 0.attn.q:3" value=${added} onInput=${(event) => setAdded(event.target.value)} /><button disabled=${!added.trim()}>Add</button>
      ${Object.keys(changes).length > 0 && html`<button type="button" onClick=${() => setChanges({})}>Undo all</button>`}</form>
    <p class="soft">Open a node in the Circuit view and switch it off here; what is off is drawn faint there.</p>`;
}

function Answers({ data, found, losses, waiting, node }) {
  const name = (token) => (token < 0 ? "anything else" : visible(data.model.tokens[token]));
  const rows = ["model", "circuit", "changed"];
  const scale = node ? Math.max(1e-9, ...rows.flatMap((key) => found[key].values[node.index].map(Math.abs))) : 0;
  return html`<table data-live aria-busy=${waiting}><thead><tr><th></th><th class="number">p(${name(found.right)}) of the two</th><th class="number">logits</th><th>most probable next</th>${losses && html`<th class="number">loss on ${losses.pairs} pairs</th>`}</tr></thead><tbody>
    ${rows.map((key) => html`<tr><td>${key === "changed" ? html`<b>changed</b>` : key}</td><td class="number" data-right=${key}>${percent(Math.exp(-found[key].loss))}</td><td class="number">${signed(found[key].right)} / ${signed(found[key].wrong)}</td>
      <td>${found[key].top.slice(0, 5).map(([token, p]) => html`<span class="token">${visible(data.model.tokens[token])}</span> <span class="soft">${percent(p)}</span>  `)}</td>${losses && html`<td class="number" data-loss=${key}>${plain(losses[key])}</td>`}</tr>`)}</tbody></table>
    ${node && html`<h3>${node.id} at each token</h3>${rows.map((key) => html`<div class="part"><span>${key}</span></div><${Strip} model=${data.model} tokens=${found.tokens} values=${found[key].values[node.index]} scale=${scale} />`)}`}
    ${!node && html`<p class="soft">Open a node to see its values here.</p>`}`;
}

function Reprune({ data, store, reload }) {
  const [target, setTarget] = useState(data.circuit.config.target_loss ?? 0.15);
  const [jobs, setJobs] = useState([]);
  const [problem, setProblem] = useState("");
  const look = async () => {
    try {
      const { jobs: found } = await ask("api/status");
      setJobs(found);
      setProblem("");
      return found.some((job) => job.state === "waiting" || job.state === "running");
    } catch (error) {
      setProblem(error.message);
      return false;
    }
  };
  useEffect(() => {
    let timer = 0;
    const turn = async () => {
      if (await look()) timer = setTimeout(turn, 700);
    };
    turn();
    return () => clearTimeout(timer);
  }, [jobs.length]);
  const act = (path, body) => async () => {
    try {
      await ask(path, body);
      await look();
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<section><h2>Prune again</h2><p><label>target loss <input type="number" min="0.001" max="2" step="0.01" value=${target} onInput=${(event) => setTarget(Number(event.target.value))} /></label> <button onClick=${act("api/prune", { circuit: data.place, target_loss: target })}>Prune</button></p>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${jobs.map((job) => html`<p data-job=${job.number}><b>${job.title}</b> ${job.state}${job.state === "running" ? `: ${job.stage} ${job.done} of ${job.total}` : ""} ${job.error}
      ${job.state === "running" && html`<progress aria-label=${job.title} max=${job.total || 1} value=${job.done}></progress>`}
      ${(job.state === "running" || job.state === "waiting") && html`<button onClick=${act("api/cancel", { job: job.number })}>Cancel</button>`}
      ${job.state === "done" && html`<button onClick=${async () => { await reload(); store.set({ circuit: job.result.circuit, view: "circuit", node: null, zoom: null }); }}>Show its ${job.result.nodes} nodes</button> <span class="soft">${job.result.folder && `saved to ${job.result.folder}`}</span>`}</p>`)}
    <p class="soft">It works in the background, one job at a time, with this circuit's settings and scores to start from.</p></section>`;
}
