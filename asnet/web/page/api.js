// The server's API. Failures are Errors whose message is a sentence.

/** Return a successful response of the server; throw its sentence otherwise. */
async function checked(response) {
  if (response.ok) return response;
  let sentence = `the server answered ${response.status}`;
  try {
    sentence = (await response.json()).detail;
  } catch {
    // Not a response of asnet: only its number is known.
  }
  const error = new Error(sentence);
  error.status = response.status;
  throw error;
}

/** Send a request; throw a sentence if the server cannot be reached. */
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; is asnet serve still running?");
  }
  return checked(response);
}

/** Limits of the server: {upload_bytes, pixels, ...}. */
export async function limits() {
  return (await ask("api")).json();
}

/** Queue a photograph; returns its status. */
export async function submit(form) {
  await checkReadable(form);
  return (await ask("api/jobs", { method: "POST", body: form })).json();
}

/** Name the file that cannot be read: fetch would fail as if the server were unreachable. */
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

/** Cancel a job and delete its files, even while the page is being closed. */
export function discard(id) {
  return fetch(`api/jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

export function linePicture(length, angle) {
  return `api/line.png?length=${encodeURIComponent(length)}&angle=${encodeURIComponent(angle)}`;
}
