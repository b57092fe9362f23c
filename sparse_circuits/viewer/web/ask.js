// Questions to the server behind the page.

// A question to the server; what it refuses, and its silence, become an Error with a sentence.
export async function ask(path, body) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer; it may have been stopped. Start `sparse-circuits view` again and reload.");
  }
  const found = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
  if (!response.ok) throw new Error(found.error || `The server answered ${response.status}.`);
  return found;
}

// The text of tokens, with what they escape written out.
export const text = (model, tokens) => tokens.map((token) => model.tokens[token].replace(/\\n/g, "\n").replace(/\\t/g, "\t").replace(/\\r/g, "\r").replace(/\\\\/g, "\\")).join("");
