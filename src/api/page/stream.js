// The stream of events, with a watchdog: the hub speaks every second, so silence means that the
// connection is lost, whatever the browser believes.

const SILENCE = 4000;
const LONGEST_WAIT = 8000;

/** Listens to `address`. `on` has a function for each event; `state` is told how the link is. */
export function listen(address, on, state) {
  let source = null;
  let watchdog = 0;
  let wait = 1000;

  function heard() {
    clearTimeout(watchdog);
    watchdog = setTimeout(lost, SILENCE);
    wait = 1000;
  }

  function connect() {
    source = new EventSource(address);
    watchdog = setTimeout(lost, SILENCE + wait);
    for (const [name, act] of Object.entries(on)) {
      source.addEventListener(name, (event) => {
        heard();
        act(JSON.parse(event.data));
        state({ live: true });
      });
    }
    source.addEventListener("error", lost);
  }

  function lost() {
    clearTimeout(watchdog);
    source.close();
    state({ live: false, retryAt: Date.now() + wait });
    setTimeout(connect, wait);
    wait = Math.min(LONGEST_WAIT, wait * 2);
  }

  connect();
}

/** Asks the hub; the answer's JSON, or an error with the hub's own words. */
export async function ask(address) {
  return read(await fetch(address, { headers: { accept: "application/json" } }));
}

/** Asks the hub to do something; the answer's JSON, or an error with the hub's own words. */
export async function act(address, body) {
  const headers = { accept: "application/json", "content-type": "application/json" };
  return read(await fetch(address, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function read(response) {
  const body = await response.json();
  if (!response.ok) {
    const error = new Error(body.detail ?? response.statusText);
    error.wait = Number(response.headers.get("retry-after")) || 0;
    throw error;
  }
  return body;
}

/** Does `work` every `period` ms while the page is seen, never twice at a time. */
export function repeat(period, work) {
  async function turn() {
    if (!document.hidden) {
      // A failed turn shows in the link's state; the next one tries again.
      await work().catch(() => {});
    }
    setTimeout(turn, period);
  }
  turn();
}
