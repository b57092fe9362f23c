// Checks a bundle against schema.json by the rules that schema.py has; both sides refuse the same things.

export const FORMAT = "sparse-circuits-bundle";
export const VERSION = 1;

const KINDS = {
  object: (value) => value !== null && typeof value === "object" && !Array.isArray(value),
  array: Array.isArray,
  string: (value) => typeof value === "string",
  boolean: (value) => typeof value === "boolean",
  null: (value) => value === null,
  integer: Number.isInteger,
  number: Number.isFinite,
};

// A sentence that says why `value` cannot be shown, or null where it can.
export function refusal(value, schema) {
  if (!KINDS.object(value) || value.format !== FORMAT) {
    return `This is no bundle of circuits: its format must be "${FORMAT}".`;
  }
  if (value.version !== VERSION) {
    const mend = value.version > VERSION ? "open it with a newer sparse-circuits" : "make it again from its circuit";
    return `The bundle has version ${JSON.stringify(value.version)}; this page reads version ${VERSION}: ${mend}.`;
  }
  const problem = firstProblem(value, schema, "bundle", schema.$defs);
  if (problem) return `The bundle breaks its schema: ${problem}.`;
  for (const [place, circuit] of value.circuits.entries()) {
    const where = `The bundle breaks its schema: bundle.circuits[${place}]`;
    if (circuit.model >= value.models.length) return `${where}.model is no model of it.`;
    const count = circuit.nodes.length;
    if (circuit.edges.some(([a, b]) => a >= count || b >= count)) return `${where}.edges name a node it has not.`;
  }
  return null;
}

export function firstProblem(value, given, where, definitions) {
  const rule = given.$ref ? definitions[given.$ref.split("/").pop()] : given;
  if (rule.anyOf) {
    const fits = rule.anyOf.some((each) => firstProblem(value, each, where, definitions) === null);
    return fits ? null : `${where} is none of what it may be`;
  }
  if (rule.type && !KINDS[rule.type](value)) return `${where} is no ${rule.type}`;
  if ("const" in rule && value !== rule.const) return `${where} is not ${JSON.stringify(rule.const)}`;
  if (rule.enum && !rule.enum.includes(value)) return `${where} is none of ${rule.enum.join(", ")}`;
  if ("minimum" in rule && value < rule.minimum) return `${where} is below ${rule.minimum}`;
  if (rule.type === "object") return objectProblem(value, rule, where, definitions);
  if (rule.type === "array") return arrayProblem(value, rule, where, definitions);
  return null;
}

function objectProblem(value, rule, where, definitions) {
  const known = rule.properties || {};
  for (const name of rule.required || []) {
    if (!Object.hasOwn(value, name)) return `${where} lacks "${name}"`;
  }
  for (const name of Object.keys(value)) {
    const each = Object.hasOwn(known, name) ? known[name] : rule.additionalProperties;
    const problem = each ? firstProblem(value[name], each, `${where}.${name}`, definitions) : null;
    if (problem) return problem;
  }
  return null;
}

function arrayProblem(value, rule, where, definitions) {
  if (value.length < (rule.minItems || 0)) return `${where} has ${value.length} items, fewer than ${rule.minItems}`;
  const first = rule.prefixItems || [];
  // Most arrays hold thousands of numbers: these are looked at without making a name for each place.
  if (!first.length && rule.items && (rule.items.type === "number" || rule.items.type === "integer")) {
    const fits = KINDS[rule.items.type];
    const place = value.findIndex((item) => !fits(item));
    return place < 0 ? null : `${where}[${place}] is no ${rule.items.type}`;
  }
  for (let place = 0; place < value.length; place++) {
    const each = place < first.length ? first[place] : rule.items;
    const problem = each ? firstProblem(value[place], each, `${where}[${place}]`, definitions) : null;
    if (problem) return problem;
  }
  return null;
}
