// The server's API. What fails is an Error whose message is a sentence.

/** Say whether an answer of the server is good, and throw its sentence if it is not. */
async function checked(response) {
  if (response.ok) return response;
  let sentence = `the server answered ${response.status}`;
  try {
    sentence = (await response.json()).detail;
  } catch {
    // Not an answer of asnet's: the number says what can be said.
  }
  const error = new Error(sentence);
  error.status = response.status;
  throw error;
}

/** Ask the server, and say in a sentence if it cannot be reached. */
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; is asnet serve still running?");
  }
  return checked(response);
}

/** What the server takes: {upload_bytes, pixels, ...}. */
export async function limits() {
  return (await ask("api")).json();
}

/** Let a photograph wait for being deblurred; returns its status. */
export async function submit(form) {
  await checkReadable(form);
  return (await ask("api/jobs", { method: "POST", body: form })).json();
}

/** Say which file cannot be read: fetch would fail as if the server were gone. */
async function checkReadable(form) {
  for (const value of form.values()) {
    if (!(value instanceof File)) continue;
    try {
      await value.slice(0, 1).arrayBuffer();
    } catch {
      throw new Error(`${value.name} cannot be read; it may be a folder, or have been moved or changed`);
    }
  }
}

export async function status(id) {
  return (await ask(`api/jobs/${id}`)).json();
}

export async function file(id, name) {
  return (await ask(`api/jobs/${id}/${name}`)).blob();
}

/** Cancel a deblurring and delete its files; also while the page is being left. */
export function discard(id) {
  return fetch(`api/jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

export function linePicture(length, angle) {
  return `api/line.png?length=${encodeURIComponent(length)}&angle=${encodeURIComponent(angle)}`;
}
