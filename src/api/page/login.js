// Who is logged in, and the form for those who are not. Nothing else of the page begins before.

import { act, ask } from "./stream.js";
import { say } from "./text.js";

const RETRY = 2000;

const find = (id) => document.getElementById(id);

/** Resolves when somebody may be shown the hub: at once where nobody logs in. */
export async function entered() {
  let session = null;
  while (!session) {
    session = await ask("/api/v1/session").catch(() => pause(RETRY));
  }
  if (!session.user) {
    return new Promise((resolve) => offer(resolve));
  }
  show(session);
}

function pause(time) {
  return new Promise((resolve) => setTimeout(() => resolve(null), time));
}

/** Shows the form again when the session has ended. */
export async function leftOut() {
  // A hub that does not answer at all is no reason to log in anew.
  const session = await ask("/api/v1/session").catch(() => null);
  if (session && !session.user) {
    location.reload();
  }
}

function show(session) {
  find("login").hidden = true;
  document.body.removeAttribute("data-out");
  find("who").hidden = !session.log_in;
  say(find("user"), session.user);
  find("user").title = session.roles.join(", ");
}

function offer(resolve) {
  const form = find("login");
  const problem = find("login-problem");
  form.hidden = false;
  document.body.setAttribute("data-out", "");
  say(find("link"), "not logged in");
  form.elements.user.focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { user, password, code, send } = form.elements;
    const body = { user: user.value, password: password.value };
    if (code.value.trim()) {
      body.code = code.value.trim();
    }
    send.disabled = true;
    try {
      const session = await act("/api/v1/login", body);
      form.reset();
      problem.hidden = true;
      show(session);
      resolve();
    } catch (error) {
      say(problem, error.message);
      problem.hidden = false;
      code.value = "";
      password.select();
    } finally {
      send.disabled = false;
    }
  });
}

find("logout").addEventListener("click", async () => {
  await act("/api/v1/logout", {}).catch(() => {});
  location.reload();
});
