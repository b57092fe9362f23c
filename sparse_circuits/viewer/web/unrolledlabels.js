// Where the numbers of the Unrolled view's lines stand: each on its own line, none over another number, a node or a
// name. The strongest weights come first; one that finds no room is left out, and is told where its line is pointed at.
import { signed } from "./format.js";
import { PILL } from "./unrolledlayout.js";

const CHARACTER = 5.3; // of the numbers' font
const HEIGHT = 11;
const MOST = 500; // lines that are tried
// Along the line, the middle first.
const PLACES = [0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73, 0.8, 0.2, 0.87, 0.14];

// By edge, the middle of its number's baseline.
export function placeNumbers(scene, edges) {
  const taken = obstacles(scene);
  const found = new Map();
  for (const edge of [...edges].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, MOST)) {
    const width = CHARACTER * signed(edge.weight, 2).length + 5;
    for (const t of PLACES) {
      const at = along(edge, t);
      const box = { left: at.x - width / 2, right: at.x + width / 2, top: at.y - HEIGHT / 2, bottom: at.y + HEIGHT / 2 };
      if (taken.some((other) => overlap(box, other))) continue;
      taken.push(box);
      found.set(edge, { x: at.x, y: at.y + 3.2 });
      break;
    }
  }
  return found;
}

// A point of the line from `from` up to `to`, as it is drawn: a cubic with its handles straight above and below.
function along({ from, to }, t) {
  const bend = 3 * t * t - 2 * t * t * t;
  return { x: from.x + (to.x - from.x) * bend, y: from.y + (to.y - from.y) * (1.5 * t * (1 - t) + t * t * t) };
}

const around = (x, y, width, height) => ({ left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 });

function obstacles(scene) {
  return [
    ...scene.nodes.map((each) => (each.pill ? around(each.x, each.y, PILL.width, PILL.height) : around(each.x, each.y, 10, 10))),
    ...scene.boxes.map((box) => ({ left: box.x, right: box.x + 46, top: box.y, bottom: box.y + 13 })),
    ...scene.arrivals.map((each) => around(each.x + 30, each.y + 6, 84, 24)),
    ...scene.arcs.map(({ label }) => around(label.x + (label.anchor === "start" ? 36 : -36), label.y - 4, 76, 12)),
  ];
}

const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
