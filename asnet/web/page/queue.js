// The queue of photographs: uploads them, follows their jobs and fetches their results.

import * as api from "./api.js";

const POLL_MILLISECONDS = 250;
const BUSY_MILLISECONDS = 1500;
const JOBS_AT_ONCE = 2; // The next one is uploaded while one is being deblurred.

/** The photographs, in the order in which they were added. */
export const items = [];

let running = 0;
let uploads = Promise.resolve(); // One at a time, so that photographs keep their order.
let largestUpload = Infinity;
let changed = () => {};

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Call a function whenever a photograph changes. */
export function onChange(callback) {
  changed = callback;
}

/** Set the largest upload in bytes. */
export function limitUploads(bytes) {
  largestUpload = bytes;
}

/** Whether a photograph waits or is being deblurred. */
export const isActive = (item) => ["waiting", "sent"].includes(item.state);

function requestForm({ file, name, options }) {
  const form = new FormData();
  form.append("photograph", file, name);
  if (options.source === "file" && options.kernelFile) form.append("kernel", options.kernelFile);
  if (options.source === "line") form.append("line", `${options.length},${options.angle}`);
  if (options.source === "estimate" && options.region) form.append("region", options.region);
  form.append("scale", options.scale);
  form.append("strength", options.strength);
  form.append("denoise", options.denoise);
  return form;
}

/** Deblur a photograph with its options, after those that wait. */
export function start(item) {
  forgetResult(item);
  Object.assign(item, { state: "waiting", status: null, message: "", run: {} });
  if (item.file.size >= largestUpload) fail(item, `the upload is larger than the limit of ${largestUpload / 1e6} megabytes; asnet serve --max-upload raises it`);
  const { source, kernelFile } = item.options;
  if (source === "file" && !kernelFile) fail(item, "choose a blur kernel file first");
  next();
}

/** Start waiting photographs, as many as may run at once. */
function next() {
  for (const item of items) {
    if (running >= JOBS_AT_ONCE) break;
    if (item.state !== "waiting") continue;
    running += 1;
    item.state = "sent";
    const { run } = item;
    deblur(item, run)
      .catch((error) => item.run === run && fail(item, error.message))
      .finally(() => {
        running -= 1;
        next();
      });
  }
  changed();
}

/** Deblur a photograph; its result is dropped once the item has another `run`. */
async function deblur(item, run) {
  const upload = uploads.then(() => submitWithPatience(item, run));
  uploads = upload.catch(() => {});
  let status = await upload;
  const isWanted = () => item.run === run;
  while (isWanted() && ["waiting", "running"].includes(status.state)) {
    item.status = status;
    changed();
    await pause(POLL_MILLISECONDS);
    if (isWanted()) status = await api.status(status.id);
  }
  let blobs = [];
  const names = ["before", "after", "result", "kernel-view.png", "kernel.png", "kernel.npy"];
  if (isWanted() && status.state === "done") {
    blobs = await Promise.all(names.map((name) => api.file(status.id, name)));
  }
  if (status) api.discard(status.id);
  if (!isWanted()) return;
  if (status.state !== "done") throw new Error(status.message ?? "the server cancelled it");
  item.status = status;
  item.result = Object.fromEntries(names.map((name, index) => [name, URL.createObjectURL(blobs[index])]));
  item.state = "done";
  changed();
}

/** Submit, and retry while the server's queue is full; null if it is no longer wanted. */
async function submitWithPatience(item, run) {
  while (item.run === run) {
    try {
      return await api.submit(requestForm(item));
    } catch (error) {
      if (error.status !== 503) throw error;
      await pause(BUSY_MILLISECONDS);
    }
  }
  return null;
}

function fail(item, message) {
  item.state = "failed";
  item.message = message;
  changed();
}

/** Cancel a photograph that waits or is being deblurred. */
export function cancel(item) {
  if (!isActive(item)) return;
  item.run = null;
  item.state = "cancelled";
  if (item.status) api.discard(item.status.id);
  changed();
}

/** Free the result of a photograph. */
export function forgetResult(item) {
  if (item.result) for (const url of Object.values(item.result)) URL.revokeObjectURL(url);
  item.result = null;
}
